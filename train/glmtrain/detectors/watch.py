"""The watch over a run: the same for a trainer's steps and for those of a log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from glmprep.findings import Finding, Rule

from glmtrain.detectors import (
    course_rules,
    gradient_rules,
    learning_rules,
    loss_rules,
    rate_rules,
    resource_rules,
    start_rules,
    zero_rules,
)
from glmtrain.detectors.curve import Curve
from glmtrain.detectors.finding import Data
from glmtrain.detectors.losses import REFRESH
from glmtrain.detectors.step import Step

SPIKES_TOLD = 5  # a run with more spikes than this has one problem, not many
LONG_RUN = 2000  # steps; from here on slow faults are looked for a tenth as often
MODULES = (
    zero_rules,
    loss_rules,
    start_rules,
    gradient_rules,
    rate_rules,
    resource_rules,
    course_rules,
    learning_rules,
)
LOG_RULES: tuple[Rule[Any], ...] = tuple(
    sorted(
        (each for module in MODULES for each in vars(module).values() if isinstance(each, Rule)),
        key=lambda each: each.id,
    )
)
AT_ONCE = tuple(
    each
    for each in LOG_RULES
    if each.id in {"LG001", "LG002", "LG003", "LG004", "LG007", "LG011", "LG038", "LG039", "LG047"}
)
"""Rules that are asked at every step: what they look at may be over at the next, or is urgent."""


class Watch:
    """Feed it the steps of a run; it returns each cause once, when it is certain."""

    def __init__(self) -> None:
        self._curve = Curve()
        self._told: Counter[str] = Counter()
        self._began: dict[str, object] = {}
        self._fed = 0
        self._slow = _checks(LOG_RULES)
        self._quick = _checks(AT_ONCE)

    def feed(self, step: Step) -> list[Finding]:
        """What this step makes certain; a step number that goes back (resume) begins anew."""
        if step.step < self._curve.last:
            before, self._curve = self._curve, Curve()
            self._curve.follows(before, step)
        elif step.event == "resumed":
            self._curve.resumed(step)
        self._curve.add(step)
        self._fed += 1
        every = REFRESH if self._fed < LONG_RUN else 10 * REFRESH
        if self._fed % every == 0:
            return self._judge(self._slow)
        return self._judge(self._quick) if self._curve.urgent else []

    def close(self) -> list[Finding]:
        """What only the end of the log makes certain: a flat loss, a rate that was mostly zero."""
        self._curve.ended = True
        return self._judge(self._slow)

    def _judge(self, checks: Sequence[tuple[Rule[Any], Callable[[Curve], Data]]]) -> list[Finding]:
        found = []
        for each, check in checks:
            data = check(self._curve)
            if data is not None and self._is_new(each.id, data["step"]):
                found.append(each.finding(f"step {data['step']}", **data))
        return found

    def _is_new(self, rule_id: str, began: object) -> bool:
        most = SPIKES_TOLD if rule_id == "LG004" else 1
        if self._began.get(rule_id) == began or self._told[rule_id] >= most:
            return False
        self._began[rule_id] = began
        self._told[rule_id] += 1
        return True


def detect(steps: Iterable[Step]) -> list[Finding]:
    """All findings of a log, in the order in which they became certain."""
    watch = Watch()
    return [finding for step in steps for finding in watch.feed(step)] + watch.close()


def _checks(rules: Sequence[Rule[Any]]) -> list[tuple[Rule[Any], Callable[[Curve], Data]]]:
    return [(each, each.check) for each in rules]
