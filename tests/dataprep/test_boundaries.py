"""The measures of `bench/segment.py`, by hand and beside nltk's, and how topics are read."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

BENCH = Path(__file__).parents[2] / "bench"


def module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"bench_{name}", BENCH / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = made
    spec.loader.exec_module(made)
    return made


boundaries, meetings = module("boundaries"), module("meetings")


@pytest.mark.parametrize(
    ("guess", "pk", "window_diff"),
    [
        ([0, 4], 0, 0),
        ([0, 3], 2 / 6, 2 / 6),
        ([0, 3, 4], 1 / 6, 2 / 6),
        ([0], 2 / 6, 2 / 6),
        ([0, 1, 2, 3, 4, 5, 6, 7], 4 / 6, 1),
    ],
)
def test_the_measures_of_eight_units_in_two_halves(
    guess: list[int], pk: float, window_diff: float
) -> None:
    assert boundaries.pk([0, 4], guess, 8) == pytest.approx(pk)
    assert boundaries.window_diff([0, 4], guess, 8) == pytest.approx(window_diff)


@given(
    reference=st.sets(st.integers(1, 29), max_size=8), guess=st.sets(st.integers(1, 29), max_size=8)
)
def test_the_measures_are_those_of_nltk(reference: set[int], guess: set[int]) -> None:
    nltk = pytest.importorskip("nltk.metrics.segmentation", reason="nltk is not installed")
    true, seen = [0, *sorted(reference)], [0, *sorted(guess)]
    apart = boundaries.window(true, 30)
    gaps = [
        "".join("1" if place in starts else "0" for place in range(1, 30))
        for starts in (true, seen)
    ]
    assert boundaries.pk(true, seen, 30) == pytest.approx(nltk.pk(*gaps, k=apart))
    assert boundaries.window_diff(true, seen, 30) == pytest.approx(nltk.windowdiff(*gaps, k=apart))


def test_an_interval_holds_its_mean_and_shrinks_to_it_where_all_are_alike() -> None:
    spread, alike = boundaries.mean(np.arange(10) / 10), boundaries.mean(np.full(10, 0.3))
    assert spread.low < spread.mean < spread.high
    assert alike.low == pytest.approx(alike.high) == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("spans", "starts"),
    [
        ([(0, 49), (50, 99)], [0, 50]),
        ([(50, 97), (3, 49)], [0, 50]),
        ([(0, 47), (50, 99)], [0, 50]),
        ([(0, 29), (50, 99)], [0, 30, 50]),
        ([(0, 59), (50, 89)], [0, 50, 90]),
        ([(20, 59), (60, 99)], [0, 20, 60]),
    ],
    ids=["in a row", "short gaps at the ends", "short gap", "long gap", "overlap", "late start"],
)
def test_spans_of_topics_become_segments_of_all_turns(
    spans: list[tuple[int, int]], starts: list[int]
) -> None:
    assert meetings.topic_starts(spans, 100) == starts
