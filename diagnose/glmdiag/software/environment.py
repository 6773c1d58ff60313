"""The software of a machine: versions, CUDA and driver, and a model folder's own code."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from glmprep.errors import UsageError

from glmdiag.machine import nvml
from glmdiag.software import compatibility, remote_code, versions
from glmdiag.software.compatibility import Clash
from glmdiag.software.remote_code import RemoteCode
from glmdiag.software.versions import Unmet

OF_TORCH = ("cuda", "cudnn", "nccl")


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What is installed, here or where `file` was written, and what of it does not fit.

    `built` is what torch was built with (CUDA or ROCm, cuDNN, NCCL), None where it was not asked.
    """

    versions: Mapping[str, str]
    clashes: Sequence[Clash]
    file: str | None = None
    python: str | None = None
    unmet: Sequence[Unmet] = ()
    unpinned: Sequence[str] = ()
    skipped: int = 0
    built: Mapping[str, str | None] | None = None
    driver: str | None = None
    driver_cuda: str | None = None
    model: RemoteCode | None = None

    @property
    def transformers(self) -> str | None:
        """The version of transformers that model code has to fit."""
        return self.versions.get("transformers")

    def as_json(self) -> dict[str, Any]:
        """The environment as plain JSON values."""
        return asdict(self)


def examine(model: Path | None = None) -> Environment:
    """This Python, and the code of a model folder; raises as `remote_code.scan` does."""
    found, seen = versions.installed(), nvml.look()
    return Environment(
        versions=found.versions,
        clashes=compatibility.clashes(found.versions),
        python=platform.python_version(),
        unmet=versions.unmet(),
        built=_built(),
        driver=seen.driver,
        driver_cuda=seen.cuda,
        model=None if model is None else remote_code.scan(model),
    )


def of_file(path: Path) -> Environment:
    """What pip wrote on another machine; raises InputError as `versions.read` does."""
    found = versions.read(path)
    return Environment(
        versions=found.versions,
        clashes=compatibility.clashes(found.versions),
        file=str(path),
        unpinned=found.unpinned,
        skipped=found.skipped,
    )


def choose(file: Path | None, model: Path | None) -> Environment:
    """What a command is asked to judge.

    Raises UsageError for both at once: code is judged by the transformers that is installed.
    """
    if file is None:
        return examine(model)
    if model is not None:
        raise UsageError(
            "--versions and --model: code is judged by the transformers installed here; "
            "give one of them"
        )
    return of_file(file)


def _built() -> Mapping[str, str | None] | None:
    """What torch was built with; None without torch."""
    try:
        import torch
    except (ImportError, OSError):
        return None
    cuda = torch.version.cuda or torch.version.hip
    backend: Any = torch.backends.cudnn
    cudnn = backend.version() if cuda else None
    return {"cuda": cuda, "cudnn": str(cudnn) if cudnn else None, "nccl": _nccl() if cuda else None}


def _nccl() -> str | None:
    import torch

    nccl: Any = torch.cuda.nccl
    try:
        return ".".join(map(str, nccl.version()))
    except (AttributeError, RuntimeError, ImportError):
        return None
