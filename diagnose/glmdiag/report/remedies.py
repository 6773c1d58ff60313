"""What a cause would have changed in a run of glmtrain, as settings that can be tried at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from glmprep.errors import UsageError

from glmdiag.configs.record import TrainerConfig
from glmdiag.replay.verify_fix import Attempt, attempt
from glmdiag.report.case import Case
from glmdiag.report.found import RESOLVED
from glmdiag.report.suspects import Suspect

Settings: TypeAlias = Mapping[str, str]
LOWER, HIGHER = 0.1, 10.0
"""A rate that is out of its range is mostly so by a digit; a finer choice takes a whole run."""


def _rate(factor: float) -> Callable[[TrainerConfig], Settings]:
    def scaled(config: TrainerConfig) -> Settings:
        rate = config.effective("learning_rate")
        return {"optimiser.learning_rate": f"{factor * rate:g}"} if rate else {}

    return scaled


def _always(**settings: str) -> Callable[[TrainerConfig], Settings]:
    named = {name.replace("__", "."): value for name, value in settings.items()}
    return lambda config: named


REMEDIES: Mapping[str, Callable[[TrainerConfig], Settings]] = {
    "RC011": _always(precision__dtype="auto"),
    "RC014": _always(precision__dtype="fp32"),
    "RC015": _always(precision__pure="false"),
    "RC021": _rate(LOWER),
    "RC022": _rate(HIGHER),
    "RC024": _always(schedule__warmup="0.1"),
    "RC025": _always(data__accumulate="8"),
    "RC026": _always(optimiser__max_grad_norm="1.0"),
    "RC042": _always(guard__spikes="skip"),
    "RC046": _always(data__order="shuffled"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """The cause whose remedy was tried, and what became of the fault."""

    suspect: Suspect
    attempt: Attempt

    def as_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {"cause": self.suspect.cause.id, **self.attempt.as_json()}


def try_first(case: Case, steps: int) -> Tried:
    """Try the remedy of the most likely cause that has one and that shows in the log.

    Raises UsageError where there is no such cause, or the run is not one of glmtrain's.
    """
    run = case.given.run
    config = case.records.get("config")
    if not (run / RESOLVED).is_file() or config is None:
        raise UsageError(f"{run}: --verify-fix trains some steps again, so it needs a glmtrain run")
    for suspect in case.suspects:
        faults = [sign.rule for sign in suspect.pro if sign.rule.startswith("LG")]
        changes = REMEDIES.get(suspect.cause.id, _always())(config)
        if faults and changes:
            tried = attempt(run, changes, faults, steps=steps, moved=_moved(case))
            return Tried(suspect=suspect, attempt=tried)
    raise UsageError(
        f"{run}: no cause was found that shows in the log and that a setting would mend; "
        "leave out --verify-fix"
    )


def _moved(case: Case) -> Sequence[str]:
    named: Path | None = case.given.shards
    return () if named is None else (str(named),)
