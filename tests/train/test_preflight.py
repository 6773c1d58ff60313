from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from glmprep.errors import UsageError
from glmtrain import devices, model, preflight, rules
from glmtrain.config import build
from glmtrain.learner import Learner
from glmtrain.probe import DtypeCheck
from glmtrain.progress import Silent
from glmtrain.run import Mode, Training, train


@pytest.fixture
def training(settings):
    """A run that is ready to begin, with changed settings."""

    def training(**changes):
        merged = {name: {**settings.get(name, {}), **changes.get(name, {})} for name in settings}
        config = build([("test", {**changes, **merged})])
        with devices.join(config.devices) as place, model.quiet_libraries():
            return Training(config, (), Silent(), Mode(), place)

    return training


def found(training):
    """The rules that fire, without warnings on what the small model says of itself."""
    findings = preflight.check(
        training.place, training.strategy, training.data, training.course, training.precision
    )
    return [finding.rule for finding in findings]


def leak(monkeypatch):
    """Have models pass an all-ones mask, with which transformers lets segments see each other."""
    plain = Learner.states

    def states(self, inputs):
        mask = torch.ones_like(inputs.input_ids)
        return plain(self, dataclasses.replace(inputs, attention_mask=mask))

    monkeypatch.setattr(Learner, "states", states)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("method", ["lora", "full", "ptuning"])
def test_a_sound_run_is_not_complained_of(training, packed, dtype, method):
    data = {"shards": [str(packed)]}
    ready = training(data=data, precision={"dtype": dtype}, model={"method": method})
    before = {name: w.detach().clone() for name, w in ready.strategy.learning.items()}
    assert found(ready) == []
    assert ready.strategy.learner.training
    for name, weight in ready.strategy.learning.items():
        assert torch.equal(weight, before[name])
        assert weight.grad is None


def test_packed_segments_that_see_each_other_are_found(training, packed, monkeypatch):
    leak(monkeypatch)
    assert found(training(data={"shards": [str(packed)]})) == ["CF113"]


def test_leaks_do_not_matter_to_rows_that_are_not_packed(training, monkeypatch):
    leak(monkeypatch)
    assert found(training()) == []


def test_a_model_that_changes_its_logits_is_found(training, monkeypatch):
    ready = training()
    causal = ready.strategy.learner.causal
    plain = causal.forward

    def capped(**inputs):
        return SimpleNamespace(logits=10 * torch.tanh(plain(**inputs).logits))

    monkeypatch.setattr(causal, "forward", capped)
    assert found(ready) == ["CF112"]


def test_answers_that_never_stop_are_found(training, tools, tmp_path):
    random = np.random.default_rng(0)
    cut = [tools.conversation(random, 1) for _ in range(4)]
    rows = tools.to_rows([[(ids[:-1], mask[:-1])] for ids, mask in cut], [32] * 4)
    shards = tools.write_shards(tmp_path / "cut", rows)
    assert found(training(data={"shards": [str(shards)]})) == ["CF114"]


def test_a_batch_that_does_not_fit_is_found_before_the_first_step(training, monkeypatch):
    ready = training()

    def full(self, inputs, returns="sum"):
        if returns == "sum":
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return plain(self, inputs, returns)

    plain = Learner.forward
    monkeypatch.setattr(Learner, "forward", full)
    assert found(ready) == ["CF116"]


def test_an_error_keeps_the_run_from_starting_unless_forced(settings, packed, monkeypatch):
    leak(monkeypatch)
    config = build([("test", {**settings, "data": {"shards": [str(packed)]}})])

    def run(mode):
        with devices.join(config.devices) as place:
            return train(config, place, given=(), shown=Silent(), mode=mode)

    with pytest.raises(UsageError, match=r"^CF113: .* Or pass --force"):
        run(Mode())
    forced = run(Mode(force=True))
    assert "CF113" in [finding.rule for finding in forced.findings]


def checked(**facts):
    plain = {"dtype": "bfloat16", "native": True, "error": 0.0, "seconds": 1.0, "speedup": 2.0}
    return DtypeCheck(**{**plain, **facts})


@pytest.mark.parametrize(
    ("check", "accelerator", "fires"),
    [
        (None, True, False),
        (checked(), True, False),
        (checked(native=False), True, True),
        (checked(native=False), False, False),  # slow, but sound: what else is there on a CPU?
        (checked(error=0.5), False, True),
    ],
)
def test_a_format_that_the_device_cannot_compute_is_found(check, accelerator, fires):
    assert bool(rules.format_not_usable(check, accelerator=accelerator)) == fires


def test_generation_settings_that_stop_elsewhere_are_told_of():
    assert rules.model_stops_elsewhere([302], {302, 303}) == {"trained": "302, 303", "told": "302"}
    assert rules.model_stops_elsewhere([302, 303, 9], {302, 303}) is None
    assert rules.model_stops_elsewhere([], {302}) is None
