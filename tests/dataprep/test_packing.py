"""Packing by the histogram is best-fit decreasing, and near what no packing can go below."""

from __future__ import annotations

import numpy as np
import pytest
from glmprep.arrange import fewest_rows
from glmprep.exactfit import exact_fit
from glmprep.packing import WORD, Packing, Rooms, best_fit_decreasing, least_bins
from hypothesis import given, settings
from hypothesis import strategies as st

CAPACITY = 100
some_lengths = st.lists(st.integers(1, CAPACITY), max_size=100)


def counted(lengths: list[int], capacity: int = CAPACITY) -> np.ndarray:
    return np.bincount(np.array(lengths, np.int64), minlength=capacity + 1)


def item_by_item(lengths: list[int], *, best: bool) -> list[list[int]]:
    """Best-fit or first-fit decreasing, as textbooks have it."""
    bins: list[list[int]] = []
    for length in sorted(lengths, reverse=True):
        fitting = [each for each in bins if sum(each) + length <= CAPACITY]
        if not fitting:
            bins.append([length])
        elif best:
            max(fitting, key=sum).append(length)
        else:
            fitting[0].append(length)
    return bins


def contents(packing: Packing, lengths: list[int]) -> list[list[int]]:
    """The lengths in each bin, by the placements."""
    bins: list[list[int]] = [[] for _ in range(packing.bins)]
    left = iter(sorted(lengths, reverse=True))
    columns = (packing.first, packing.runs, packing.items, packing.each)
    for first, runs, items, each in zip(*(column.tolist() for column in columns), strict=True):
        for one in bins[first : first + runs]:
            assert len(one) == items
            one += [next(left) for _ in range(each)]
    assert list(left) == []
    return bins


@settings(deadline=None)
@given(some_lengths)
def test_bins_are_as_full_as_best_fit_decreasing_makes_them(lengths: list[int]) -> None:
    packing = best_fit_decreasing(counted(lengths), CAPACITY)
    filled = contents(packing, lengths)
    textbook = item_by_item(lengths, best=True)
    assert sorted(map(sum, filled)) == sorted(map(sum, textbook))
    assert packing.sizes().tolist() == [len(each) for each in filled]


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32), st.integers(1, CAPACITY))
def test_it_is_no_worse_than_first_fit_decreasing_by_more_than_a_bin(seed: int, most: int) -> None:
    lengths = np.random.default_rng(seed).integers(1, most + 1, 300).tolist()
    packing = best_fit_decreasing(counted(lengths), CAPACITY)
    assert packing.bins <= len(item_by_item(lengths, best=False)) + 1


@settings(deadline=None)
@given(some_lengths)
def test_exact_fits_hold_every_item_once_within_capacity(lengths: list[int]) -> None:
    packing = exact_fit(counted(lengths), CAPACITY)
    filled = contents(packing, lengths)
    assert all(0 < sum(each) <= CAPACITY for each in filled)
    assert packing.sizes().tolist() == [len(each) for each in filled]


def test_a_row_ends_with_two_items_that_fill_it() -> None:
    # Best-fit decreasing would put 40 beside 55, and fill no row.
    lengths = [55, 40, 30, 15, 45, 15]
    filled = contents(exact_fit(counted(lengths), CAPACITY), lengths)
    assert sorted(map(sum, filled)) == [100, 100]


def test_lengths_without_short_ones_are_packed_better_by_exact_fits() -> None:
    drawn = np.random.default_rng(0).normal(540, 150, 10_000)
    counts = np.bincount(np.clip(drawn, 150, 2048).astype(np.int64), minlength=2049)
    least = least_bins(counts, 2048)
    best = best_fit_decreasing(counts, 2048).bins
    chosen = fewest_rows(counts, 2048).bins
    assert least / best < 0.99
    assert least / chosen > 0.99
    assert chosen == exact_fit(counts, 2048).bins


def test_the_better_of_both_ways_is_taken() -> None:
    few = counted([51, 49, 30, 30, 40])
    assert fewest_rows(few, CAPACITY).bins == 2


@st.composite
def full_bins(draw: st.DrawFn) -> tuple[list[int], int]:
    """Items that fill a number of bins exactly, and that number."""
    cuts = draw(st.lists(st.lists(st.integers(1, CAPACITY - 1), max_size=6), max_size=40))
    items = [np.diff([0, *sorted(set(places)), CAPACITY]).tolist() for places in cuts]
    return [length for each in items for length in each], len(cuts)


@settings(deadline=None)
@given(full_bins())
def test_the_bound_is_below_the_optimum_and_packing_near_above(
    drawn: tuple[list[int], int],
) -> None:
    lengths, optimum = drawn
    packing = best_fit_decreasing(counted(lengths), CAPACITY)
    assert least_bins(counted(lengths), CAPACITY) == optimum  # they are full, so none can go
    assert packing.bins <= 11 / 9 * optimum + 6 / 9  # what is proven of best-fit decreasing


@settings(deadline=None)
@given(some_lengths)
def test_the_bound_is_never_above_a_packing(lengths: list[int]) -> None:
    bins = item_by_item(lengths, best=True)
    assert least_bins(counted(lengths), CAPACITY) <= len(bins)


def test_the_bound_knows_that_what_is_longer_than_half_stands_alone() -> None:
    assert least_bins(counted([51, 51, 51]), CAPACITY) == 3  # by volume, two would do
    assert least_bins(counted([70, 70, 40, 40]), CAPACITY) == 3  # no 40 fits beside a 70


def hard(random: np.random.Generator, small: np.ndarray, capacity: int) -> np.ndarray:
    """Half of the items fill 30 to 95 % of a bin."""
    large = random.uniform(0.3, 0.95, len(small)) * capacity
    return np.clip(np.concatenate([large, small]), 1, capacity).astype(np.int64)


@pytest.mark.parametrize("capacity", [2048, 8192])
def test_bins_are_filled_to_999_in_a_thousand_or_nearly_as_far_as_they_can_be(
    capacity: int,
) -> None:
    random = np.random.default_rng(0)
    log_normal = random.lognormal(np.log(capacity / 20), 0.8, 100_000)
    lengths = {
        "log-normal": np.clip(log_normal, 1, capacity).astype(np.int64),
        "hard": hard(random, random.uniform(0.01, 0.3, 100_000) * capacity, capacity),
        "too little to fill up with": hard(random, log_normal, capacity),
    }
    for name, items in lengths.items():
        counts = np.bincount(items, minlength=capacity + 1)
        bins = best_fit_decreasing(counts, capacity).bins
        filled, least = items.sum() / (bins * capacity), least_bins(counts, capacity)
        assert filled > 0.999 or name == "too little to fill up with"
        assert least / bins > 0.998


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(1, 3 << WORD)), max_size=100))
def test_the_least_room_that_suffices_is_found(steps: list[tuple[bool, int]]) -> None:
    rooms, kept = Rooms(), []
    for first, (put, room) in enumerate(steps):
        if put:
            rooms.put(room, (first, 1, 0))
            kept.append(room)
            continue
        found = rooms.take(room)
        wanted = min((each for each in kept if each >= room), default=None)
        assert (found and found[0]) == wanted
        if wanted is not None:
            kept.remove(wanted)
