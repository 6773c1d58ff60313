from __future__ import annotations

import math

import pytest
import torch
from glmtrain import data, learned, methods, model, precision, settings
from glmtrain.learned import Learned


@pytest.fixture(scope="module")
def rows(bucketed):
    return data.load([str(bucketed)])


@pytest.mark.parametrize(
    ("after", "verdict"),
    [
        (1.9, "learned"),
        (1.97, "unchanged"),
        (2.03, "unchanged"),
        (2.1, "worse"),
        (math.nan, "worse"),
    ],
)
def test_the_verdict_follows_the_loss(after, verdict):
    compared = Learned(before=2.0, after=after, rows=3, tokens=100)
    assert compared.verdict == verdict
    assert bool(learned.judge(compared)) == (verdict != "learned")


def test_a_loss_that_is_not_a_number_is_null_in_json():
    assert Learned(before=2.0, after=math.nan, rows=1, tokens=1).as_json()["after"] is None


def test_the_sample_is_the_same_each_time_and_just_large_enough(rows):
    sample = [int(batch.rows[0]) for batch in learned.sample(rows, 60, seed=3)]
    assert sample == [int(batch.rows[0]) for batch in learned.sample(rows, 60, seed=3)]
    assert rows.rows.supervised[sample].sum() >= 60 > rows.rows.supervised[sample[:-1]].sum()


def test_a_sample_larger_than_the_data_is_all_of_it(rows):
    assert len(learned.sample(rows, 10**9, seed=3)) == len(rows.rows)


def test_measuring_changes_nothing_and_is_the_mean_over_labelled_tokens(rows, small_model):
    with model.quiet_libraries():
        loaded = model.load(str(small_model), torch.float32)
    trainable = methods.prepare(
        loaded, settings.Config(model=settings.Model(method="full")), torch.float32
    )
    in_dtype = precision.choose(settings.Precision(dtype="fp32"), torch.device("cpu"))
    batches = learned.sample(rows, 10**9, seed=3)
    first, tokens = learned.mean_loss(trainable, rows, batches, in_dtype)
    again, _ = learned.mean_loss(trainable, rows, batches[::-1], in_dtype)
    assert first == pytest.approx(again, rel=1e-6)
    assert tokens == rows.rows.loss_mask.sum()
    assert loaded.training
    assert all(weight.grad is None for weight in loaded.learning())
