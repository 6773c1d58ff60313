"""What a plan costs is counted as the trainer would compute it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from glmprep.arrange import Plan, bucketed, packed
from glmprep.batching import ATTENTION
from glmprep.efficiency import efficiency
from glmprep.views.efficiency import line, section
from glmreport.page import Table
from glmreport.text import LANGUAGES, Catalogue
from hypothesis import given, settings
from hypothesis import strategies as st

LENGTHS = np.array([4, 6, 3, 7, 5], np.int32)


def plan(*rows: list[int], bucket: list[int]) -> Plan:
    return Plan(
        members=np.array([each for row in rows for each in row], np.int32),
        offsets=np.cumsum([0, *map(len, rows)]).astype(np.int32),
        bucket=np.array(bucket, np.int32),
    )


def test_packed_rows_are_counted_with_and_without_a_kernel_that_keeps_segments_apart() -> None:
    found = efficiency(
        plan([0, 1], [3, 2], [4], bucket=[10] * 3), LENGTHS, supervised=12, replayed=5
    )
    needed = 16 + 36 + 9 + 49 + 25
    assert (found.rows, found.least_rows, found.shapes) == (3, 3, 1)
    assert (found.tokens, found.computed) == (25, 30)
    assert (found.pairs, found.pairs_row, found.pairs_varlen) == (needed, 300, needed + 25)
    assert found.filled == found.reachable == pytest.approx(25 / 30)
    assert found.padding == pytest.approx(5 / 30)
    assert found.supervised_share == pytest.approx(12 / 30)
    assert found.replay == pytest.approx(5 / 20)
    assert found.attention == pytest.approx(300 / needed)
    assert found.work_varlen == pytest.approx(
        (30 + ATTENTION * (needed + 25)) / (25 + ATTENTION * needed)
    )


def test_padded_rows_are_counted_to_their_bucket() -> None:
    rows = [[0], [2], [1], [3], [4]]
    found = efficiency(plan(*rows, bucket=[4, 4, 8, 8, 8]), LENGTHS, supervised=1)
    assert (found.rows, found.least_rows, found.shapes) == (5, 5, 2)
    assert (found.computed, found.pairs_row) == (32, 2 * 16 + 3 * 64)
    assert found.pairs_varlen == found.pairs + 1 + 4 + 1 + 9
    assert found.replay == 0


def test_a_bound_says_how_full_rows_could_be() -> None:
    found = efficiency(plan([0], [1], bucket=[10, 10]), np.array([2, 3]), supervised=1)
    assert found.least_rows == 2  # one conversation a row is no packing
    split_up = plan([0], [1], [2, 3], bucket=[10] * 3)
    found = efficiency(split_up, np.array([5, 5, 5, 5]), supervised=1)
    assert (found.rows, found.least_rows) == (3, 2)
    assert found.reachable == 1.0


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 500), min_size=1, max_size=80).map(np.array))
def test_shares_stay_in_their_ranges_and_sums_are_json(lengths: np.ndarray) -> None:
    for made in (
        packed(lengths, capacity=500, seed=0),
        bucketed(lengths, buckets=3, max_length=500, seed=0),
    ):
        found = efficiency(made, lengths, supervised=int(lengths.sum()) // 2)
        assert found.tokens == lengths.sum()
        assert found.computed == made.bucket.sum()
        assert 0 < found.filled <= found.reachable <= 1
        assert found.least_rows <= found.rows
        assert 1 <= found.attention_varlen <= found.attention
        assert 1 <= found.work_varlen <= found.work
        assert json.loads(json.dumps(found.as_json()))["filled"] == round(found.filled, 6)


def test_nothing_costs_nothing() -> None:
    found = efficiency(plan(bucket=[]), LENGTHS[:0], supervised=0)
    assert found.as_json()["rows"] == found.padding == found.replay == 0


def test_the_page_and_the_terminal_say_what_the_layout_costs() -> None:
    found = efficiency(
        plan([0, 1], [3, 2], [4], bucket=[10] * 3), LENGTHS, supervised=12, replayed=5
    )
    [table] = section(found).blocks
    assert isinstance(table, Table)
    for language in LANGUAGES:
        said = Catalogue.load(language)
        for what, _, means in table.rows:
            assert said.say(what)
            assert said.say(means)
    assert [row[1] for row in table.rows][:3] == ["83.3%", "83.3%", "16.7%"]
    assert line(found) == (
        "efficiency",
        "83.3% filled; attention × 1.19 of what is needed with a varlen kernel, × 2.22 without",
    )
