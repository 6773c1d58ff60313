from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from glmprep.errors import SuiteError
from glmtrain import config, devices, model
from glmtrain.loop import SKIPS_IN_A_ROW
from glmtrain.progress import Silent
from glmtrain.run import Mode, Training


@pytest.fixture
def make_loop(settings):
    def make(**changes):
        merged = {name: {**settings.get(name, {}), **changes.get(name, {})} for name in settings}
        chosen = config.build([("test", {**changes, **merged})])
        with devices.join(chosen.devices) as place, model.quiet_libraries():
            return Training(chosen, (), Silent(), Mode(overwrite=True), place).loop()

    return make


def weights(loop):
    return {name: weight.detach().clone() for name, weight in loop.strategy.learning.items()}


def poison(loop, monkeypatch, *, steps=99):
    """Have the loss of the first `steps` micro-batches be NaN."""
    plain, left = type(loop.strategy.learner).forward, [steps]

    def forward(self, inputs, returns="sum"):
        left[0] -= 1
        return plain(self, inputs, returns) * (float("nan") if left[0] >= 0 else 1.0)

    monkeypatch.setattr(type(loop.strategy.learner), "forward", forward)


def test_loss_falls(make_loop):
    losses = [step.loss for step in make_loop(run={"max_steps": 30}).steps(0)]
    assert losses[-1] < 0.7 * losses[0]


def test_packed_rows_are_learned_from_as_well(make_loop, packed):
    loop = make_loop(run={"max_steps": 20}, data={"shards": [str(packed)]})
    losses = [step.loss for step in loop.steps(0)]
    assert losses[-1] < 0.8 * losses[0]


def test_accumulating_four_batches_equals_one_batch_of_all(make_loop):
    """Two ways to see the same 24 rows in one step: one row at a time, or as many as fit."""
    single, several = ((1, 24), (9999, 4))
    one, other = (
        make_loop(
            data={"tokens_per_batch": tokens, "accumulate": count},
            run={"max_steps": 1},
            lora={"dropout": 0.0},
        )
        for tokens, count in (single, several)
    )
    (by_row,), (by_bucket,) = one.steps(0), other.steps(0)
    assert by_row.loss == pytest.approx(by_bucket.loss, rel=1e-5)
    assert by_row.grad_norm == pytest.approx(by_bucket.grad_norm, rel=1e-4)
    assert by_row.supervised_tokens == by_bucket.supervised_tokens
    changed = weights(other)
    for name, weight in weights(one).items():
        torch.testing.assert_close(weight, changed[name], rtol=1e-3, atol=1e-4)


def test_gradient_checkpointing_changes_no_number(make_loop):
    plain = [step.loss for step in make_loop().steps(0)]
    saving = make_loop(model={"gradient_checkpointing": True})
    assert all(
        layer.gradient_checkpointing for layer in saving.strategy.learner.causal.model.layers
    )
    assert [step.loss for step in saving.steps(0)] == plain


def test_each_row_is_trained_once_an_epoch(make_loop):
    loop = make_loop(run={"max_steps": 999, "epochs": 2})
    rows = [row for step in loop.steps(0) for row in step.rows]
    assert sorted(rows) == sorted([*range(24), *range(24)])


def test_learning_rate_and_clipping_are_as_planned(make_loop):
    loop = make_loop(optimiser={"max_grad_norm": 1e-9}, schedule={"warmup": 0.5, "final": 0.0})
    before = weights(loop)
    rates = [step.learning_rate for step in loop.steps(0)]
    assert rates[:4] == pytest.approx([0.005, 0.01, 0.015, 0.02])
    assert rates[-1] == 0
    assert all(torch.isfinite(weight).all() for weight in weights(loop).values())
    assert before.keys() == weights(loop).keys()


def test_a_step_with_a_nan_loss_changes_no_weight_and_is_noted(make_loop, monkeypatch):
    loop = make_loop()
    poison(loop, monkeypatch, steps=1)
    before, steps = weights(loop), loop.steps(0)
    first = next(steps)
    assert first.event == "skipped"
    assert first.as_json()["loss"] is None
    assert first.as_json()["nonfinite"] == "nan"
    assert [finding.rule for finding in first.findings] == ["LG001"]
    assert all(torch.equal(weight, before[name]) for name, weight in weights(loop).items())
    assert next(steps).event is None
    assert any(not torch.equal(weight, before[name]) for name, weight in weights(loop).items())


def test_step_after_step_without_a_number_ends_the_run(make_loop, monkeypatch):
    loop = make_loop(run={"max_steps": 20})
    poison(loop, monkeypatch)
    seen = []
    with pytest.raises(SuiteError, match=r"step 5: the loss was not a number .* --dtype fp32"):
        seen.extend(loop.steps(0))
    assert len(seen) == SKIPS_IN_A_ROW


def test_fp16_halves_its_scale_at_an_overflow_and_trains_on(make_loop):
    huge = {"dtype": "fp16", "initial_loss_scale": 2.0**40}
    steps = list(make_loop(precision=huge, run={"max_steps": 60}).steps(0))
    overflows = [step for step in steps if step.event == "overflow"]
    assert overflows
    assert steps[0].loss_scale == 2.0**40
    assert steps[1].loss_scale == 2.0**39
    assert steps[-1].event is None
    assert steps[-1].loss < 0.8 * steps[0].loss


def test_bf16_learns(make_loop):
    steps = list(make_loop(precision={"dtype": "bf16"}, run={"max_steps": 20}).steps(0))
    assert steps[-1].loss < 0.8 * steps[0].loss
    assert steps[0].loss_scale is None


def test_decay_spares_biases_and_norms(make_loop):
    loop = make_loop(model={"method": "full"}, optimiser={"weight_decay": 0.3})
    matrices, others = loop.strategy.optimiser.param_groups
    assert (matrices["weight_decay"], others["weight_decay"]) == (0.3, 0.0)
    assert {weight.ndim for weight in others["params"]} == {1}
    assert min(weight.ndim for weight in matrices["params"]) == 2


def test_guards_see_what_is_trained(make_loop, monkeypatch):
    loop = make_loop()
    fed = []
    monkeypatch.setattr(loop.watch, "feed", lambda step: fed.append(step) or [])
    steps = list(loop.steps(0))
    assert [(one.step, one.loss) for one in fed] == [(one.step, one.loss) for one in steps]


def test_metrics_count_real_labelled_and_padded_tokens(make_loop):
    loop = make_loop(data={"accumulate": 3}, run={"max_steps": 1})
    (step,) = loop.steps(0)
    rows = list(step.rows)
    assert step.tokens == loop.data.rows.lengths[rows].sum()
    assert step.supervised_tokens == loop.data.rows.supervised[rows].sum()
    assert 0 <= step.padding < 0.5
    assert step.bucket == loop.data.rows.bucket[rows].max()
    assert replace(step, loss=float("inf")).as_json()["nonfinite"] == "inf"
