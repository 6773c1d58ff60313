"""Records of shards in words: the tokens with the highest losses, and where a record comes from."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from glmprep import entries
from glmprep.errors import InputError
from glmprep.shards import LEDGER, Rows
from glmprep.tokenizer import Tokenizer
from glmtrain import vocabulary
from glmtrain.data import TrainingData

from glmdiag.replay.replayed import Token

TOP = 5  # tokens of a record
AROUND = 12  # tokens shown on each side of one
OPEN, CLOSE = "⟦", "⟧"  # put around what is trained, as in `labels`


def told(
    rows: Rows,
    place: int,
    losses: Sequence[float],
    words: Tokenizer | None,
    start: int | None = None,
) -> dict[str, Any]:
    """`worst`, `start` and `excerpt` of a record.

    losses: those of the labels, in their order. words: the tokenizer, None where it is not at hand.
    start: the token to show the text around, else that with the highest loss.
    """
    begin, end = int(rows.offsets[place]), int(rows.offsets[place + 1])
    labels = begin + np.flatnonzero(rows.loss_mask[begin:end])
    ranked = sorted(zip(losses, labels.tolist(), strict=True), key=_unsound_first)

    def token(at: int, loss: float | None = None) -> Token:
        return Token(place=at - begin, text=_text(rows, slice(at, at + 1), words), loss=loss)

    middle = ranked[0][1] if start is None else begin + start
    around = slice(max(begin, middle - AROUND), min(end, middle + AROUND + 1))
    return {
        "worst": [token(at, loss) for loss, at in ranked[:TOP]],
        "start": None if start is None else token(begin + start),
        "excerpt": marked(rows, around, words),
    }


def _unsound_first(pair: tuple[float, int]) -> tuple[float, int]:
    loss, place = pair
    return (-loss if math.isfinite(loss) else -math.inf), place


def marked(rows: Rows, around: slice, words: Tokenizer | None) -> str:
    """Tokens in words, trained stretches in brackets; ids where the words are not at hand."""
    trained = rows.loss_mask[around] == 1
    bounds = [0, *(np.flatnonzero(np.diff(trained)) + 1).tolist(), len(trained)]
    pieces = []
    for first, end in pairwise(bounds):
        text = _text(rows, slice(around.start + first, around.start + end), words)
        pieces.append(f"{OPEN}{text}{CLOSE}" if trained[first] else text)
    return ("" if words else " ").join(pieces)


def _text(rows: Rows, places: slice, words: Tokenizer | None) -> str:
    ids = rows.input_ids[places].tolist()
    return " ".join(map(str, ids)) if words is None else words.decode(ids)


def words_of(data: TrainingData, model: str, asked: str | None) -> Tokenizer | None:
    """The tokenizer that made the shards, None where it is not at hand."""
    made = data.manifests[0]
    places = [asked] if asked else vocabulary.at_hand(model)
    return vocabulary.find(places, made.tokenizer["sha256"], made.added_ids)


def folder(data: TrainingData, row: int) -> tuple[Path, int]:
    """The shard folder that holds a row, and its number there."""
    counts = np.cumsum([0, *(sum(int(f["rows"]) for f in m.files) for m in data.manifests)])
    place = int(np.searchsorted(counts, row, "right")) - 1
    return data.sources[place].folder, row - int(counts[place])


def origins(data: TrainingData, rows: Sequence[int]) -> dict[str, str]:
    """Where the conversations of some rows come from, as far as the ledgers tell."""
    wanted = {name for row in rows for name in data.rows.conversation_ids[row]}
    found: dict[str, str] = {}
    for each in sorted({folder(data, row)[0] for row in rows}):
        found |= dict(_ledger(each, wanted))
    return found


def _ledger(folder: Path, wanted: set[str]) -> Iterator[tuple[str, str]]:
    """Conversations with their file and line; a segment's name ends in #NUMBER."""
    whole = {name: name for name in wanted} | {n.rpartition("#")[0]: n for n in wanted if "#" in n}
    try:
        lines = entries.read(folder / LEDGER, entries.COMMON)
    except InputError:  # shards need no ledger
        return
    kept = lines.filter(lines["conversation"].is_in(list(whole)))
    for name, file, line in kept.select("conversation", "file", "line").iter_rows():
        for each in wanted:
            if name in (each, each.rpartition("#")[0]):
                yield each, f"{file}:{line}"
