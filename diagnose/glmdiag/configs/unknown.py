"""Keys that a trainer does not know, with the one that was probably meant."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from glmdiag.configs.record import Oddity

if TYPE_CHECKING:
    from glmdiag.configs.reader import Reader

CLOSE = 0.8


@cache
def listed(*names: str) -> frozenset[str]:
    """Keys by the names of their lists in known.toml."""
    text = resources.files("glmdiag.configs").joinpath("known.toml").read_text(encoding="utf-8")
    lists = tomllib.loads(text)
    return frozenset(key for name in names for key in lists[name]["keys"].split())


def unknown(reader: Reader) -> Iterator[Oddity]:
    """Keys of a document that its format does not have."""
    known = reader.format.known()
    if not known:
        return
    for key in _leaves(reader.get(""), "", known, reader.format.open_tables):
        if key not in known and not key.rpartition(".")[2].startswith("_"):
            near = difflib.get_close_matches(key, known, n=1, cutoff=CLOSE)
            yield Oddity(kind="unknown", said=reader.where(key), near=near[0] if near else "")


def _leaves(tree: Any, above: str, known: frozenset[str], opened: frozenset[str]) -> Iterator[str]:
    """Dotted keys of all values; a table is gone into where keys below it are known."""
    for name, value in tree.items():
        key = f"{above}{name}"
        inside = any(each.startswith(f"{key}.") for each in known)
        if isinstance(value, Mapping) and inside and key not in opened:
            yield from _leaves(value, f"{key}.", known, opened)
        else:
            yield key
