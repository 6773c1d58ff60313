"""The tokenizer that goes with a model or with data, and the tokens that were added to it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from glmprep import tokenizer as tokenizers
from glmprep.tokenizer import EMBEDDED, FILES, Tokenizer, read_json

RECORDS = ("run.json", "merged.json")  # as in `output` and `merging`, which need this module


def trained_with(path: str) -> dict[str, int]:
    """The added tokens that a whole model was trained with, by their ids.

    That is what the run or the merge tells that it comes from; none of any other model.
    """
    found: dict[str, int] = {}
    for name in RECORDS:
        listed = read_json(Path(path) / name).get("added_tokens")
        if isinstance(listed, dict):
            found |= {text: x for text, x in listed.items() if text and isinstance(x, int)}
    return found


def at_hand(*folders: str) -> list[str]:
    """Where a tokenizer is: those of a model's folders that hold one, and the embedded one."""
    own = [folder for folder in folders if any((Path(folder) / name).is_file() for name in FILES)]
    return [*own, EMBEDDED]


def load(place: str, added: Iterable[str] = ()) -> Tokenizer:
    """A tokenizer with texts that are tokens; raises InputError where there is none."""
    return tokenizers.load(place).adding(dict.fromkeys(added, ""))


def find(places: Sequence[str], sha256: str, added: Iterable[str]) -> Tokenizer | None:
    """The first of several that with the added texts has this fingerprint, None without one."""
    loaded = (load(place, added) for place in places)
    return next((found for found in loaded if found.fingerprint == sha256), None)
