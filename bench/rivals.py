"""Other ways to cut a meeting in so many segments, which `bench/segment.py` compares with."""

from __future__ import annotations

import importlib
import re

import numpy as np
import numpy.typing as npt
from glmprep.segmenters.commonwords import ENGLISH
from glmprep.segmenters.greedy import greedy
from glmprep.segmenters.pieces import pieces
from glmprep.segmenters.stretch import Int64
from glmprep.semantics.embedder import Embedder
from meetings import Meeting

SEED = 0
IDEOGRAPHS = re.compile(r"[\u3400-\u9fff]+")
Segments = list[int]


def least_limit(meeting: Meeting, count: int) -> int:
    """The smallest limit at which `greedy` makes at most `count` segments."""
    low, high = int(meeting.tokens.max()), int(meeting.tokens.sum())
    while low < high:
        middle = (low + high) // 2
        if len(greedy(meeting.stretch(middle))) <= count:
            high = middle
        else:
            low = middle + 1
    return low


def random(meeting: Meeting, count: int, draw: int) -> Segments:
    """Cuts at any turns."""
    places = np.random.default_rng((SEED, draw)).choice(len(meeting) - 1, count - 1, replace=False)
    return [0, *sorted((places + 1).tolist())]


def even(meeting: Meeting, count: int) -> Segments:
    """Cuts at the turns nearest to equal shares of the tokens."""
    sums = np.append(0, np.cumsum(meeting.tokens))
    shares = sums[-1] * np.arange(1, count) / count
    turns = np.abs(sums[1:-1] - shares[:, None]).argmin(axis=1) + 1
    return [0, *sorted(set(turns.tolist()))]


def texttiling(meeting: Meeting, count: int) -> Segments:
    """Cuts at the turns nearest to the deepest gaps of nltk's TextTiling (Hearst 1997).

    It reads words of a to z only, so each two ideographs are spelt as one; its stop words are those
    of this suite, since its own would have to be downloaded. `nltk` has to be installed.
    """
    module = importlib.import_module("nltk.tokenize.texttiling")
    tiling = module.TextTilingTokenizer(stopwords=set(ENGLISH.split()), demo_mode=True)
    texts = [_spelt(text) for text in meeting.texts]
    words = np.cumsum([len(re.findall(r"\w+", re.sub(r"[^a-z\-' \n\t]", "", t))) for t in texts])
    _, _, depths, _ = tiling.tokenize("\n\n".join(texts))
    gaps = (np.arange(len(depths)) + 1) * tiling.w
    turns = np.abs(words[:-1] - gaps[:, None]).argmin(axis=1) + 1
    return _highest(turns, np.asarray(depths), count)


def percentile(meeting: Meeting, count: int, embedder: Embedder) -> Segments:
    """Cuts where neighbouring windows are furthest apart, as semantic chunkers of LangChain do.

    Their threshold is a percentile of the distances; here it is the one that gives `count`.
    """
    number, texts = pieces(meeting.stretch(1))
    vectors = embedder.comparable(texts)
    distances = 1 - np.einsum("nd,nd->n", vectors[:-1], vectors[1:])
    return _highest(np.searchsorted(number, np.arange(1, len(texts))), distances, count)


def _spelt(text: str) -> str:
    """The text in small letters, each two neighbouring ideographs as a word of a to z."""

    def spell(found: re.Match[str]) -> str:
        run = found.group()
        return " ".join("".join(map(_letters, run[at : at + 2])) for at in range(len(run) - 1))

    return IDEOGRAPHS.sub(spell, text.lower())


def _letters(ideograph: str) -> str:
    code, letters = ord(ideograph), ""
    for _ in range(4):
        code, place = divmod(code, 26)
        letters += chr(ord("a") + place)
    return letters


def _highest(turns: Int64, scores: npt.NDArray[np.floating], count: int) -> Segments:
    """The `count - 1` different turns with the highest scores, and the first turn."""
    ranked = dict.fromkeys(turns[np.argsort(-scores, kind="stable")].tolist())
    return [0, *sorted(list(ranked)[: count - 1])]
