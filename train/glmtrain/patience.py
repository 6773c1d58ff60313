"""Early stopping: a run ends when the loss on held-out rows no longer gets better."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from glmtrain.settings import Evaluation


class Patience:
    """Follows the loss of one evaluation after the other.

    `best` and `best_step` are those of the lowest loss, None before the first that is a number.
    `waited` counts the evaluations since the loss last fell by the share `least`, measured from
    where it fell so far the time before: small falls add up.
    """

    def __init__(self, settings: Evaluation) -> None:
        self._patience, self._least = settings.patience or 0, settings.least
        self.best: float | None = None
        self.best_step: int | None = None
        self.waited = 0
        self._mark: float | None = None

    def feed(self, step: int, loss: float) -> bool:
        """Take the loss after `step`; whether it is the lowest so far, which NaN never is."""
        if _below(loss, self._mark, self._least):
            self._mark, self.waited = loss, 0
        else:
            self.waited += 1
        if not _below(loss, self.best, 0.0):
            return False
        self.best, self.best_step = loss, step
        return True

    @property
    def exhausted(self) -> bool:
        """Whether the run should end; never with a patience of 0 or None."""
        return 0 < self._patience <= self.waited

    def state(self) -> dict[str, Any]:
        """All that changes, for JSON."""
        return {
            "best": self.best,
            "best_step": self.best_step,
            "waited": self.waited,
            "mark": self._mark,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Put back what `state` gave; raises KeyError where something is missing."""
        self.best, self.best_step = state["best"], state["best_step"]
        self.waited, self._mark = state["waited"], state["mark"]


def _below(loss: float, other: float | None, share: float) -> bool:
    """Whether a loss is a number and, by a share of the other, less than that."""
    if other is None:
        return not math.isnan(loss)
    return loss < other and other - loss >= share * abs(other)
