from __future__ import annotations

import numpy as np
import pytest
from glmprep.errors import UsageError
from glmtrain import data, settings
from glmtrain.batches import collate
from glmtrain.course import Course
from hypothesis import given
from hypothesis import strategies as st

PAD = 300


@pytest.fixture(scope="module")
def rows(bucketed):
    return data.load([str(bucketed)])


def course(rows, tokens=128, *, seed=1, ranks=1, **chosen):
    return Course(rows, settings.Data(tokens_per_batch=tokens, **chosen), seed=seed, ranks=ranks)


def of_rank(made, epoch=0, rank=0):
    return [place[rank] for place in made.batches(epoch)]


def seen(made, epoch=0):
    return [row for place in made.batches(epoch) for batch in place for row in batch.rows.tolist()]


def test_every_row_is_in_one_batch_of_its_bucket(rows):
    made = course(rows)
    assert sorted(seen(made)) == list(range(24))
    assert all((rows.rows.bucket[b.rows] == b.bucket).all() for b in of_rank(made))


def test_a_batch_keeps_to_the_token_budget(rows):
    for batch in of_rank(course(rows)):
        assert collate(rows.rows, batch, PAD).computed <= 128


def test_a_row_beyond_the_budget_is_trained_whole_and_alone(rows):
    lengths = [collate(rows.rows, batch, PAD).tokens for batch in of_rank(course(rows, 1))]
    assert sorted(lengths) == sorted(rows.rows.lengths)


def test_order_follows_from_seed_and_epoch(rows):
    def order(seed, epoch):
        return [batch.rows.tolist() for batch in of_rank(course(rows, seed=seed), epoch)]

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)


@pytest.mark.parametrize("ranks", [2, 3, 5])
def test_ranks_share_the_rows_and_have_as_many_batches(rows, ranks):
    made = course(rows, ranks=ranks)
    assert {len(place) for place in made.batches(0)} == {ranks}
    assert sorted(seen(made)) == list(range(24))


def test_the_number_of_steps_is_the_same_in_all_epochs_without_weights(rows):
    made = course(rows, ranks=2)
    assert {len(made.batches(epoch)) for epoch in range(9)} == {made.steps_in(5)}


def test_batches_come_in_the_order_of_the_shards_unless_asked_otherwise(tmp_path, tools):
    random = np.random.default_rng(0)
    made = [[tools.conversation(random, turns)] for turns in (1, 5) * 12]
    config = {"order": "short-first", "mixing": 0.0}
    shards = tools.to_rows(made, [32, 128] * 12)
    folder = tools.write_shards(tmp_path / "s", shards, config=config)
    loaded = data.load([str(folder)])

    def buckets(epoch, **chosen):
        return [batch.bucket for batch in of_rank(course(loaded, **chosen), epoch)]

    assert all(buckets(epoch) == sorted(buckets(epoch)) for epoch in range(3))
    others = [buckets(epoch, order="shuffled") for epoch in range(3)]
    assert any(order != sorted(order) for order in others)
    assert any(buckets(e, mixing=1.0) != sorted(buckets(e, mixing=1.0)) for e in range(3))


def test_shards_for_different_orders_need_one_that_is_asked_for(tmp_path, tools, bucketed):
    made = tools.to_rows([[tools.conversation(np.random.default_rng(0), 1)]], [32])
    folder = tools.write_shards(tmp_path / "s", made, config={"order": "length-mixed"})
    both = data.load([str(bucketed), str(folder)])
    with pytest.raises(UsageError, match="another order of batches"):
        course(both)
    assert len(seen(course(both, order="shuffled"))) == 25


def test_rows_without_targets_are_left_out(tmp_path, tools):
    random = np.random.default_rng(0)
    kept, (ids, mask) = tools.conversation(random, 2), tools.conversation(random, 2)
    made = tools.to_rows([[(ids, [0] * len(mask))], [kept]], [64, 64])
    loaded = data.load([str(tools.write_shards(tmp_path / "s", made))])
    assert seen(course(loaded)) == [1]


def test_the_last_step_of_an_epoch_takes_what_is_left(rows):
    made = course(rows, accumulate=4)
    steps = list(made.work(0, made.steps_in(0)))
    assert [b for step in steps for b in step.batches] == of_rank(made)
    assert {len(step.batches) for step in steps[:-1]} == {4}
    assert steps[-1].epoch == 1.0


def test_labels_of_a_step_are_counted_over_all_processes(rows):
    made = course(rows, ranks=2, accumulate=2)
    shares = [list(made.work(0, 3, rank)) for rank in range(2)]
    for one, other in zip(*shares, strict=True):
        both = [*one.batches, *other.batches]
        labels = sum(collate(rows.rows, batch, PAD).supervised for batch in both)
        assert one.supervised == other.supervised == labels


@given(st.integers(0, 40), st.sampled_from([(), ("40:64", "100:256")]), st.sampled_from([1, 3]))
def test_a_resumed_run_does_what_a_straight_one_would(rows, done, stages, accumulate):
    made = course(rows, stages=stages, accumulate=accumulate)
    fresh = course(rows, stages=stages, accumulate=accumulate)
    straight = list(made.work(0, 45))[done:]
    resumed = list(fresh.work(done, 45))
    assert [w.number for w in resumed] == list(range(done + 1, 46))
    for one, other in zip(straight, resumed, strict=True):
        assert (one.number, one.epoch) == (other.number, other.epoch)
        assert [b.rows.tolist() for b in one.batches] == [b.rows.tolist() for b in other.batches]


def test_stages_take_short_rows_in_batches_of_their_own_size_first(rows):
    made = course(rows, stages=("30:60", "60:240"))
    lengths = [rows.rows.lengths[batch.rows] for batch in of_rank(made)]
    short = [bool((each <= 30).all()) for each in lengths]
    assert short == sorted(short, reverse=True)
    assert sorted(seen(made)) == list(range(24))
    assert made.budget == 240
    assert max(len(each) for each, is_short in zip(lengths, short, strict=True) if is_short) <= 2


@pytest.mark.parametrize("stages", [("x:1",), ("10:0",), ("20:64", "10:64"), ("10",)])
def test_stages_that_are_none_are_refused(rows, stages):
    with pytest.raises(UsageError, match=r"data\.stages"):
        course(rows, stages=stages)


def test_an_epoch_holds_each_folder_by_its_weight(bucketed, packed):
    both = data.load([f"{bucketed}:0.25", f"{packed}:0.75"])
    made = course(both)
    trained = both.rows.supervised
    total = trained.sum()
    for epoch in range(4):
        taken = np.array(seen(made, epoch))
        of_first = trained[taken[taken < 24]].sum()
        assert trained[taken].sum() == pytest.approx(total, rel=0.2)
        assert of_first / trained[taken].sum() == pytest.approx(0.25, abs=0.06)


def test_rows_of_a_large_folder_come_before_any_of_them_comes_again(bucketed, packed):
    made = course(data.load([f"{bucketed}:0.2", f"{packed}:0.8"]))
    several = [row for epoch in range(6) for row in seen(made, epoch) if row < 24]
    times = np.bincount(several, minlength=24)
    assert times.max() - times.min() <= 1


def test_what_is_replayed_has_its_share_of_the_trained_tokens(bucketed, packed):
    both = data.load([str(bucketed)], [f"{packed}:0.4"])
    trained, taken = both.rows.supervised, np.array(seen(course(both)))
    assert sorted(taken[taken < 24]) == list(range(24))
    share = trained[taken[taken >= 24]].sum() / trained[taken].sum()
    assert share == pytest.approx(0.4, abs=0.05)


def test_the_longest_batch_is_the_one_that_computes_most(rows):
    made = course(rows)
    computed = [collate(rows.rows, batch, PAD).computed for batch in of_rank(made)]
    assert collate(rows.rows, made.longest(), PAD).computed == max(computed)
