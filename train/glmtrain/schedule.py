"""How the learning rate moves: a pure function of the step, so it needs no state to resume."""

from __future__ import annotations

import math

from glmtrain.settings import Schedule


def warmup_steps(schedule: Schedule, steps: int) -> int:
    """Steps until the full learning rate; at least one stays for the rest."""
    return min(math.ceil(schedule.warmup * steps), steps - 1)


def factor(schedule: Schedule, step: int, steps: int) -> float:
    """What the learning rate is multiplied with at `step` (from 1) of `steps`.

    wsd falls as 1 - sqrt(share of the cooldown): steeply at first, then slowly, which Hägele et al.
    2024 ("Scaling laws and compute-optimal training beyond fixed training durations") found better
    than a linear fall.
    """
    warmup = warmup_steps(schedule, steps)
    if step <= warmup:
        return step / (warmup + 1)
    last_full = _last_full_step(schedule, warmup, steps)
    if step <= last_full:
        return 1.0
    done = (step - last_full) / (steps - last_full)
    return schedule.final + (1 - schedule.final) * _left(schedule, done)


def _last_full_step(schedule: Schedule, warmup: int, steps: int) -> int:
    if schedule.decay == "constant":
        return steps
    if schedule.decay == "wsd":
        return max(warmup + 1, steps - math.ceil(schedule.cooldown * steps))
    return warmup + 1


def _left(schedule: Schedule, done: float) -> float:
    """How much of the fall is still to come, 1 to 0, when the share `done` of its steps is made."""
    if schedule.decay == "linear":
        return 1 - done
    if schedule.decay == "wsd":
        return 1 - math.sqrt(done)
    return (1 + math.cos(math.pi * done)) / 2
