from __future__ import annotations

import numpy as np
import pytest
from glmprep import shards
from glmprep.errors import SuiteError
from glmtrain import data, devices, metrics
from glmtrain.config import build
from glmtrain.progress import Silent
from glmtrain.rehearsal import FOLDER, SAMPLE, STEPS, by_length, rehearse


@pytest.fixture
def rehearsed(settings):
    def rehearsed(**changes):
        merged = {name: {**settings.get(name, {}), **changes.get(name, {})} for name in settings}
        config = build([("test", {**changes, **merged})])
        with devices.join(config.devices) as place:
            return rehearse(config, place, Silent())

    return rehearsed


def test_a_rehearsal_trains_evaluates_and_judges_on_rows_of_all_lengths(rehearsed, settings):
    result = rehearsed(run={"max_steps": 9999})
    assert result.output.name == FOLDER
    assert result.last_step == STEPS
    assert result.learned.verdict == "learned"
    steps = metrics.read(result.output)
    assert sum(step["eval_loss"] is not None for step in steps) == 2
    sample = data.load([str(result.output / SAMPLE)])
    whole = data.load(settings["data"]["shards"])
    assert sample.rows.lengths.max() == whole.rows.lengths.max()
    assert sample.rows.lengths.min() == whole.rows.lengths.min()


def test_a_rehearsal_that_teaches_nothing_stops_there(rehearsed):
    with pytest.raises(SuiteError, match="the rehearsal did not learn"):
        rehearsed(optimiser={"learning_rate": 1e-9})


def test_rows_are_drawn_at_even_distances_of_their_lengths(bucketed):
    rows = data.load([str(bucketed)])
    chosen = by_length(rows, 5)
    assert len(set(chosen.tolist())) == 5
    lengths = rows.rows.lengths[chosen]
    assert (np.diff(lengths) >= 0).all()
    assert (lengths[0], lengths[-1]) == (rows.rows.lengths.min(), rows.rows.lengths.max())
    assert len(by_length(rows, 999)) == 24


def test_taken_rows_are_whole(packed):
    rows = data.load([str(packed)]).rows
    taken = shards.take(rows, np.array([5, 0]))
    assert taken.conversation_ids == [rows.conversation_ids[5], rows.conversation_ids[0]]
    first = slice(rows.offsets[5], rows.offsets[6])
    for name in shards.TOKEN_COLUMNS:
        column = getattr(taken, name)[: taken.offsets[1]]
        assert np.array_equal(column, getattr(rows, name)[first])
