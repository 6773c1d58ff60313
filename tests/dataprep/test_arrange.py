"""Rows hold every conversation once, none too many, and with little waste."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from glmprep import arrange
from glmprep.arrange import Plan, bucketed, fewest_rows, packed
from glmprep.errors import UsageError
from glmprep.order import Order
from glmprep.packing import best_fit_decreasing
from hypothesis import given, settings
from hypothesis import strategies as st

from . import realdata

CAPACITY = 1000
some_lengths = st.lists(st.integers(1, CAPACITY), max_size=200).map(
    lambda lengths: np.array(lengths, np.int32)
)


def same(one: Plan, other: Plan) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in one.__slots__)


@settings(deadline=None)
@given(some_lengths, st.integers(0, 3))
def test_packing_holds_every_conversation_once_within_capacity(
    lengths: np.ndarray, seed: int
) -> None:
    plan = packed(lengths, capacity=CAPACITY, seed=seed)
    assert sorted(plan.members.tolist()) == list(range(len(lengths)))
    rows = np.split(plan.members, plan.offsets[1:-1]) if len(plan) else []
    assert all(0 < lengths[members].sum() <= CAPACITY for members in rows)
    counts = np.bincount(lengths, minlength=CAPACITY + 1)
    assert len(plan) == fewest_rows(counts, CAPACITY).bins
    assert same(plan, packed(lengths, capacity=CAPACITY, seed=seed))


@settings(deadline=None, max_examples=30)
@given(some_lengths, st.integers(1, 50))
def test_packing_in_small_parts_makes_rows_of_the_same_lengths(
    lengths: np.ndarray, chunk: int
) -> None:
    def rows() -> list[list[int]]:
        plan = packed(lengths, capacity=CAPACITY, seed=1)
        assert sorted(plan.members.tolist()) == list(range(len(lengths)))
        return sorted(
            sorted(each.tolist()) for each in np.split(lengths[plan.members], plan.offsets[1:-1])
        )

    whole = rows()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrange, "CHUNK", chunk)
        assert rows() == whole


def test_real_counselling_fills_rows_where_best_fit_decreasing_leaves_gaps(assets: Path) -> None:
    data = realdata.rows(assets, "smilechat")
    characters = [sum(len(message["content"]) for message in row["messages"]) for row in data]
    found = np.array(characters) * 3 // 5  # about their tokens
    found = found[found <= 2048]
    plan = packed(found, capacity=2048, seed=0)
    assert found.sum() / plan.bucket.sum() > 0.998
    gaps = best_fit_decreasing(np.bincount(found, minlength=2049), 2048)
    assert found.sum() / (gaps.bins * 2048) < 0.99


def test_packing_over_files_gives_what_packing_in_memory_does(tmp_path: Path) -> None:
    lengths = np.memmap(tmp_path / "lengths", np.int32, "w+", shape=(5000,))
    lengths[:] = np.random.default_rng(0).integers(1, CAPACITY, 5000)
    on_disk = packed(lengths, capacity=CAPACITY, seed=3, scratch=tmp_path)
    assert isinstance(on_disk.members, np.memmap)
    assert same(on_disk, packed(np.array(lengths), capacity=CAPACITY, seed=3))
    assert [path.name for path in tmp_path.iterdir()] == ["lengths"]


def test_conversations_of_one_length_and_rows_are_shuffled() -> None:
    plan = packed(np.full(1000, 100), capacity=CAPACITY, seed=0)
    steps = np.diff(plan.members)
    assert (steps == 1).mean() < 0.02
    lengths = np.sort(np.random.default_rng(0).integers(501, CAPACITY, 1000))
    firsts = lengths[packed(lengths, capacity=CAPACITY, seed=0).members]
    assert abs(np.corrcoef(firsts, np.arange(1000))[0, 1]) < 0.1


@pytest.mark.parametrize(
    "make",
    [
        lambda lengths: packed(lengths, capacity=CAPACITY, seed=0),
        lambda lengths: bucketed(lengths, buckets=4, max_length=CAPACITY, seed=0),
    ],
)
def test_what_is_longer_than_a_row_is_refused(make) -> None:
    with pytest.raises(UsageError, match="1001 tokens in rows of 1000"):
        make(np.array([5, 1001]))


@settings(deadline=None)
@given(
    some_lengths,
    st.integers(1, 9),
    st.integers(0, 3),
    st.sampled_from(["shuffled", "short-first", "length-mixed"]),
)
def test_buckets_hold_every_conversation_once_in_a_row_that_is_long_enough(
    lengths: np.ndarray, buckets: int, seed: int, kind: str
) -> None:
    order = Order(kind=kind)
    plan = bucketed(lengths, buckets=buckets, max_length=CAPACITY, seed=seed, order=order)
    assert sorted(plan.members.tolist()) == list(range(len(lengths)))
    assert plan.offsets.tolist() == list(range(len(lengths) + 1))
    assert (lengths[plan.members] <= plan.bucket).all()
    assert plan.bucket.max(initial=0) <= CAPACITY
    assert len(np.unique(plan.bucket)) <= buckets
    if kind == "short-first":
        assert (np.diff(plan.bucket) >= 0).all()
    again = bucketed(lengths, buckets=buckets, max_length=CAPACITY, seed=seed, order=order)
    assert same(plan, again)


def test_rows_of_a_batch_stand_together_and_batches_are_shuffled() -> None:
    lengths = np.random.default_rng(0).integers(1, 1025, 4000)
    plan = bucketed(lengths, buckets=4, max_length=1024, seed=0, tokens=8192)
    runs = np.flatnonzero(np.diff(plan.bucket, prepend=0))
    assert len(runs) > len(np.unique(plan.bucket)) * 10
    in_run = np.diff(runs, append=len(lengths)) * plan.bucket[runs]
    assert (in_run > 8192 * 0.8).all()


def test_another_seed_gives_another_order() -> None:
    lengths = np.arange(1, 200)
    for make in (
        lambda seed: packed(lengths, capacity=CAPACITY, seed=seed),
        lambda seed: bucketed(lengths, buckets=2, max_length=CAPACITY, seed=seed),
    ):
        assert not same(make(0), make(1))
