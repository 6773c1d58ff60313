"""Whether a change of settings takes a fault away: the run's own steps, with it and without it.

Both go through the trainer with the run's rows, seed and schedule, from the earliest weights at
hand from which the fault came within so many steps: what is at fault may lie some steps before it
shows. The run's folder is only read.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias
from typing import Literal as OneOf

from glmprep.errors import SuiteError, UsageError
from glmprep.findings import Finding
from glmtrain import checkpoint, config, devices, evidence
from glmtrain import run as training
from glmtrain.detectors import Step, detect
from glmtrain.metrics import METRICS, StepMetrics
from glmtrain.progress import Silent
from glmtrain.settings import Config

from glmdiag import logs
from glmdiag.replay import rerun
from glmdiag.replay.rerun import Run

Verdict: TypeAlias = OneOf["cleared", "not cleared", "not reproduced"]
LEAST, MOST = 5, 20
FROM_THE_BEGINNING = ("model.", "lora.", "prefix.", "distill.", "optimiser.name", "precision.pure")
"""Settings that decide which weights there are, so that those of a checkpoint don't fit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What some steps came to.

    `losses` are by step, NaN where one is not finite; `rules` those that found something in these
    steps, the run's log before them taken into account; `stopped` is why the trainer ended, if it
    gave up.
    """

    losses: Sequence[tuple[int, float]]
    rules: frozenset[str]
    stopped: str | None = None

    def as_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        losses = [[step, loss if math.isfinite(loss) else None] for step, loss in self.losses]
        return {"losses": losses, "rules": sorted(self.rules), "stopped": self.stopped}


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """The steps after `since` as they were, and with the changes.

    `first` is the step at which the fault first showed in the run's log, None where it does not.
    """

    changes: Mapping[str, str]
    faults: frozenset[str]
    since: int
    first: int | None
    before: Trial
    after: Trial

    @property
    def verdict(self) -> Verdict:
        """Cleared where the fault shows without the changes and not with them."""
        if not self._shows(self.before):
            return "not reproduced"
        return "not cleared" if self._shows(self.after) else "cleared"

    @property
    def others(self) -> frozenset[str]:
        """What shows with the changes and did not without."""
        return self.after.rules - self.before.rules

    def as_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "verdict": self.verdict,
            "changes": dict(self.changes),
            "faults": sorted(self.faults),
            "since": self.since,
            "first_seen": self.first,
            "before": self.before.as_json(),
            "after": self.after.as_json(),
            "others": sorted(self.others),
        }

    def _shows(self, trial: Trial) -> bool:
        return trial.stopped is not None or bool(self.faults & trial.rules)


def attempt(
    run: Path,
    changes: Mapping[str, str],
    faults: Collection[str],
    *,
    steps: int = 10,
    moved: Sequence[str] = (),
    workdir: Path | None = None,
) -> Attempt:
    """Train some steps of the run in the folder `run` twice, as it was and with `changes`.

    changes: settings as after `--set`, such as {"optimiser.learning_rate": "1e-4"}; other shards
    are {"data.shards": '["DIR"]'}. faults: the log rules whose findings are to go away. steps: of
    each trial, 5 to 20. moved: where the run's shards lie now. workdir: where the trials are
    written, in a folder that is removed. Raises UsageError for settings that there are not,
    InputError for a run that cannot be read.
    """
    if not LEAST <= steps <= MOST:
        raise UsageError(f"{steps} steps: a fix is tried with {LEAST} to {MOST}")
    found = rerun.read(run, moved)
    log = logs.read(run / METRICS).steps
    first = _first_seen(detect(log), faults)
    anew = any(name.startswith(FROM_THE_BEGINNING) for name in changes)
    since, start = (0, None) if anew else _start(run, first, steps)
    own = _shared(found)
    asked = [f"{name}={value}" for name, value in changes.items()]
    changed = config.build([("the run", _settings(own)), *((a, config.parse(a)) for a in asked)])
    earlier = [step for step in log if step.step <= since]
    with TemporaryDirectory(prefix="glmdiag-", dir=workdir) as temporary:
        trials = [
            _trial(settings, Path(temporary) / name, start, earlier, steps)
            for name, settings in (("before", own), ("after", changed))
        ]
    before, after = trials
    return Attempt(
        changes=dict(changes),
        faults=frozenset(faults),
        since=since,
        first=first,
        before=before,
        after=after,
    )


class _EnoughError(Exception):
    """As many steps as were asked for are done."""


@dataclass(slots=True)
class _Following(Silent):
    """Follows a run and ends it after so many steps."""

    most: int
    losses: list[tuple[int, float]] = field(default_factory=list)

    def step(self, metrics: StepMetrics) -> None:
        """See `Silent`."""
        loss = metrics.loss if math.isfinite(metrics.loss) else math.nan
        self.losses.append((metrics.step, loss))
        if len(self.losses) == self.most:
            raise _EnoughError


def _trial(
    settings: Config, output: Path, start: Path | None, earlier: Sequence[Step], steps: int
) -> Trial:
    settings = replace(settings, run=replace(settings.run, output=str(output)))
    shown, stopped = _Following(steps), None
    with devices.join(settings.devices) as place:
        mode = training.Mode(force=True, start=start)
        try:
            training.train(settings, place, given=(), shown=shown, mode=mode)
        except _EnoughError:
            pass
        except SuiteError as error:
            stopped = str(error)
    log = logs.read(output / METRICS).steps if shown.losses else []
    last = earlier[-1].step if earlier else 0
    found = detect([*earlier, *log])
    rules = frozenset(f.rule for f in found if int(f.data.get("step", 0)) > last)
    return Trial(losses=shown.losses, rules=rules, stopped=stopped)


def _first_seen(findings: Sequence[Finding], faults: Collection[str]) -> int | None:
    steps = [int(f.data["step"]) for f in findings if f.rule in faults and "step" in f.data]
    return min(steps, default=None)


def _start(run: Path, first: int | None, steps: int) -> tuple[int, Path | None]:
    """The step after which to begin, and what was kept of it; None for the run's own beginning.

    The earliest from which the fault comes within the steps, with some left to see it stay; where
    it came from none, the latest before it.
    """
    if first is None:
        return 0, None
    kept = {checkpoint.step_of(folder): folder for folder in checkpoint.listed(run)}
    kept |= {checkpoint.step_of(f) - 1: f for f in checkpoint.listed(run, evidence.FOLDER)}
    known: dict[int, Path | None] = {0: None, **kept}
    before = sorted(since for since in known if since < first)
    near = [since for since in before if first - since <= steps - LEAST // 2]
    since = near[0] if near else before[-1]
    return since, known[since]


def _shared(found: Run) -> Config:
    """The run's settings for one process, whose steps are as large as those of all together."""
    settings = found.settings
    data = replace(settings.data, accumulate=settings.data.accumulate * found.ranks)
    return replace(settings, data=data, run=replace(settings.run, save_every=0, sample_tokens=1))


def _settings(chosen: Config) -> dict[str, dict[str, Any]]:
    return {
        section: {name: value for name, value in values.items() if value is not None}
        for section, values in config.as_dict(chosen).items()
    }
