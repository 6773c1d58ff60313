"""Metrics to TensorBoard, Weights & Biases, trackio or SwanLab, besides metrics.jsonl.

A tracker is for looking on: one that fails is left out and told of, and the run goes on. Those
that send over a network start without one unless their own variables (a key, a mode) ask for it,
so that none waits for a login at a prompt.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from glmprep.errors import UsageError, first_line

from glmtrain.metrics import StepMetrics
from glmtrain.settings import Tracking

SHOWN: Mapping[str, str] = {
    "loss": "train/loss",
    "loss_ema": "train/loss_ema",
    "grad_norm": "train/grad_norm",
    "learning_rate": "train/learning_rate",
    "loss_scale": "train/loss_scale",
    "eval_loss": "eval/loss",
    "padding": "data/padding",
    "tokens_per_second": "speed/tokens_per_second",
    "supervised_tokens_per_second": "speed/supervised_tokens_per_second",
    "mfu": "speed/mfu",
    "peak_memory": "memory/peak",
}
"""Fields of a step and what trackers call them."""
LOGIN_SECONDS = 30


class Tracker(Protocol):
    """Something that shows numbers by step."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Take the values of a step."""

    def close(self) -> None:
        """Write out what is left."""


@dataclass(slots=True)
class Trackers:
    """All trackers of a run; `note` is told of one that fails."""

    running: dict[str, Tracker]
    note: Callable[[str], None]

    def log(self, metrics: StepMetrics) -> None:
        """Show a step's finite numbers in each tracker."""
        shown = values(metrics)
        self._each(lambda tracker: tracker.log(metrics.step, shown))

    def close(self) -> None:
        """End all trackers."""
        self._each(lambda tracker: tracker.close())
        self.running.clear()

    def _each(self, act: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self.running.items()):
            try:
                act(tracker)
            except Exception as error:  # whatever a library does must not end a run of days
                del self.running[name]
                self.note(f"tracking with {name} ends here ({first_line(error)}); the run goes on")


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What a tracker is started with: its project, the run's folder and its settings."""

    project: str
    folder: Path
    settings: Mapping[str, Any] = field(default_factory=dict)


def start(
    tracking: Tracking, folder: Path, settings: Mapping[str, Any], note: Callable[[str], None]
) -> Trackers:
    """Start the trackers of `tracking.to` for the run in `folder`; on one rank alone.

    Raises UsageError for a name that is no tracker's and for a library that is not installed.
    """
    known = {name: _library(name) for name in tracking.to}
    begin = Start(project=tracking.project, folder=folder, settings=settings)
    running: dict[str, Tracker] = {}
    for name, library in known.items():
        try:
            running[name] = STARTS[name](library, begin)
        except Exception as error:
            note(f"tracking with {name} could not start ({first_line(error)}); the run goes on")
    return Trackers(running, note)


def values(metrics: StepMetrics) -> dict[str, float]:
    """The finite numbers of a step, by the names that trackers show."""
    found = {shown: getattr(metrics, name) for name, shown in SHOWN.items()}
    return {name: float(v) for name, v in found.items() if v is not None and math.isfinite(v)}


@dataclass(frozen=True, slots=True)
class _TensorBoard:
    writer: Any

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        self.writer.close()


@dataclass(frozen=True, slots=True)
class _Service:
    """wandb, trackio and swanlab, which have these two functions in common."""

    library: Any

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.library.log(dict(values), step=step)

    def close(self) -> None:
        self.library.finish()


def _tensorboard(library: ModuleType, begin: Start) -> Tracker:
    return _TensorBoard(library.SummaryWriter(log_dir=str(begin.folder / "tensorboard")))


def _wandb(library: ModuleType, begin: Start) -> Tracker:
    library.init(
        project=begin.project,
        name=begin.folder.name,
        dir=str(begin.folder),
        config=dict(begin.settings),
        mode=_mode("WANDB_MODE", "WANDB_API_KEY", "online"),
        settings=library.Settings(init_timeout=LOGIN_SECONDS, silent=True),
    )
    return _Service(library)


def _trackio(library: ModuleType, begin: Start) -> Tracker:
    """trackio keeps its runs on this machine unless TRACKIO_SPACE_ID names a place."""
    library.init(project=begin.project, name=begin.folder.name, config=dict(begin.settings))
    return _Service(library)


def _swanlab(library: ModuleType, begin: Start) -> Tracker:
    library.init(
        project=begin.project,
        experiment_name=begin.folder.name,
        logdir=str(begin.folder / "swanlab"),
        config=dict(begin.settings),
        mode=_mode("SWANLAB_MODE", "SWANLAB_API_KEY", "cloud"),
    )
    return _Service(library)


STARTS: Mapping[str, Callable[[ModuleType, Start], Tracker]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "trackio": _trackio,
    "swanlab": _swanlab,
}


def _mode(variable: str, key: str, online: str) -> str:
    """The mode that the library's own variable asks for; without a key, offline."""
    return os.environ.get(variable) or (online if os.environ.get(key) else "offline")


def _library(name: str) -> ModuleType:
    if name not in STARTS:
        near = get_close_matches(name, STARTS, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UsageError(f"tracking.to: no tracker {name!r}, there are {', '.join(STARTS)}{hint}")
    try:
        return import_module("torch.utils.tensorboard" if name == "tensorboard" else name)
    except ImportError as error:
        raise UsageError(f"tracking.to: {name} is not installed: pip install {name}") from error
