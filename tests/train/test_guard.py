from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from glmtrain import model, settings
from glmtrain.guard import MOST_IN_A_ROW, WARM, Guard, Smoothed, Snapshot
from glmtrain.optimiser import RATE_FACTOR, clip, make, state_tensors
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

norms = st.lists(st.floats(0, 1e6) | st.sampled_from([math.nan, math.inf]), max_size=80)


def guard(spikes="skip", **changes):
    return Guard(settings.Guard(spikes=spikes, **changes))


def noise(count, seed=0, scale=0.2):
    return np.exp(np.random.default_rng(seed).normal(0, scale, count)).tolist()


def judged(watcher, values):
    return [watcher.judge(value) for value in values]


def test_a_norm_fifty_times_the_usual_is_skipped_and_those_after_it_are_not():
    values = noise(60)
    values[40] *= 50
    assert [n for n, v in enumerate(judged(guard(), values)) if v != "fine"] == [40]


@pytest.mark.parametrize("seed", range(5))
def test_usual_noise_is_never_a_spike(seed):
    assert set(judged(guard(), noise(2000, seed))) == {"fine"}


def test_norms_that_fall_or_drift_are_no_spikes():
    falling = [10 * 0.9**n for n in range(200)]
    rising = [1.02**n for n in range(200)]
    assert set(judged(guard(), falling)) == set(judged(guard(), rising)) == {"fine"}


def test_norms_that_hardly_vary_do_not_make_a_small_rise_a_spike():
    assert judged(guard(), [1.0] * 50 + [1.5, 2.0])[-2:] == ["fine", "skip"]


def test_nothing_is_a_spike_before_there_is_something_to_compare_with():
    assert set(judged(guard(), [*noise(WARM - 1), 1e6])) == {"fine"}
    assert judged(guard(), [*noise(WARM), 1e6])[-1] == "skip"


def test_a_new_level_is_accepted_after_a_few_steps():
    verdicts = judged(guard(), noise(50) + [100 * value for value in noise(50, seed=1)])
    assert verdicts[50:] == ["skip"] * MOST_IN_A_ROW + ["fine"] * (50 - MOST_IN_A_ROW)


def test_after_a_new_level_spikes_are_found_by_its_own_measure():
    watcher = guard()
    judged(watcher, noise(50) + [100 * value for value in noise(50, seed=1)])
    assert judged(watcher, [100.0, 5000.0, 100.0]) == ["fine", "skip", "fine"]


def test_a_norm_that_is_no_number_is_skipped_and_teaches_nothing():
    watcher = guard()
    judged(watcher, noise(50))
    before = watcher.state()
    assert judged(watcher, [math.nan, math.inf]) == ["skip", "skip"]
    assert watcher.state() == before


@pytest.mark.parametrize("small", [0.0, 1e-12])
def test_a_step_almost_without_gradient_does_not_blind_the_guard(small):
    assert judged(guard(), [*noise(50), small, 1.0, 50.0])[50:] == ["fine", "fine", "skip"]


@given(norms)
def test_without_a_guard_every_number_is_fine(values):
    verdicts = judged(guard("off"), values)
    assert verdicts == ["fine" if math.isfinite(value) else "skip" for value in values]


@given(norms, st.sampled_from(["skip", "rewind"]))
def test_no_more_than_a_few_actions_in_a_row(values, spikes):
    finite = [value for value in values if math.isfinite(value)]
    watcher = guard(spikes, z_score=0.5)
    watcher.snapshot_taken()
    text = "".join("." if verdict == "fine" else "x" for verdict in judged(watcher, finite))
    assert "x" * (MOST_IN_A_ROW + 1) not in text


@given(norms, st.integers(0, 80))
def test_state_goes_through_json_and_on_as_before(values, at):
    straight, stopped, resumed = (guard(z_score=1.0) for _ in range(3))
    before = judged(straight, values)
    first = judged(stopped, values[:at])
    resumed.restore(json.loads(json.dumps(stopped.state(), allow_nan=False)))
    assert first + judged(resumed, values[at:]) == before
    assert resumed.state() == straight.state()


def test_snapshots_are_due_at_first_and_then_every_so_many_steps():
    watcher = guard("rewind", memory=10)
    due = []
    for number, norm in enumerate(noise(31)):
        if watcher.snapshot_due:
            due.append(number)
            watcher.snapshot_taken()
        watcher.judge(norm)
    assert due == [0, 10, 20, 30]
    assert not guard("skip").snapshot_due


def test_a_snapshot_is_gone_back_to_once_and_none_is_taken_amid_spikes():
    watcher = guard("rewind", memory=5)
    watcher.snapshot_taken()
    judged(watcher, noise(50))
    assert watcher.snapshot_due
    assert judged(watcher, [80.0, 80.0]) == ["rewind", "skip"]
    assert not watcher.snapshot_due
    assert judged(watcher, [1.0, 80.0]) == ["fine", "skip"]
    watcher.judge(1.0)
    watcher.snapshot_taken()
    assert watcher.judge(80.0) == "rewind"


def test_without_a_snapshot_there_is_nothing_to_go_back_to():
    assert judged(guard("rewind"), [*noise(50), 80.0])[-1] == "skip"


def some_weights():
    torch.manual_seed(0)
    return {
        "mlp.weight": nn.Parameter(torch.randn(64, 96)),
        "norm.weight": nn.Parameter(torch.randn(32)),
    }


def train(parameters, made, steps):
    for number in steps:
        random = torch.Generator().manual_seed(number)
        for weight in parameters.values():
            weight.grad = torch.randn(weight.shape, generator=random)
        made.step()
        made.zero_grad()


@pytest.mark.parametrize("name", list(RATE_FACTOR))
@pytest.mark.parametrize("before", [0, 3])
def test_a_snapshot_makes_everything_as_it_was_each_time(name, before):
    parameters = some_weights()
    made = make(parameters, settings.Optimiser(name=name, learning_rate=0.01, weight_decay=0.1))
    train(parameters, made, range(before))
    snapshot = Snapshot()
    snapshot.take(parameters, made)
    weights = {key: weight.detach().clone() for key, weight in parameters.items()}
    state = state_tensors(made, parameters)
    for _ in range(2):
        train(parameters, made, range(before, before + 3))
        assert not torch.equal(parameters["mlp.weight"], weights["mlp.weight"])
        snapshot.put_back(parameters, made)
        assert all(torch.equal(parameters[key], weights[key]) for key in weights)
        now = state_tensors(made, parameters)
        assert now.keys() == state.keys()
        assert all(torch.equal(now[key], state[key]) for key in state)


def test_a_snapshot_of_adamw_is_twelve_bytes_a_weight():
    parameters = some_weights()
    made = make(parameters, settings.Optimiser(learning_rate=0.01, weight_decay=0.0))
    train(parameters, made, range(1))
    snapshot = Snapshot()
    snapshot.take(parameters, made)
    steps = 4 * len(parameters)
    assert snapshot.size == 12 * sum(weight.numel() for weight in parameters.values()) + steps


def losses(folder, spikes, steps=70, planted=45):
    """Train a model to count on; at one step the gradient is 50 times as large, and backwards."""
    with model.quiet_libraries():
        causal = model.load(str(folder), torch.float32)
    parameters = dict(causal.named_parameters())
    made = make(parameters, settings.Optimiser(learning_rate=3e-3, weight_decay=0.0))
    watcher, snapshot = guard(spikes, memory=10), Snapshot()
    random, found, actions = np.random.default_rng(0), [], {}
    for number in range(steps):
        if watcher.snapshot_due:
            snapshot.take(parameters, made)
            watcher.snapshot_taken()
        start = random.integers(0, 60, size=(8, 1))
        ids = torch.tensor(start + np.arange(24))
        loss = causal(input_ids=ids, labels=ids, use_cache=False).loss
        found.append(float(loss.detach()))
        (loss * (-50 if number == planted else 1)).backward()
        verdict = watcher.judge(clip(parameters.values(), 0.0))
        if verdict == "fine":
            made.step()
        else:
            actions[number] = verdict
        if verdict == "rewind":
            snapshot.put_back(parameters, made)
        made.zero_grad()
    return found, actions


def test_training_past_a_planted_spike_ends_lower_with_a_guard(small_model):
    alone, no_actions = losses(small_model, "off")
    skipped, skips = losses(small_model, "skip")
    rewound, rewinds = losses(small_model, "rewind")
    assert (no_actions, skips, rewinds) == ({}, {45: "skip"}, {45: "rewind"})
    assert alone[:46] == skipped[:46] == rewound[:46]
    assert np.mean(skipped[-5:]) < 0.7 * np.mean(alone[-5:])
    assert np.mean(rewound[-5:]) < 0.7 * np.mean(alone[-5:])


@given(st.lists(st.floats(0, 100), min_size=1, max_size=50), st.floats(1, 100))
def test_a_smooth_loss_lies_within_what_it_was_fed(values, half_life):
    smoothed = Smoothed(half_life)
    for value in values:
        last = smoothed.feed(value)
    assert min(values) - 1e-9 <= last <= max(values) + 1e-9


def test_a_smooth_loss_is_not_drawn_to_zero_at_first_and_halves_its_distance_in_a_half_life():
    smoothed = Smoothed(half_life=10)
    assert smoothed.feed(4.0) == pytest.approx(4.0)
    for _ in range(200):
        smoothed.feed(4.0)
    for _ in range(10):
        last = smoothed.feed(2.0)
    assert last == pytest.approx(3.0, abs=1e-4)


def test_a_smooth_loss_leaves_out_what_is_no_number():
    smoothed = Smoothed()
    assert smoothed.feed(math.nan) is None
    smoothed.feed(3.0)
    assert smoothed.feed(math.inf) == pytest.approx(3.0)


@given(st.lists(st.floats(0, 100), max_size=30), st.integers(0, 30))
def test_a_smooth_loss_goes_on_through_json_as_before(values, at):
    straight, stopped, resumed = Smoothed(), Smoothed(), Smoothed()
    before = [straight.feed(value) for value in values]
    first = [stopped.feed(value) for value in values[:at]]
    resumed.restore(json.loads(json.dumps(stopped.state())))
    assert first + [resumed.feed(value) for value in values[at:]] == before
