from __future__ import annotations

import json
import math

import pytest
from glmtrain.patience import Patience
from glmtrain.settings import Evaluation
from hypothesis import given
from hypothesis import strategies as st

losses = st.lists(st.floats(0, 20) | st.just(math.nan), max_size=30)


def fed(values, **changes):
    patience = Patience(Evaluation(**changes))
    for step, loss in enumerate(values):
        patience.feed(step, loss)
    return patience


@given(losses, st.floats(0, 0.5))
def test_best_is_the_first_of_the_lowest_losses(values, least):
    patience = fed(values, least=least)
    numbers = [loss for loss in values if not math.isnan(loss)]
    assert patience.best == min(numbers, default=None)
    assert patience.best_step == (values.index(min(numbers)) if numbers else None)


@given(losses)
def test_a_run_that_may_not_stop_early_never_does(values):
    assert not fed(values, patience=0).exhausted
    assert not fed(values, patience=None).exhausted


@given(losses, st.integers(0, 30))
def test_state_goes_through_json_and_on_as_before(values, at):
    straight = fed(values, patience=2)
    stopped = fed(values[:at], patience=2)
    resumed = Patience(Evaluation(patience=2))
    resumed.restore(json.loads(json.dumps(stopped.state(), allow_nan=False)))
    for step, loss in enumerate(values[at:], start=min(at, len(values))):
        resumed.feed(step, loss)
    assert resumed.state() == straight.state()
    assert resumed.exhausted == straight.exhausted


def test_run_ends_after_so_many_evaluations_that_are_not_better():
    patience = Patience(Evaluation(patience=2, least=0.01))
    seen = []
    for step, loss in enumerate([3.0, 2.0, 2.1, 1.999, 1.0]):
        patience.feed(step, loss)
        seen.append(patience.exhausted)
    assert seen == [False, False, False, True, False]


def test_a_fall_too_small_to_matter_is_the_best_but_does_not_renew_patience():
    patience = Patience(Evaluation(patience=3, least=0.01))
    assert patience.feed(1, 2.0)
    assert patience.feed(2, 1.99)
    assert (patience.best_step, patience.waited) == (2, 1)


def test_small_falls_add_up():
    patience = fed([2.0, 1.99, 1.98, 1.97], patience=3, least=0.01)
    assert patience.waited == 1  # 1.98 is a hundredth below 2.0
    assert patience.best == 1.97


def test_losses_that_are_no_numbers_use_patience_up():
    patience = fed([2.0, math.nan, math.nan], patience=2)
    assert patience.exhausted
    assert patience.best == 2.0


def test_state_without_a_part_is_refused():
    patience = Patience(Evaluation())
    state = patience.state()
    del state["waited"]
    with pytest.raises(KeyError, match="waited"):
        patience.restore(state)
