from __future__ import annotations

import numpy as np
import pytest
import torch
from glmprep.errors import UsageError
from glmtrain import data
from glmtrain.batches import accumulated, collate, epoch_batches
from glmtrain.loss import IGNORED

PAD = 300
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def rows(bucketed):
    return data.load([str(bucketed)])


def test_every_row_is_in_one_batch_of_its_bucket(rows):
    batches = epoch_batches(rows, 128, seed=1, epoch=0)
    assert sorted(np.concatenate([batch.rows for batch in batches])) == list(range(24))
    assert all((rows.rows.bucket[batch.rows] == batch.bucket).all() for batch in batches)


def test_a_batch_keeps_to_the_token_budget(rows):
    for batch in epoch_batches(rows, 128, seed=1, epoch=0):
        assert collate(rows.rows, batch, PAD, CPU).computed <= 128


def test_a_row_beyond_the_budget_is_trained_whole_and_alone(rows):
    batches = epoch_batches(rows, 1, seed=1, epoch=0)
    lengths = [collate(rows.rows, batch, PAD, CPU).tokens for batch in batches]
    assert sorted(lengths) == sorted(rows.rows.lengths)


def test_order_follows_from_seed_and_epoch(rows):
    def order(seed, epoch):
        return [batch.rows.tolist() for batch in epoch_batches(rows, 128, seed, epoch)]

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)


@pytest.mark.parametrize("ranks", [2, 3, 5])
def test_ranks_share_the_rows_and_have_as_many_batches(rows, ranks):
    shares = [epoch_batches(rows, 128, 1, 0, ranks=ranks, rank=rank) for rank in range(ranks)]
    assert len({len(share) for share in shares}) == 1
    seen = [row for share in shares for batch in share for row in batch.rows.tolist()]
    assert sorted(seen) == list(range(24))


def test_the_number_of_batches_is_the_same_in_all_epochs(rows):
    counts = {len(epoch_batches(rows, 128, 1, epoch, ranks=2)) for epoch in range(9)}
    assert len(counts) == 1


def test_batches_come_in_the_order_of_the_shards(tmp_path, tools):
    random = np.random.default_rng(0)
    made = [[tools.conversation(random, turns)] for turns in (1, 5) * 12]
    config = {"order": "short-first", "mixing": 0.0}
    shards = tools.to_rows(made, [32, 128] * 12)
    folder = tools.write_shards(tmp_path / "s", shards, config=config)
    loaded = data.load([str(folder)])
    for epoch in range(3):
        buckets = [batch.bucket for batch in epoch_batches(loaded, 128, 1, epoch)]
        assert buckets == sorted(buckets)


def test_shards_for_different_orders_are_not_mixed(tmp_path, tools, bucketed):
    made = tools.to_rows([[tools.conversation(np.random.default_rng(0), 1)]], [32])
    folder = tools.write_shards(tmp_path / "s", made, config={"order": "length-mixed"})
    with pytest.raises(UsageError, match="another order of batches"):
        data.load([str(bucketed), str(folder)])


def test_attention_is_counted_by_segment(packed, bucketed):
    loaded = data.load([str(packed)])
    starts = np.flatnonzero(loaded.rows.position_ids == 0)
    segments = np.diff(starts, append=loaded.rows.offsets[-1]).reshape(8, 3)
    assert loaded.squares.tolist() == (segments**2).sum(axis=1).tolist()
    alone = data.load([str(bucketed)])
    assert alone.squares.tolist() == (alone.rows.lengths**2).tolist()


def test_rows_without_targets_are_left_out(tmp_path, tools):
    random = np.random.default_rng(0)
    kept, (ids, mask) = tools.conversation(random, 2), tools.conversation(random, 2)
    made = tools.to_rows([[(ids, [0] * len(mask))], [kept]], [64, 64])
    loaded = data.load([str(tools.write_shards(tmp_path / "s", made))])
    assert [batch.rows.tolist() for batch in epoch_batches(loaded, 999, 0, 0)] == [[1]]


def test_padding_is_masked_and_unlabelled(rows):
    batch = next(b for b in epoch_batches(rows, 128, 1, 0) if len(b.rows) > 1)
    inputs = collate(rows.rows, batch, PAD, CPU)
    assert inputs.input_ids.shape[1] == rows.rows.lengths[batch.rows].max()
    for place, row in enumerate(batch.rows):
        start, end = rows.rows.offsets[row], rows.rows.offsets[row + 1]
        real, mask = rows.rows.input_ids[start:end], rows.rows.loss_mask[start:end]
        assert inputs.attention_mask[place].tolist()[: len(real)] == [1] * len(real)
        assert inputs.attention_mask[place, len(real) :].sum() == 0
        assert (inputs.input_ids[place, len(real) :] == PAD).all()
        labels = np.where(mask == 1, real, IGNORED).tolist()
        assert inputs.labels[place].tolist()[: len(real)] == labels
        assert (inputs.labels[place, len(real) :] == IGNORED).all()
    assert inputs.supervised == rows.rows.supervised[batch.rows].sum()


def test_packed_rows_have_restarting_positions_and_no_mask(packed):
    loaded = data.load([str(packed)])
    batch = epoch_batches(loaded, 999, 0, 0)[0]
    inputs = collate(loaded.rows, batch, PAD, CPU)
    assert inputs.attention_mask is None
    starts = (inputs.position_ids == 0).sum(dim=1)
    padded = (loaded.rows.lengths[batch.rows] < inputs.input_ids.shape[1]).astype(int)
    assert starts.tolist() == (3 + padded).tolist()


def test_a_batch_without_labels_is_refused(rows):
    batch = epoch_batches(rows, 128, 1, 0)[0]
    blank = np.zeros_like(rows.rows.loss_mask)
    unlabelled = type(rows.rows)(
        **{n: getattr(rows.rows, n) for n in rows.rows.__slots__ if n != "loss_mask"},
        loss_mask=blank,
    )
    with pytest.raises(ValueError, match="no training target"):
        collate(unlabelled, batch, PAD, CPU)


def test_the_last_step_of_an_epoch_takes_what_is_left(rows):
    batches = epoch_batches(rows, 128, 1, 0)
    groups = accumulated(batches, 4)
    assert [b for group in groups for b in group] == batches
    assert {len(group) for group in groups[:-1]} == {4}
