from __future__ import annotations

import numpy as np
import pytest
from glmprep.shards import TOKEN_COLUMNS
from glmtrain import columns, data
from glmtrain.course import Course
from glmtrain.settings import Data


@pytest.fixture
def large(monkeypatch):
    """Has all data count as large."""
    monkeypatch.setattr(columns, "MAPPED_FROM", 1)


def test_mapped_rows_are_those_of_the_shards(bucketed, packed, tmp_path, large):
    folders = [str(bucketed), str(packed)]
    plain, mapped = data.load(folders), data.load(folders, unpacked=tmp_path / "rows")
    assert all(isinstance(getattr(mapped.rows, name), np.memmap) for name in TOKEN_COLUMNS)
    for name in (*TOKEN_COLUMNS, "offsets", "bucket", "supervised"):
        assert np.array_equal(getattr(plain.rows, name), getattr(mapped.rows, name))
    asked = Data(tokens_per_batch=256)
    one, other = (Course(rows, asked, seed=3).batches(0) for rows in (plain, mapped))
    assert [b.rows.tolist() for [b] in one] == [b.rows.tolist() for [b] in other]


def test_other_processes_read_what_the_first_unpacked(bucketed, tmp_path, large):
    first = data.load([str(bucketed)], unpacked=tmp_path / "rows")
    written = (tmp_path / "rows" / "input_ids").stat().st_mtime_ns
    second = data.load([str(bucketed)], unpacked=tmp_path / "rows", first=False)
    assert np.array_equal(first.rows.input_ids, second.rows.input_ids)
    assert (tmp_path / "rows" / "input_ids").stat().st_mtime_ns == written


def test_small_data_is_not_unpacked(bucketed, tmp_path):
    data.load([str(bucketed)], unpacked=tmp_path / "rows")
    assert not (tmp_path / "rows").exists()
