"""metrics.jsonl: one JSON object an optimiser step, readable while the run goes on."""

from __future__ import annotations

import contextlib
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
UNSOUND = {
    "loss": "nonfinite",
    "grad_norm": "nonfinite_grad_norm",
    "loss_ema": "nonfinite_loss_ema",
    "eval_loss": "nonfinite_eval_loss",
}
"""Where the name of a number stands that JSON does not have."""
CLEAR_REFS, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
RESIDENT_PEAK = "5"
"""What Linux is told to forget the most memory that a process had (proc_pid_clear_refs(5))."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepMetrics:
    """One optimiser step.

    `loss` is the mean over `supervised_tokens`; `tokens` are real ones, and `padding` is the share
    of computed tokens that were not. `rows` are row ids over all shard folders in their order,
    `bucket` is the longest of the step, `peak_memory` the most bytes in use during it (see
    `restart_peak`), `tokens_budget` what a batch of it could hold. Tokens and rates are those of
    all `ranks` together. `mfu` is None where the device's peak is not known (see `flops`).
    `event` is "overflow", "skipped" or "spike" for a step that changed no weight, "rewound" for one
    that went back, "split" for one that was done again in smaller batches, "resumed" for the first
    after a resume; `findings` is what the guard made certain at this step. `evidence` is the folder
    that a step left out was kept in (see `evidence`).

    `eval_loss` is on the line of the step after which it was measured: a line is always one step,
    and whoever reads the file by its steps need not know of evaluations.
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
    ranks: int = 1
    tokens_budget: int | None = None
    mfu: float | None = None
    loss_ema: float | None = None
    eval_loss: float | None = None
    event: str | None = None
    evidence: str | None = None
    findings: Sequence[Finding] = ()

    def as_json(self) -> dict[str, Any]:
        """The step as JSON values; what is not finite becomes null, with its name beside it."""
        values = asdict(self)
        for name, beside in UNSOUND.items():
            if values[name] is not None and (unsound := nonfinite(values[name])) is not None:
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


def restart_peak(device: torch.device) -> None:
    """Have `peak_memory` tell the most from now on; where a system can't, it tells that so far."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with contextlib.suppress(OSError):  # another system than Linux, or a container that forbids it
        CLEAR_REFS.write_text(RESIDENT_PEAK)


def peak_memory(device: torch.device) -> int:
    """Most bytes in use since the last `restart_peak`: the accelerator's, else the process's.

    A process's memory is all that is resident: libraries and freed memory that was not given back
    count as well, so it is above what the tensors take (see `tensormemory`).
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    with contextlib.suppress(OSError):
        for line in STATUS.read_text("utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return _peak_by_system()


def _peak_by_system() -> int:
    """The process's peak where there is no /proc."""
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
