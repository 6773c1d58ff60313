"""What a text is about, as hashes: words by their beginning, and pairs of ideographs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from glmprep.text.hashing import GOLDEN, UInt64, mix

Int64 = npt.NDArray[np.int64]
Codes = npt.NDArray[np.uint32]
STEM = 6
"""Letters that count of a word, so that `photograph` and `photographs` are one."""
LEAST = 3
"""Letters of the shortest word that counts."""
LONGEST = 4000
"""Characters of a text that are read."""


def features(texts: Sequence[str]) -> tuple[Int64, npt.NDArray[np.uint32]]:
    """The different features of the texts: which text each is in, and its 32-bit hash."""
    text, found = occurrences([text[:LONGEST] for text in texts])
    keys = (text.astype(np.uint64) << np.uint64(32)) | (found >> np.uint64(32))
    keys.sort()
    keys = keys[np.append(True, keys[1:] != keys[:-1])[: len(keys)]]
    return (keys >> np.uint64(32)).astype(np.int64), keys.astype(np.uint32)


def occurrences(texts: Sequence[str], least: int = LEAST) -> tuple[Int64, UInt64]:
    """Each feature of the texts as often as it occurs: which text it is in, and its hash.

    Letters and digits make words, of `least` or more; in Chinese, Japanese and Korean each two
    neighbouring characters count, since words are not told apart there.
    """
    read = [text.lower() + "\0" for text in texts]
    codes = np.frombuffer("".join([*read, "\0" * STEM]).encode("utf-32-le", "replace"), np.uint32)
    text = np.repeat(np.arange(len(texts)), [len(one) for one in read])
    word_at, words = _words(codes, least)
    pair_at, pairs = _pairs(codes)
    return text[np.concatenate((word_at, pair_at))], np.concatenate((words, pairs))


def _words(codes: Codes, least: int) -> tuple[Int64, UInt64]:
    """Where the words begin, and hashes of their first letters."""
    letter = (codes >= 0x61) & (codes <= 0x7A) | (codes >= 0x30) & (codes <= 0x39)
    letter |= (codes >= 0xC0) & (codes < 0x2000)
    begins = letter.copy()
    begins[1:] &= ~letter[:-1]
    at = np.flatnonzero(begins)
    at = at[np.logical_and.reduce([letter[at + place] for place in range(least)])]
    found = np.zeros(len(at), np.uint64)
    inside = np.ones(len(at), np.bool_)
    for place in range(STEM):
        inside &= letter[at + place]
        found = np.where(inside, mix(found + codes[at + place] * GOLDEN), found)
    return at, found


def _pairs(codes: Codes) -> tuple[Int64, UInt64]:
    """Where two ideographs, kana or syllables stand together, and hashes of them."""
    wide = (codes >= 0x3041) & (codes < 0xFF00) | (codes >= 0x20000)
    at = np.flatnonzero(wide[:-1] & wide[1:])
    packed = (codes[at].astype(np.uint64) << np.uint64(21)) | codes[at + 1]
    return at, mix(packed)
