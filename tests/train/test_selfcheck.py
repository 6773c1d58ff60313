from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import pytest
import torch
from glmprep.errors import UsageError
from glmtrain import data, model, precision, selfcheck, settings
from glmtrain.learner import Learner

CPU = torch.device("cpu")


class Leaking(Learner):
    """Passes an all-ones mask, with which transformers lets segments see each other."""

    def states(self, inputs):
        mask = torch.ones_like(inputs.input_ids)
        return super().states(dataclasses.replace(inputs, attention_mask=mask))


@pytest.fixture
def base(small_model):
    with model.quiet_libraries():
        return model.load(str(small_model), torch.float32)


@pytest.fixture(params=["fp32", "bf16"])
def in_dtype(request):
    return precision.choose(settings.Precision(dtype=request.param), CPU)


def test_a_sound_model_passes(base, packed, in_dtype):
    trainable = Learner(base, dtype=in_dtype.dtype)
    selfcheck.check(trainable, data.load([str(packed)]), in_dtype)
    assert base.training


def test_packed_segments_that_see_each_other_are_refused(base, packed, in_dtype):
    with pytest.raises(UsageError, match="packed rows leak"):
        selfcheck.check(Leaking(base, dtype=in_dtype.dtype), data.load([str(packed)]), in_dtype)


def test_leaks_do_not_matter_to_rows_that_are_not_packed(base, bucketed, in_dtype):
    selfcheck.check(Leaking(base, dtype=in_dtype.dtype), data.load([str(bucketed)]), in_dtype)


def test_a_model_that_changes_its_logits_is_refused(base, bucketed, monkeypatch, in_dtype):
    plain = base.forward

    def capped(**inputs):
        return SimpleNamespace(logits=10 * torch.tanh(plain(**inputs).logits))

    monkeypatch.setattr(base, "forward", capped)
    trainable = Learner(base, dtype=in_dtype.dtype)
    with pytest.raises(UsageError, match="this model is not supported"):
        selfcheck.check(trainable, data.load([str(bucketed)]), in_dtype)
