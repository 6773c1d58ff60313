"""What a recipe will take, measured on a part of the data."""

from __future__ import annotations

import os
import shutil
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson

from glmprep import read
from glmprep.build import WORK, build
from glmprep.build_plan import plan
from glmprep.engines.local import Serial
from glmprep.errors import InputError
from glmprep.read import COMPRESSED, PARQUET, DataFile, real_path
from glmprep.recipe import SHARDS, Recipe
from glmprep.records import RawRow

SAMPLED_BYTES = 1 << 20
"""So much of each of the largest files is tried."""
SAMPLED_FILES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What follows for all of the data from what was measured on `sampled` bytes of it.

    `work_bytes` are units that are kept between runs, `shard_bytes` what is trained on, `seconds`
    the time with so many `workers` where nothing was kept.
    """

    stages: Sequence[str]
    files: int
    input_bytes: int
    sampled: int
    rows: int
    tokens: int
    supervised: int
    work_bytes: int
    shard_bytes: int
    free_bytes: int
    seconds: float
    workers: int

    def as_json(self) -> dict[str, Any]:
        """All of it as plain JSON values."""
        return asdict(self)


def estimate(recipe: Recipe, workers: int | None) -> Estimate:
    """Try a recipe on the beginning of the largest files; nothing of it is kept.

    Raises InputError where nothing in it can be trained on.
    """
    asked = plan(recipe)
    files = read.files(asked.source.paths)
    if any(not real_path(file.path).is_file() for file in files):
        raise InputError(f"{files[0].path}: a pipe can be read only once, so it is not tried")
    largest = sorted(files, key=lambda file: -_size(file))[:SAMPLED_FILES]
    workers = workers or len(os.sched_getaffinity(0))
    with TemporaryDirectory(prefix="glmprep-") as name:
        folder = Path(name)
        parts = [_part(file, folder / f"{place}.jsonl") for place, file in enumerate(largest)]
        sampled = sum(size for size, _ in parts)
        tried = replace(
            recipe,
            data=replace(recipe.data, paths=[str(path) for path in sorted(folder.iterdir())]),
            split=None,  # it takes next to no time, and a small part may be too small for it
            output=replace(recipe.output, folder=str(folder / "tried")),
        )
        made = build(plan(tried), Serial(), progress=lambda done, total: None)
        scale = sum(whole for _, whole in parts) / sampled
        scale *= sum(map(_size, files)) / max(1, sum(map(_size, largest)))
        written = made.shards.ledger.written
        return Estimate(
            stages=[stage.name for stage in asked.stages],
            files=len(files),
            input_bytes=sum(map(_size, files)),
            sampled=sampled,
            rows=round(made.shards.ledger.read * scale),
            tokens=round(written.tokens * scale),
            supervised=round(written.supervised * scale),
            work_bytes=round(_below(folder / "tried" / WORK) * scale),
            shard_bytes=round(_below(folder / "tried" / SHARDS) * scale),
            free_bytes=shutil.disk_usage(_existing(asked.folder)).free,
            seconds=made.seconds * scale / workers,
            workers=workers,
        )


def _part(file: DataFile, target: Path) -> tuple[int, float]:
    """Write the first rows of a file as JSON Lines; their bytes, and those of all its rows."""
    rows = lines = 0
    with target.open("wb") as out:
        for line in _lines(file):
            out.write(line)
            lines += len(line)
            rows += 1
            if lines >= SAMPLED_BYTES:
                break
    if file.path.endswith(PARQUET):
        return lines, lines * _parquet_rows(file.path) / max(1, rows)
    ratio = 1.0
    if str(real_path(file.path)).endswith(COMPRESSED):
        ratio = lines / max(1, len(zlib.compress(target.read_bytes())))
    return lines, max(lines, _size(file) * ratio)


def _lines(file: DataFile) -> Iterator[bytes]:
    for row in read.file_rows(file):
        if isinstance(row, RawRow):
            yield orjson.dumps(row.value) + b"\n"


def _parquet_rows(path: str) -> int:
    import pyarrow.parquet as pq

    return int(pq.read_metadata(path).num_rows)


def _size(file: DataFile) -> int:
    return real_path(file.path).stat().st_size


def _below(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.iterdir())


def _existing(folder: Path) -> Path:
    """The nearest folder above that is there."""
    folder = folder.absolute()
    return folder if folder.exists() else _existing(folder.parent)
