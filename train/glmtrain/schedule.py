"""How the learning rate moves: a pure function of the step, so it needs no state to resume."""

from __future__ import annotations

import math

from glmtrain.settings import Schedule


def warmup_steps(schedule: Schedule, steps: int) -> int:
    """Steps until the full learning rate; at least one stays for the rest."""
    return min(math.ceil(schedule.warmup * steps), steps - 1)


def factor(schedule: Schedule, step: int, steps: int) -> float:
    """What the learning rate is multiplied with at `step` (from 1) of `steps`."""
    warmup = warmup_steps(schedule, steps)
    if step <= warmup:
        return step / (warmup + 1)
    if schedule.decay == "constant":
        return 1.0
    done = (step - warmup - 1) / max(1, steps - warmup - 1)
    left = 1 - done if schedule.decay == "linear" else (1 + math.cos(math.pi * done)) / 2
    return schedule.final + (1 - schedule.final) * max(0.0, left)
