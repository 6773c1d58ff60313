"""The columns of many rows in files that the system maps into memory as they are needed.

Parquet has to be unpacked to be read at random. So large data is unpacked once, column by column,
into plain files of numbers; then all processes of a machine share the pages that are in use.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from glmprep.shards import TOKEN_COLUMNS, Rows

MAPPED_FROM = 1 << 26
"""Tokens from which rows are mapped; fewer take under a gigabyte."""
ROW_COLUMNS = ("lengths", "bucket")
NUMBERS: dict[str, Any] = {"loss_mask": np.uint8, "lengths": np.int64}


def write(parts: Iterable[Rows], folder: Path) -> None:
    """Put the columns of all parts, one after the other, in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        names = (*TOKEN_COLUMNS, *ROW_COLUMNS)
        files = {name: stack.enter_context((folder / name).open("wb")) for name in names}
        for part in parts:
            for name, file in files.items():
                values = np.ascontiguousarray(getattr(part, name), dtype=_numbers(name))
                file.write(values.data)


def mapped(folder: Path) -> Rows:
    """The rows that `write` put there; the names of conversations are not kept."""
    lengths, bucket = (np.fromfile(folder / name, dtype=_numbers(name)) for name in ROW_COLUMNS)
    columns: dict[str, Any] = {
        name: np.memmap(folder / name, dtype=_numbers(name), mode="r") for name in TOKEN_COLUMNS
    }
    return Rows(
        **columns,
        offsets=np.concatenate(([0], np.cumsum(lengths, dtype=np.int64))),
        bucket=bucket,
        conversation_ids=[()] * len(bucket),
    )


def _numbers(name: str) -> Any:
    return NUMBERS.get(name, np.int32)
