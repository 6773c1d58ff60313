from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from glmtrain.detectors import SPIKES_TOLD, Step, Watch, detect
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.diagnose.healthy_runs import EXAMPLES, MOST

Losses = np.ndarray
STEPS = 400


def curve(losses, *, rate=1e-4, grad_norm=1.0, event=None) -> list[Step]:
    """Steps from 1 on; `rate` and `grad_norm` are constants or functions of the index."""

    def at(value, index):
        return value(index) if callable(value) else value

    return [
        Step(
            step=i + 1,
            loss=float(loss),
            grad_norm=at(grad_norm, i),
            learning_rate=at(rate, i),
            event=event,
        )
        for i, loss in enumerate(losses)
    ]


def falling(seed: int = 1) -> Losses:
    noise = np.random.default_rng(seed).normal(0, 0.08, STEPS)
    return 1 + 1.5 * np.exp(-np.arange(STEPS) / 80) + noise


def changed(begin: int, end: int, values) -> Losses:
    losses = falling()
    losses[begin:end] = values
    return losses


def from_step(step: int, value: float, otherwise: float = 1.0):
    return lambda index: value if index + 1 >= step else otherwise


def noise(seed: int, size: float) -> Losses:
    return np.random.default_rng(seed).normal(0, size, STEPS)


FAULTS = {
    "NaN loss": ("LG001", 201, curve(changed(200, 400, math.nan))),
    "infinite loss": ("LG001", 201, curve(changed(200, 400, math.inf))),
    "NaN in the first step": ("LG001", 1, curve(np.full(5, math.nan))),
    "zero at once, no gradient logged": (
        "LG011",
        201,
        curve(changed(200, 400, 0.0), grad_norm=None),
    ),
    "nearly zero at once": ("LG002", 201, curve(changed(200, 400, 2e-4))),
    "zero from the start": ("LG011", 1, curve(np.zeros(20), grad_norm=None)),
    "NaN hidden as zero": (
        "LG003",
        201,
        curve(changed(200, 400, 0.0), grad_norm=from_step(201, math.nan)),
    ),
    "zero loss with zero gradient": (
        "LG003",
        201,
        curve(changed(200, 400, 0.0), grad_norm=from_step(201, 0.0)),
    ),
    "spike that recovers": ("LG004", 201, curve(changed(200, 205, 8.0))),
    "spike of one step": ("LG004", 201, curve(changed(200, 201, 8.0))),
    "spike where the log ends": ("LG004", 398, curve(changed(397, 400, 8.0))),
    "flat": ("LG005", 1, curve(2.3 + noise(2, 0.1))),
    "jump that stays": ("LG006", 200, curve(changed(200, 400, 8 + noise(3, 0.2)[:200]))),
    "slow rise": ("LG006", 205, curve(falling() + 0.02 * np.clip(np.arange(400) - 200, 0, None))),
    "high where the log ends": ("LG006", 391, curve(changed(390, 400, 8.0))),
    "zero gradient": ("LG007", 1, curve(falling(), grad_norm=0.0)),
    "gradient never finite": ("LG007", 101, curve(falling(), grad_norm=from_step(101, math.inf))),
    "learning rate always zero": ("LG008", 1, curve(falling(), rate=0.0)),
    "learning rate zero in a short run": ("LG008", 1, curve(falling()[:5], rate=0.0)),
    "schedule ends too early": ("LG008", 151, curve(falling(), rate=from_step(151, 0.0, 1e-4))),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_the_only_thing_found_and_dated(name):
    rule, began, steps = FAULTS[name]
    found = detect(steps)
    assert [finding.rule for finding in found] == [rule]
    assert found[0].data["step"] == began
    assert found[0].where == f"step {began}"


def healthy(seed: int) -> Iterator[tuple[str, Losses]]:
    """Curves as sound runs draw them, of several lengths and kinds of noise."""
    random = np.random.default_rng(seed)
    n = int(random.choice([10, 60, 300, 600]))
    t = np.arange(n)
    yield "falling", 1 + 1.5 * np.exp(-t / (n / 5)) + random.normal(0, 0.08, n)
    yield "low from the start", 0.3 * np.exp(-0.3 * t / n) * np.exp(random.normal(0, 0.25, n))
    yield "one row a batch", (0.9 + 1.2 * np.exp(-3 * t / n)) * np.exp(random.normal(0, 0.4, n))
    tails = np.exp(0.3 * np.clip(random.standard_t(8, n), -6, 6))  # a row of 17 nats is a spike
    yield "heavy tails", (0.9 + 1.2 * np.exp(-3 * t / n)) * tails
    yield "random weights", 1.5 + 10 * np.exp(-t / 30) + random.normal(0, 0.1, n)
    yield "plateau after a quick fall", 1.1 + 1.5 * np.exp(-t / 5) + random.normal(0, 0.05, n)
    stairs = np.where(t < n / 3, 1.2, np.where(t < 2 * n / 3, 0.9, 0.6))
    yield "a step down each epoch", stairs * np.exp(random.normal(0, 0.15, n))
    yield "uniform noise", np.clip(1.3 - 0.5 * t / n + random.uniform(-0.5, 0.5, n), 0.05, None)
    warm = n // 10
    yield "warm-up", 1.4 - 0.4 * np.clip((t - warm) / n, 0, 1) + random.normal(0, 0.05, n)
    slow = np.arange(max(n, 300))
    yield "learned by heart", 3 * np.exp(-12 * slow / len(slow) + random.normal(0, 0.2, len(slow)))


@settings(max_examples=EXAMPLES)
@given(seed=st.integers(0, MOST - 1))
def test_healthy_curves_raise_no_alarm(seed):
    for kind, losses in healthy(seed):
        last, warm = len(losses) - 1, len(losses) // 10 + 1
        schedule = curve(losses, rate=lambda i, a=last, b=warm: 2e-4 * min(i / b, 1) * (1 - i / a))
        for steps in (schedule, curve(losses, rate=None, grad_norm=None)):
            assert [f.evidence for f in detect(steps) if f.severity != "info"] == [], kind


def test_the_watch_tells_a_cause_at_the_step_that_makes_it_certain():
    watch = Watch()
    found = [(s.step, f.rule) for s in curve(changed(200, 400, math.nan)) for f in watch.feed(s)]
    assert found == [(201, "LG001")]
    assert watch.close() == []


def test_a_step_without_a_loss_is_passed_over():
    steps = curve(falling())
    gaps = [Step(step=s.step, loss=None) if s.step % 7 == 0 else s for s in steps]
    assert detect(gaps) == []


def test_a_named_nonfinite_loss_is_found():
    found = detect([Step(step=3, loss=None, nonfinite="inf")])
    assert [(f.rule, f.data["value"]) for f in found] == [("LG001", "inf")]


def test_a_few_overflows_while_the_loss_scale_settles_are_no_fault():
    def norm(index):
        return math.inf if index < 6 or index % 50 == 0 else 1.0

    assert detect(curve(falling(), grad_norm=norm)) == []


def test_loss_going_back_to_a_checkpoint_is_no_divergence():
    before = curve(falling())
    assert detect([*before, *before[100:]]) == []


def test_a_run_full_of_spikes_is_told_a_bounded_number_of_times():
    losses = falling()
    losses[50::40] = 9.0
    losses[51::40] = 9.0
    assert [f.rule for f in detect(curve(losses))] == ["LG004"] * SPIKES_TOLD


def test_flat_is_no_fault_while_the_learning_rate_is_tiny():
    assert [f.rule for f in detect(curve(2.3 + noise(2, 0.1), rate=1e-9))] == ["LG016"]


def test_memory_stays_constant_over_a_long_run():
    import tracemalloc

    watch = Watch()
    steps = [
        s._replace(step=i, epoch=i / 500, memory=1e9 + i % 7, tokens_per_second=1e3, eval_loss=1.0)
        for i, s in enumerate(curve(np.tile(falling(), 6)))
    ]
    for step in steps[:1000]:
        watch.feed(step)
    tracemalloc.start()
    for step in steps[1000:]:
        watch.feed(step)
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 30_000  # a number kept of each step would take 45,000 and more
