"""Tokens on disk between tokenization and writing, so that memory holds only their lengths."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType

import numpy as np
import numpy.typing as npt

from glmprep.labels import TokenBatch, ranges

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
UInt8 = npt.NDArray[np.uint8]
SUFFIX = ".spool.tmp"
"""For the moment in which the files have a name, where the system has no nameless ones."""


class Spool:
    """Appends the ids and masks of conversations, then gathers any of them in any order.

    A context manager: its two files, in `folder`, have no name and go when it is left, however the
    process ends. Raises OSError as writing does.
    """

    def __init__(self, folder: Path) -> None:
        self._ids_file = TemporaryFile(dir=folder, suffix=SUFFIX)  # noqa: SIM115 - closed in __exit__
        self._mask_file = TemporaryFile(dir=folder, suffix=SUFFIX)  # noqa: SIM115 - closed in __exit__
        self._lengths: list[Int64] = []
        self._starts: Int64 = np.zeros(0, np.int64)

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ids_file.close()
        self._mask_file.close()

    def append(self, batch: TokenBatch, rows: Int64) -> None:
        """Add these conversations of the batch."""
        lengths = batch.lengths[rows]
        at = ranges(batch.offsets[rows], lengths)
        self._ids_file.write(batch.ids[at].tobytes())
        self._mask_file.write(batch.mask[at].tobytes())
        self._lengths.append(lengths)

    def close(self) -> Int64:
        """End appending; the length of each conversation, in the order in which they came."""
        self._ids_file.flush()
        self._mask_file.flush()
        lengths = np.concatenate([np.zeros(0, np.int64), *self._lengths])
        self._starts = np.cumsum(lengths) - lengths
        self._all = lengths
        if len(lengths):
            self._ids: Int32 = np.memmap(self._ids_file, np.int32, "r")
            self._mask: UInt8 = np.memmap(self._mask_file, np.uint8, "r")
        return lengths

    def gather(self, items: Int64) -> tuple[Int32, UInt8]:
        """Ids and masks of these conversations, one after the other."""
        at = ranges(self._starts[items], self._all[items])
        return self._ids[at], self._mask[at]
