from __future__ import annotations

from itertools import pairwise

import pytest
from glmtrain.schedule import factor, warmup_steps
from glmtrain.settings import Schedule
from hypothesis import given
from hypothesis import strategies as st

DECAYS = ["cosine", "linear", "constant", "wsd"]
shares = st.floats(0, 1)
schedules = st.builds(
    Schedule,
    decay=st.sampled_from(DECAYS),
    warmup=st.floats(0, 1, exclude_max=True),
    final=shares,
    cooldown=st.floats(0, 1, exclude_min=True),
)


def course(schedule, steps):
    return [factor(schedule, step, steps) for step in range(1, steps + 1)]


@given(schedules, st.integers(1, 400))
def test_rate_is_positive_and_never_above_full(schedule, steps):
    rates = course(schedule, steps)
    assert all(0 <= rate <= 1 for rate in rates)
    assert all(rate > 0 for rate in rates[:-1])
    assert 1.0 in rates


@given(schedules, st.integers(1, 400))
def test_rate_rises_in_even_steps_to_full_and_never_again(schedule, steps):
    rates = course(schedule, steps)
    warmup = warmup_steps(schedule, steps)
    assert rates[warmup] == 1.0
    assert rates[: warmup + 1] == pytest.approx([n / (warmup + 1) for n in range(1, warmup + 2)])
    falling = rates[warmup:]
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(falling))


@given(schedules, st.integers(2, 400))
def test_decay_ends_at_the_final_share(schedule, steps):
    if schedule.decay == "constant" or warmup_steps(schedule, steps) == steps - 1:
        assert factor(schedule, steps, steps) == 1.0
    else:
        assert factor(schedule, steps, steps) == pytest.approx(schedule.final)


@given(schedules, st.integers(50, 400))
def test_rate_makes_no_jumps(schedule, steps):
    """The steepest place is the first step of wsd's cooldown: the root of a share of it."""
    rates, warmup = course(schedule, steps), warmup_steps(schedule, steps)
    falling = rates[warmup:]
    cooldown = max(1, sum(rate < 1 for rate in falling))
    jumps = [abs(later - earlier) for earlier, later in pairwise(falling)]
    bound = cooldown**-0.5 if schedule.decay == "wsd" else 2 / cooldown
    assert max(jumps, default=0.0) <= bound + 1e-9


def test_wsd_stays_full_until_its_cooldown():
    schedule = Schedule(decay="wsd", warmup=0.1, cooldown=0.2, final=0.0)
    rates = course(schedule, 100)
    assert set(rates[10:80]) == {1.0}
    assert rates[80] == pytest.approx(1 - (1 / 20) ** 0.5)
    assert rates[84] == pytest.approx(0.5)
    assert rates[99] == 0.0


def test_cosine_and_linear_are_half_way_in_the_middle():
    for decay in ("cosine", "linear"):
        schedule = Schedule(decay=decay, warmup=0.0, final=0.2)
        assert factor(schedule, 51, 101) == pytest.approx(0.6)


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("decay", DECAYS)
def test_shortest_runs_train_at_a_positive_rate(steps, decay):
    schedule = Schedule(warmup=0.9, decay=decay)
    assert warmup_steps(schedule, steps) < steps
    assert all(rate > 0 for rate in course(schedule, steps))
