from __future__ import annotations

import pytest
from glmtrain.schedule import factor, warmup_steps
from glmtrain.settings import Schedule


def test_rate_rises_through_the_warm_up_and_is_full_right_after():
    schedule = Schedule(warmup=0.1)
    rates = [factor(schedule, step, 100) for step in range(1, 12)]
    assert rates == sorted(rates)
    assert rates[0] > 0
    assert rates[-1] == 1.0


@pytest.mark.parametrize("decay", ["cosine", "linear"])
def test_decay_falls_to_the_final_share_at_the_last_step(decay):
    schedule = Schedule(decay=decay, warmup=0.1, final=0.2)
    rates = [factor(schedule, step, 50) for step in range(6, 51)]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(0.2)


def test_constant_keeps_the_full_rate():
    schedule = Schedule(decay="constant", warmup=0.0)
    assert {factor(schedule, step, 9) for step in range(1, 10)} == {1.0}


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_shortest_runs_train_at_a_positive_rate(steps):
    schedule = Schedule(warmup=0.9)
    assert warmup_steps(schedule, steps) < steps
    assert all(factor(schedule, step, steps) > 0 for step in range(1, steps + 1))
