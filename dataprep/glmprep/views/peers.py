"""The names of trainers and of their rules, on every page that compares them."""

from __future__ import annotations

from glmreport.text import Literal, Text

PRODUCTS = {
    "glmprep": "glmprep",
    "segment": "glmprep segment",
    "llamafactory": "LLaMA-Factory",
    "trl": "TRL",
    "axolotl": "axolotl",
    "swift_delete": "ms-swift delete",
    "swift_left": "ms-swift left",
    "swift_right": "ms-swift right",
}
"""Names that are the same in every language."""


def named(name: str, group: str) -> Text | Literal:
    """A trainer or rule by its name; where it has words, by the entry of `group`."""
    return Literal(PRODUCTS[name]) if name in PRODUCTS else Text(f"{group}.{name}")
