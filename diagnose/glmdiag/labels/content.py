"""What the rows say: answers that stand in their prompt, rows like their neighbours, noise.

Each looks at a sample of bounded size, so that a large set takes no longer than a small one.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import pairwise
from math import sqrt

import numpy as np
import numpy.typing as npt
from glmprep.tokenizer import Tokenizer

from glmdiag.labels.apart import Int32, Int64, Labels

MOST_ANSWERS = 4096
LEAST_TOKENS = 8
"""Shorter answers (yes, a name, a number) stand in many a prompt by rights."""
BORDER = 2
"""Tokens at both ends of an answer that are other ones where other text is around them."""
MOST_ROWS, MOST_TOKENS = 512, 2048
"""Rows that are looked at, and tokens of each."""
LEAST_WORDS = 100
"""Tokens of a row from which the share of common ones says anything."""
SAMPLES = ("counselling", "meetings", "toolcalls")
SAMPLED, COMMON = 1 << 16, 100
"""Bytes of each embedded sample, and how many of its tokens are called common: marks, and words
such as `the` and `的`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """Answers that were looked at, and where those begin that stand in their prompt as a whole."""

    looked: int
    found: Int64


def told_before(labels: Labels) -> Told:
    """Answers whose tokens stand in the text before, one after the other, borders left out."""
    ids, segments = np.ascontiguousarray(labels.rows.input_ids, dtype=np.int32), labels.segments
    starts, ends = labels.run_starts, labels.run_ends
    stopped = np.isin(ids[ends], labels.closers)
    lengths = ends - starts + 1 - stopped
    long = np.flatnonzero(lengths >= LEAST_TOKENS + 2 * BORDER)[:MOST_ANSWERS]
    begins = segments[np.searchsorted(segments, starts[long], "right") - 1]
    found = [
        int(starts[run])
        for run, begin in zip(long, begins, strict=True)
        if _stands_in(
            ids[starts[run] + BORDER : starts[run] + lengths[run] - BORDER],
            ids[begin : starts[run]],
        )
    ]
    return Told(looked=len(long), found=np.array(found, dtype=np.int64))


def _stands_in(answer: Int32, prompt: Int32) -> bool:
    """Whether the ids stand in the prompt, one after the other: their bytes, at whole ids."""
    text, wanted, place = prompt.tobytes(), answer.tobytes(), -1
    while (place := text.find(wanted, place + 1)) >= 0:
        if place % answer.itemsize == 0:
            return True
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Alike:
    """Likeness of rows (shared ids over all ids, Jaccard): neighbours, any two, and how certain.

    `deviations` is the distance of both in standard errors.
    """

    neighbours: float
    others: float
    deviations: float


def alike(labels: Labels) -> Alike | None:
    """Whether rows that follow each other are more alike than any two; None for too few."""
    rows = [set(ids.tolist()) for ids in _rows(labels)]
    if len(rows) < 16:
        return None
    shuffled = np.random.default_rng(0).permutation(len(rows))
    near = [_jaccard(a, b) for a, b in pairwise(rows)]
    far = [_jaccard(rows[a], rows[b]) for a, b in pairwise(shuffled)]
    error = sqrt((float(np.var(near)) + float(np.var(far))) / len(near))
    between = float(np.mean(near) - np.mean(far))
    return Alike(
        neighbours=float(np.mean(near)),
        others=float(np.mean(far)),
        deviations=between / error if error else 0.0,
    )


def _jaccard(one: set[int], other: set[int]) -> float:
    return len(one & other) / max(1, len(one | other))


@dataclass(frozen=True, slots=True, kw_only=True)
class Common:
    """Share of the tokens that are common in text, of each row long enough and where it begins."""

    rows: npt.NDArray[np.float64]
    places: Int64

    @property
    def all(self) -> float:
        """The mean over the rows."""
        return float(self.rows.mean()) if len(self.rows) else 1.0


def common_words(labels: Labels) -> Common:
    """How much of each row is words and marks that every text has.

    Between a quarter and a half in Chinese, English and JSON; next to nothing where ids are at
    random, or mean the words of another vocabulary.
    """
    common = _common(labels.tokenizer)
    shares, places = [], []
    for row, ids in enumerate(_rows(labels)):
        words = [token for token in ids.tolist() if not labels.tokenizer.is_added(token)]
        if len(words) >= LEAST_WORDS:
            shares.append(float(np.isin(words, common).mean()))
            places.append(int(labels.rows.offsets[row]))
    return Common(rows=np.array(shares), places=np.array(places, dtype=np.int64))


@cache
def _common(tokenizer: Tokenizer) -> Int64:
    """The ids that the embedded samples have most of."""
    folder = resources.files("glmprep") / "assets" / "samples"
    texts = [gzip.decompress((folder / f"{name}.jsonl.gz").read_bytes()) for name in SAMPLES]
    ids, _ = tokenizer.encode_batch([text[:SAMPLED].decode("utf-8", "replace") for text in texts])
    found, counts = np.unique(ids, return_counts=True)
    return found[np.argsort(-counts)[:COMMON]].astype(np.int64)


def _rows(labels: Labels) -> list[Int32]:
    borders = pairwise(labels.rows.offsets[: MOST_ROWS + 1])
    return [labels.rows.input_ids[a : min(b, a + MOST_TOKENS)] for a, b in borders]
