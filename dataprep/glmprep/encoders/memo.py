"""Long texts that come again, such as lists of tools, are encoded once.

It is for the reference: fastokens encodes a text as quickly as it is looked up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from glmprep.encoders import Encoder, Flat

Int32 = npt.NDArray[np.int32]
LONG = 512
"""Characters from which a text is looked up; for a shorter one that costs as much as encoding."""
LARGEST = 16 << 20
"""Bytes of texts and ids that are kept, about."""


class Memo:
    """An encoder that keeps the ids of long texts, up to `largest` bytes; the last used stay."""

    def __init__(self, encoder: Encoder, largest: int = LARGEST) -> None:
        self._encoder = encoder
        self._largest = largest
        self._bytes = 0
        self._kept: dict[str, Int32] = {}

    @property
    def name(self) -> str:
        """The library that encodes."""
        return self._encoder.name

    def encode(self, texts: Sequence[str]) -> Flat:
        """Ids of all texts, one after the other, and the number of ids of each text."""
        again: list[int] = []
        new: dict[str, int] = {}  # and its place among the texts to encode
        for place, text in enumerate(texts):
            if len(text) >= LONG:
                if text in self._kept or text in new:
                    again.append(place)
                else:
                    new[text] = place - len(again)
        if not again and not new:
            return self._encoder.encode(texts)
        skipped = set(again)
        ids, lengths = self._encoder.encode(
            [text for place, text in enumerate(texts) if place not in skipped]
        )
        starts = np.concatenate([[0], np.cumsum(lengths)])
        found = {text: ids[starts[place] : starts[place + 1]] for text, place in new.items()}
        found |= {
            texts[place]: self._kept[texts[place]] for place in again if texts[place] not in new
        }
        self._keep(found)
        return _filled(ids, lengths, starts, [(place, found[texts[place]]) for place in again])

    def _keep(self, found: Mapping[str, Int32]) -> None:
        for text, ids in found.items():
            kept = self._kept.pop(text, None)  # and put back as the last used
            if kept is None:
                kept = ids.copy()  # the batch is not kept with it
                self._bytes += _size(text, kept)
            self._kept[text] = kept
        while self._bytes > self._largest:
            text = next(iter(self._kept))
            self._bytes -= _size(text, self._kept.pop(text))


def _size(text: str, ids: Int32) -> int:
    return text.__sizeof__() + ids.nbytes


def _filled(
    ids: Int32,
    lengths: npt.NDArray[np.int64],
    starts: npt.NDArray[np.int64],
    again: Sequence[tuple[int, Int32]],
) -> Flat:
    """A batch with the ids of the texts that were left out put in at their places."""
    if not again:
        return ids, lengths
    parts = []
    begin = 0
    for before, (place, found) in enumerate(again):
        end = int(starts[place - before])
        parts += [ids[begin:end], found]
        begin = end
    places = [place - before for before, (place, _) in enumerate(again)]
    widths = np.insert(lengths, places, [len(found) for _, found in again])
    return np.concatenate([*parts, ids[begin:]]), widths
