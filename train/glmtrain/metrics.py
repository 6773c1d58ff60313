"""metrics.jsonl: one JSON object an optimiser step, readable while the run goes on."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from glmprep.console import file_errors
from glmprep.files import write_atomically
from glmprep.findings import Finding

METRICS = "metrics.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepMetrics:
    """One optimiser step.

    `loss` is the mean over `supervised_tokens`; `tokens` are real ones, and `padding` is the share
    of computed tokens that were not. `rows` are row ids over all shard folders in their order,
    `bucket` is the longest of the step, `peak_memory` is in bytes since the start. `event` is
    "overflow" or "skipped" for a step that changed no weight, "resumed" for the first after a
    resume; `findings` is what the guard made certain at this step.
    """

    step: int
    epoch: float
    loss: float
    learning_rate: float
    grad_norm: float
    tokens: int
    supervised_tokens: int
    padding: float
    tokens_per_second: float
    supervised_tokens_per_second: float
    peak_memory: int
    bucket: int
    loss_scale: float | None
    rows: Sequence[int]
    event: str | None = None
    findings: Sequence[Finding] = ()

    def as_json(self) -> dict[str, Any]:
        """The step as JSON values; what is not finite becomes null, with its name beside it."""
        values = asdict(self)
        for name, beside in (("loss", "nonfinite"), ("grad_norm", "nonfinite_grad_norm")):
            if (unsound := nonfinite(values[name])) is not None:
                values[name], values[beside] = None, unsound
        return values


class MetricsFile:
    """Appends steps to a file; each line is out before the next step begins."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / METRICS

    def keep_until(self, step: int) -> None:
        """Drop the steps after `step`, which are about to be done again."""
        kept = [line for line in _lines(self.path) if json.loads(line)["step"] <= step]
        with file_errors(self.path):
            write_atomically(self.path, "".join(kept).encode())

    def append(self, metrics: StepMetrics) -> None:
        """Write one step."""
        line = json.dumps(metrics.as_json(), ensure_ascii=False, allow_nan=False)
        with file_errors(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def read(folder: Path) -> list[dict[str, Any]]:
    """All steps of a run that was written here."""
    return [json.loads(line) for line in _lines(folder / METRICS)]


def nonfinite(value: float) -> str | None:
    """`nan`, `inf` or `-inf`; None for a number."""
    return None if math.isfinite(value) else str(value)


def peak_memory(device: torch.device) -> int:
    """Most memory in use so far, in bytes: the accelerator's, else this process's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows has no such module
        import psutil

        return int(getattr(psutil.Process().memory_info(), "peak_wset"))  # noqa: B009
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _lines(path: Path) -> Iterator[str]:
    """Whole lines; the last one may have been cut short when a run was killed."""
    if not path.exists():
        return
    with file_errors(path), path.open(encoding="utf-8") as file:
        yield from (line for line in file if line.endswith("\n"))
