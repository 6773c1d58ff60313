"""What a run left on disk: rows, tokens, and tokens with a label, counted from the files."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

IGNORED = -100
PAD = 151329


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """Sums over the files; padding is no token."""

    rows: int
    tokens: int
    supervised: int


def of_shards(folder: Path) -> Written:
    """The shards of `glmprep bucket`, by their manifest."""
    files = json.loads((folder / "shards/manifest.json").read_bytes())["files"]
    return Written(
        rows=sum(file["rows"] for file in files),
        tokens=sum(file["tokens"] for file in files),
        supervised=sum(file["supervised"] for file in files),
    )


def of_saved(folder: Path) -> Written:
    """A data set that `datasets` saved."""
    return _arrow(sorted((folder / "tokenized").rglob("data-*.arrow")))


def of_cached(folder: Path) -> Written:
    """A data set that `datasets` left in its cache."""
    return _arrow(map(Path, (folder / "files.txt").read_text("utf-8").splitlines()))


def _arrow(paths: Iterable[Path]) -> Written:
    rows = tokens = supervised = 0
    for path in paths:
        with pa.memory_map(str(path)) as source:
            for batch in pa.ipc.open_stream(source):
                ids = batch.column("input_ids").flatten().to_numpy(zero_copy_only=False)
                labels = batch.column("labels").flatten().to_numpy(zero_copy_only=False)
                labelled = labels != IGNORED
                rows += batch.num_rows
                tokens += int(np.count_nonzero((ids != PAD) | labelled))
                supervised += int(np.count_nonzero(labelled))
    return Written(rows=rows, tokens=tokens, supervised=supervised)
