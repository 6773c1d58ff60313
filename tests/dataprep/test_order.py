"""Orders hold everything once, follow from the seed, and are what their names say."""

from __future__ import annotations

import numpy as np
import pytest
from glmprep.errors import UsageError
from glmprep.order import Order
from hypothesis import given, settings
from hypothesis import strategies as st

orders = st.one_of(
    st.sampled_from([Order(), Order(kind="length-mixed")]),
    st.floats(0, 1).map(lambda mixing: Order(kind="short-first", mixing=mixing)),
)


def applied(order: Order, sizes: np.ndarray, seed: int = 0) -> np.ndarray:
    return sizes[order.of(sizes, np.random.default_rng(seed))]


@settings(deadline=None)
@given(orders, st.lists(st.integers(1, 9), max_size=60).map(np.array), st.integers(0, 3))
def test_an_order_holds_everything_once_and_follows_from_the_seed(
    order: Order, sizes: np.ndarray, seed: int
) -> None:
    found = order.of(sizes, np.random.default_rng(seed))
    assert sorted(found.tolist()) == list(range(len(sizes)))
    assert found.tolist() == order.of(sizes, np.random.default_rng(seed)).tolist()


def test_short_first_ascends_but_for_the_share_that_is_mixed_in() -> None:
    sizes = np.random.default_rng(1).integers(1, 1000, 2000)
    ascending = np.sort(sizes)
    assert applied(Order(kind="short-first"), sizes).tolist() == ascending.tolist()
    mixed = applied(Order(kind="short-first", mixing=0.2), sizes)
    assert 0.15 < (mixed != ascending).mean() <= 0.2
    assert np.corrcoef(mixed[mixed != ascending], ascending[mixed != ascending])[0, 1] < 0.2
    everything = applied(Order(kind="short-first", mixing=1.0), sizes)
    assert abs(np.corrcoef(everything, ascending)[0, 1]) < 0.1


def test_length_mixed_has_each_size_in_its_share_in_every_stretch() -> None:
    sizes = np.repeat([10, 20, 30], [100, 600, 300])
    for seed in range(5):
        for stretch in applied(Order(kind="length-mixed"), sizes, seed).reshape(10, 100):
            _, counts = np.unique(stretch, return_counts=True)
            assert np.abs(counts - [10, 60, 30]).max() <= 1


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"kind": "short-first", "mixing": 1.5}, "from 0 to 1"),
        ({"kind": "shuffled", "mixing": 0.5}, "goes with --order short-first"),
        ({"kind": "longest"}, "one of shuffled, short-first, length-mixed"),
    ],
)
def test_what_no_order_can_be_is_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Order(**settings)
