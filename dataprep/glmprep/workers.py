"""How many processes work on some data."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from glmprep import read
from glmprep.engines import Engine
from glmprep.engines.local import local
from glmprep.errors import UsageError

if TYPE_CHECKING:
    from glmprep.tokenizing import Named

FEW_BYTES = 8 << 20
"""Less than this is done before other processes have started."""


def engine_for(
    paths: Sequence[str],
    workers: int | None,
    engine: Literal["local", "ray"] = "local",
    address: str | None = None,
    warm: Named | None = None,
) -> Engine:
    """An engine with so many workers; for None as many as there are cores and work for them.

    `address` is the Ray cluster to join, `warm` what workers will make tokens by. Raises UsageError
    for an address without `engine` ray.
    """
    if engine == "ray":
        from glmprep.engines.ray import RayEngine

        return RayEngine(address, workers)
    if address is not None:
        raise UsageError("--address names a Ray cluster; pass --engine ray with it")
    if workers is None:
        many = input_bytes(paths) > FEW_BYTES
        workers = len(os.sched_getaffinity(0)) if many else 1
    return local(workers, None if warm is None else warm.as_json())


def input_bytes(paths: Sequence[str]) -> int:
    """The size of all files that these paths name."""
    return sum(map(_bytes, read.find(paths)))


def _bytes(path: str) -> int:
    """The size of a file; what cannot be known, of a pipe, counts as much."""
    found = read.real_path(path)
    return found.stat().st_size if found.is_file() else FEW_BYTES + 1
