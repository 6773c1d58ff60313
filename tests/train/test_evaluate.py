"""Loss on shards, against a loop over tokens."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import chain, pairwise

import numpy as np
import pytest
import torch
from glmreport.text import Literal
from glmtrain import data, model
from glmtrain.evaluate import GROUPS, Groups, Marks, Sums, answer_begins, drawn, losses
from glmtrain.learner import Learner
from glmtrain.loss import Objective
from glmtrain.precision import Precision

USER, TOOL, THOUGHT = 302, 304, 305
FP32 = Precision(
    dtype=torch.float32, device=torch.device("cpu"), reason=Literal("asked for"), scaler=None
)


@pytest.fixture(scope="module", params=["bucketed", "packed"])
def shards(request):
    return data.load([str(request.getfixturevalue(request.param))])


@pytest.fixture(scope="module")
def causal(small_model):
    with model.quiet_libraries():
        return model.load(str(small_model), torch.float32)


@pytest.fixture(scope="module")
def learner(causal):
    return Learner(causal, objective=Objective(dtype=torch.float32))


def batches(shards, ranks=1, rank=0, tokens=10**9):
    places = drawn(shards, tokens, tokens_per_batch=256, seed=7, ranks=ranks)
    return [place[rank] for place in places]


@pytest.fixture(scope="module")
def found(shards, learner):
    return losses(learner, shards, batches(shards), FP32)


def segments(rows):
    """(row, start, ids, mask) of each conversation."""
    for row in range(len(rows)):
        start, end = rows.offsets[row], rows.offsets[row + 1]
        begins = [*np.flatnonzero(rows.position_ids[start:end] == 0), end - start]
        for first, last in pairwise(begins):
            part = slice(start + first, start + last)
            yield row, int(first), rows.input_ids[part].tolist(), rows.loss_mask[part].tolist()


def naive(shards, causal):
    """For each labelled token: row, position, loss, length, turn, place; one at a time."""
    told = []
    for row, start, ids, mask in segments(shards.rows):
        with torch.no_grad():
            scores = causal(torch.tensor([ids])).logits[0].log_softmax(-1)
        turn, place = -1, 0
        for at in range(1, len(ids)):
            if not mask[at]:
                continue
            if not mask[at - 1] or ids[at - 1] == USER:
                turn, place = turn + 1, 0
            place += 1
            loss = -float(scores[at - 1, ids[at]])
            told.append((row, start + at, loss, len(ids), turn, place))
    return told


def test_each_loss_is_that_of_the_token_by_itself(shards, found, causal):
    expected = {(row, at): loss for row, at, loss, *_ in naive(shards, causal)}
    got = dict(
        zip(zip(found.row.tolist(), found.position.tolist(), strict=True), found.loss, strict=True)
    )
    assert got.keys() == expected.keys()
    assert all(got[key] == pytest.approx(expected[key], abs=2e-5) for key in expected)


def test_groups_are_those_of_a_loop_over_tokens(shards, found, causal):
    groups = Groups(shards, Marks(stops=[USER]))
    sums = groups.sums(found)
    told = naive(shards, causal)
    short, _medium = groups.edges

    def mean(chosen):
        return np.mean([token[2] for token in told if chosen(*token[3:])])

    expected = {
        ("length", "short"): mean(lambda length, turn, place: length <= short),
        ("turn", "first"): mean(lambda length, turn, place: turn == 0),
        ("turn", "second"): mean(lambda length, turn, place: turn == 1),
        ("place", "1"): mean(lambda length, turn, place: place == 1),
        ("place", "2-4"): mean(lambda length, turn, place: 2 <= place <= 4),
        ("all", "all"): mean(lambda length, turn, place: True),
    }
    for (by, name), value in expected.items():
        assert sums.means(by)[name].value == pytest.approx(value, abs=2e-5), (by, name)


@pytest.mark.parametrize("by", GROUPS)
def test_the_groups_of_each_kind_sum_to_the_whole(shards, found, by):
    sums = Groups(shards, Marks(stops=[USER])).sums(found)
    means = sums.means(by).values()
    assert sum(each.tokens for each in means) == sums.all.tokens == shards.rows.loss_mask.sum()
    total = sum(each.value * each.tokens for each in means)
    assert total == pytest.approx(sums.all.value * sums.all.tokens, rel=1e-12)
    assert sums.all.value == pytest.approx(found.loss.mean(), rel=1e-12)


def test_perplexity_is_the_exponential_of_the_mean_loss(shards, found):
    whole = Groups(shards, Marks(stops=[USER])).sums(found).all
    assert whole.perplexity == math.exp(found.loss.mean())
    assert whole.as_json()["perplexity"] == whole.perplexity


def test_shares_of_two_processes_add_up_to_the_whole(shards, found, learner):
    groups = Groups(shards, Marks(stops=[USER]))
    parts = [
        groups.sums(losses(learner, shards, batches(shards, ranks=2, rank=rank), FP32))
        for rank in range(2)
    ]
    assert (parts[0] + parts[1]).array == pytest.approx(groups.sums(found).array, rel=1e-5)


def test_a_process_without_rows_adds_nothing(shards, learner):
    ranks = len(shards.rows) + 1
    parts = [
        losses(learner, shards, batches(shards, ranks=ranks, rank=rank), FP32)
        for rank in range(ranks)
    ]
    assert min(len(part.loss) for part in parts) == 0
    groups = Groups(shards, Marks(stops=[USER]))
    tokens = sum(groups.sums(part).array[0, 1] for part in parts)
    assert tokens == shards.rows.loss_mask.sum()


def test_measuring_leaves_the_model_as_it_was(shards, learner):
    for training in (True, False):
        learner.train(training)
        losses(learner, shards, batches(shards)[:1], FP32)
        assert learner.training is learner.causal.training is training
    assert all(weight.grad is None for weight in learner.parameters())


def test_bf16_gives_about_the_same(shards, small_model, found):
    with model.quiet_libraries():
        causal = model.load(str(small_model), torch.bfloat16)
    half = replace(FP32, dtype=torch.bfloat16)
    learner = Learner(causal, objective=Objective(dtype=torch.bfloat16))
    rounded = losses(learner, shards, batches(shards), half)
    assert rounded.loss == pytest.approx(found.loss, abs=0.5)
    assert rounded.loss.mean() == pytest.approx(found.loss.mean(), rel=0.01)


def test_drawn_batches_follow_from_the_seed_and_hold_what_was_asked_for(shards):
    wanted = int(shards.rows.loss_mask.sum()) // 2
    some = batches(shards, tokens=wanted)
    again = batches(shards, tokens=wanted)
    assert [b.rows.tolist() for b in some] == [b.rows.tolist() for b in again]
    held = [int(shards.rows.supervised[batch.rows].sum()) for batch in some]
    assert sum(held) >= wanted > sum(held[:-1])
    assert sorted(chain.from_iterable(b.rows.tolist() for b in batches(shards))) == list(
        range(len(shards.rows))
    )


def test_the_standard_error_is_that_of_means_of_resampled_rows(shards, found):
    rows = np.unique(found.row)
    totals = np.bincount(found.row, found.loss)[rows]
    counts = np.bincount(found.row)[rows]
    random = np.random.default_rng(0)
    chosen = random.integers(0, len(rows), (4000, len(rows)))
    means = totals[chosen].sum(1) / counts[chosen].sum(1)
    error = Groups(shards, Marks(stops=[USER])).sums(found).all.error
    # Resampling has no correction for the number of rows.
    assert error == pytest.approx(means.std() * math.sqrt(len(rows) / (len(rows) - 1)), rel=0.08)


def test_the_gap_is_long_minus_short(shards, found):
    sums = Groups(shards, Marks(stops=[USER])).sums(found)
    means = sums.means("length")
    if "long" not in means or "short" not in means:
        pytest.fail("these shards hold conversations of different lengths")
    gap, error = sums.gap
    assert gap == means["long"].value - means["short"].value
    assert error == math.hypot(means["long"].error, means["short"].error)


def test_there_is_no_gap_where_all_are_of_one_length_and_no_error_for_one_row():
    sums = Sums(np.zeros((sum(map(len, GROUPS.values())), 6)))
    assert sums.gap is None
    with pytest.raises(ValueError, match="no labelled token"):
        _ = sums.all
    sums.array[0] = [1, 2, 3.0, 9.0, 6.0, 4.0]
    assert (sums.all.value, math.isnan(sums.all.error)) == (1.5, True)


def test_kinds_are_told_by_what_ends_a_call_and_a_thought(tools, tmp_path, causal):
    #        start user        assistant  (call)     tool     (thought…)         (answer)
    ids = [301, 302, 1, 303, 10, 11, TOOL, 12, 303, 20, 21, THOUGHT, 22, 23, 24, USER]
    mask = [0, 0, 0, 0, 1, 1, 1, 0, 0, 1, 1, 1, 1, 1, 1, 1]
    rows = tools.to_rows([[(ids, mask)]], [32])
    shards = data.load([str(tools.write_shards(tmp_path / "s", rows, stop_ids=[USER, TOOL]))])
    marks = Marks(stops=[USER, TOOL], calls=TOOL, thought=THOUGHT)
    learner = Learner(causal, objective=Objective(dtype=torch.float32))
    found = losses(learner, shards, batches(shards), FP32)
    means = Groups(shards, marks).sums(found).means("kind")
    assert {name: each.tokens for name, each in means.items()} == {
        "tool_call": 3,
        "reasoning": 3,
        "text": 4,
    }
    assert means["tool_call"].value == pytest.approx(found.loss[:3].mean(), rel=1e-12)
    assert means["reasoning"].value == pytest.approx(found.loss[3:6].mean(), rel=1e-12)


def test_an_answer_begins_behind_context_and_behind_a_stop():
    ids = np.array([301, 5, 6, USER, 7, USER, 8, 9], dtype=np.int32)
    trained = np.array([0, 0, 1, 1, 1, 1, 0, 1]) == 1
    first = np.arange(8) == 0
    begins = answer_begins(ids, trained, first, [USER])
    assert np.flatnonzero(begins).tolist() == [2, 4, 7]
