"""Batches hold every row once within the budget, and ranks have as much to do."""

from __future__ import annotations

import numpy as np
import pytest
from glmprep.batching import ATTENTION, Batches, token_batches
from glmprep.edges import best_edges
from glmprep.order import Order
from hypothesis import given, settings
from hypothesis import strategies as st

SIZES = np.array([64, 256, 1024])


@st.composite
def grouped(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Groups of rows, and lengths that fit them."""
    group = np.array(draw(st.lists(st.integers(0, 2), max_size=80)), np.int64)
    lengths = [draw(st.integers(1, int(SIZES[each]))) for each in group]
    return np.array(lengths, np.int64), group


def all_batches(made: Batches) -> list[np.ndarray]:
    return [rows for rank in range(made.ranks) for rows in made.of_rank(rank)]


@settings(deadline=None)
@given(grouped(), st.integers(1, 9), st.integers(1, 4096), st.integers(0, 3))
def test_every_row_is_in_one_batch_of_its_group_within_the_budget(
    drawn: tuple[np.ndarray, np.ndarray], ranks: int, tokens: int, seed: int
) -> None:
    lengths, group = drawn
    made = token_batches(lengths, group, SIZES, tokens=tokens, seed=seed, ranks=ranks)
    batches = all_batches(made)
    assert sorted(row for rows in batches for row in rows.tolist()) == list(range(len(group)))
    assert {len(made.of_rank(rank)) for rank in range(ranks)} == {made.steps}
    for rows in batches:
        assert len(np.unique(group[rows])) <= 1
        assert len(rows) <= 1 or len(rows) * SIZES[group[rows[0]]] <= tokens
    if len(group) >= ranks * made.steps:
        assert all(len(rows) for rows in batches)
    again = token_batches(lengths, group, SIZES, tokens=tokens, seed=seed, ranks=ranks)
    assert again.rows.tolist() == made.rows.tolist()


def log_normal(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    drawn = np.random.default_rng(seed).lognormal(6, 1, rows)
    lengths = np.clip(drawn, 16, 8192).astype(np.int64)
    edges = best_edges(lengths, 8, 8192)
    return lengths, np.searchsorted(edges, lengths), edges


def work(lengths: np.ndarray, rows: np.ndarray) -> float:
    found = lengths[rows]
    return float(len(found) * found.max(initial=0) + ATTENTION * (found.astype(float) ** 2).sum())


@pytest.mark.parametrize("ranks", [2, 7, 8, 64])
def test_the_ranks_of_a_step_have_nearly_as_much_to_do(ranks: int) -> None:
    lengths, group, edges = log_normal(20_000)
    made = token_batches(lengths, group, edges, tokens=16_384, seed=0, ranks=ranks)
    costs = np.array(
        [[work(lengths, rows) for rows in made.of_rank(rank)] for rank in range(ranks)]
    )
    assert (costs > 0).all()
    wasted = 1 - costs.mean(axis=0) / costs.max(axis=0)
    assert np.median(wasted) < 0.01
    assert costs.mean() / costs.max(axis=0).mean() > 0.98
    # No rank has more to do than others over the epoch, either.
    assert np.ptp(costs.sum(axis=1)) < 0.05 * costs.sum(axis=1).mean()


def test_long_rows_are_balanced_by_what_attends_to_itself() -> None:
    lengths = np.full(64, 131_072)
    squares = np.where(np.arange(64) % 2, lengths**2, lengths**2 // 64)  # one segment, or 64
    made = token_batches(
        lengths, np.zeros(64, int), lengths[:1], tokens=131_072, seed=0, ranks=4, squares=squares
    )
    steps = np.stack([np.concatenate(made.of_rank(rank)) for rank in range(4)], axis=1)
    assert (np.ptp(squares[steps], axis=1) == 0).all()


def test_one_rank_fills_its_batches_evenly() -> None:
    lengths, group = np.full(33, 60), np.zeros(33, int)
    made = token_batches(lengths, group, SIZES[:1], tokens=64 * 8, seed=0)
    assert sorted(map(len, made.of_rank(0))) == [6, 6, 7, 7, 7]


def test_steps_come_in_the_order_that_is_asked_for() -> None:
    lengths, group, edges = log_normal(5000)
    made = token_batches(
        lengths, group, edges, tokens=8192, seed=0, ranks=2, order=Order(kind="short-first")
    )
    longest = [[edges[group[rows[0]]] for rows in made.of_rank(rank)] for rank in range(2)]
    assert (np.diff(np.max(longest, axis=0)) >= 0).all()
    shuffled = token_batches(lengths, group, edges, tokens=8192, seed=0, ranks=2)
    longest = [edges[group[rows]].max() for rows in shuffled.of_rank(0)]
    assert abs(np.corrcoef(longest, np.arange(made.steps))[0, 1]) < 0.2


def test_fewer_rows_than_ranks_leave_ranks_without() -> None:
    made = token_batches(np.array([5, 6]), np.zeros(2, int), SIZES[:1], tokens=64, seed=0, ranks=4)
    assert made.steps == 1
    assert sorted(len(made.of_rank(rank)[0]) for rank in range(4)) == [0, 0, 1, 1]
