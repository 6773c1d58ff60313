"""Padded lengths need the least padding of all, however many lengths there are."""

from __future__ import annotations

import time
from itertools import combinations

import numpy as np
from glmprep.edges import MULTIPLE, best_edges
from hypothesis import given, settings
from hypothesis import strategies as st


def padded_by(edges: np.ndarray, lengths: np.ndarray) -> int:
    return int(edges[np.searchsorted(edges, lengths)].sum())


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 64 * 9), min_size=1, max_size=30).map(np.array),
    st.integers(1, 5),
    st.integers(0, 70),
)
def test_edges_need_the_least_padding_of_all(lengths: np.ndarray, buckets: int, slack: int) -> None:
    most = int(lengths.max()) + slack
    edges = best_edges(lengths, buckets, most)
    assert len(edges) <= buckets
    assert edges.max() <= most
    assert (np.diff(edges) > 0).all()
    sizes = np.unique(np.minimum(-(-lengths // MULTIPLE) * MULTIPLE, most))
    others = [
        np.array([*below, sizes[-1]])
        for count in range(min(buckets, len(sizes)))
        for below in combinations(sizes[:-1].tolist(), count)
    ]
    assert padded_by(edges, lengths) == min(padded_by(each, lengths) for each in others)


def test_with_a_bucket_for_each_size_only_rounding_up_is_padded() -> None:
    lengths = np.arange(1, 2048)
    rounded = -(-lengths // MULTIPLE) * MULTIPLE
    assert padded_by(best_edges(lengths, 32, 2048), lengths) == rounded.sum()


def test_two_thousand_sizes_and_sixty_four_buckets_take_no_time() -> None:
    lengths = np.arange(1, 131_073, dtype=np.int32)
    began = time.process_time()
    edges = best_edges(lengths, 64, 131_072)
    assert time.process_time() - began < 2  # a table of all pairs of sizes would take ten
    assert len(edges) == 64
    # Of lengths that are all as frequent, the best edges lie at even distances.
    assert set(np.diff(edges, prepend=0)) == {2048}


def test_no_lengths_have_one_bucket() -> None:
    assert best_edges(np.zeros(0, np.int32), 8, 512).tolist() == [512]
