from __future__ import annotations

import numpy as np
import pytest
import torch
from glmtrain import data
from glmtrain.batches import Batch, collate
from glmtrain.course import Course
from glmtrain.loss import IGNORED
from glmtrain.settings import Data

PAD = 300
CPU = torch.device("cpu")


def batches_of(rows):
    made = Course(rows, Data(tokens_per_batch=128), seed=1).batches(0)
    return [place[0] for place in made]


@pytest.fixture(scope="module")
def rows(bucketed):
    return data.load([str(bucketed)])


def test_attention_is_counted_by_segment(packed, bucketed):
    loaded = data.load([str(packed)])
    starts = np.flatnonzero(loaded.rows.position_ids == 0)
    segments = np.diff(starts, append=loaded.rows.offsets[-1]).reshape(8, 3)
    assert loaded.squares.tolist() == (segments**2).sum(axis=1).tolist()
    alone = data.load([str(bucketed)])
    assert alone.squares.tolist() == (alone.rows.lengths**2).tolist()


def test_padding_is_masked_and_unlabelled(rows):
    batch = next(b for b in batches_of(rows) if len(b.rows) > 1)
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
    batch = batches_of(loaded)[0]
    inputs = collate(loaded.rows, batch, PAD, CPU)
    assert inputs.attention_mask is None
    starts = (inputs.position_ids == 0).sum(dim=1)
    padded = (loaded.rows.lengths[batch.rows] < inputs.input_ids.shape[1]).astype(int)
    assert starts.tolist() == (3 + padded).tolist()


def test_a_batch_without_labels_is_refused(rows):
    batch = batches_of(rows)[0]
    blank = np.zeros_like(rows.rows.loss_mask)
    unlabelled = type(rows.rows)(
        **{n: getattr(rows.rows, n) for n in rows.rows.__slots__ if n != "loss_mask"},
        loss_mask=blank,
    )
    with pytest.raises(ValueError, match="no training target"):
        collate(unlabelled, batch, PAD, CPU)


def test_a_batch_without_rows_takes_part_without_a_label(rows):
    empty = Batch(rows=np.array([], dtype=np.int64), bucket=0, packed=False)
    inputs = collate(rows.rows, empty, PAD)
    assert inputs.input_ids.tolist() == [[PAD, PAD]]
    assert (inputs.tokens, inputs.supervised) == (0, 0)
