"""A tokenizer that remembers what it encoded: the same texts come again at every length."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from glmprep.tokenizer import Int32, Tokenizer

Int64 = npt.NDArray[np.int64]


class Remembering(Tokenizer):
    """Another tokenizer, which encodes a text once until it is told to forget."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        # The same tokenizer in all but its memory.
        self.__dict__.update(vars(tokenizer))
        self._known: dict[str, Int32] = {}

    def encode_batch(self, texts: Sequence[str]) -> tuple[Int32, Int64]:
        """Ids of all texts, one after the other, and the number of ids of each text."""
        new = list({text for text in texts if text not in self._known})
        if new:
            ids, lengths = super().encode_batch(new)
            parts = np.split(ids, np.cumsum(lengths)[:-1])
            self._known.update(zip(new, parts, strict=True))
        found = [self._known[text] for text in texts]
        widths = np.fromiter(map(len, found), np.int64, len(found))
        return np.concatenate([*found, np.zeros(0, np.int32)]), widths

    def forget(self) -> None:
        """Free the memory."""
        self._known.clear()
