from __future__ import annotations

import threading

import pytest
from glmtrain.prefetch import ahead


@pytest.mark.parametrize("depth", [0, 1, 3, 50])
def test_all_is_made_in_order(depth):
    assert list(ahead(range(20), lambda n: n * n, depth)) == [n * n for n in range(20)]


def test_what_comes_next_is_begun_before_it_is_asked_for():
    begun = threading.Event()
    made = ahead([1, 2], lambda n: begun.set() if n == 2 else None, depth=1)
    next(made)
    assert begun.wait(timeout=5)
    made.close()


@pytest.mark.parametrize("depth", [0, 2])
def test_an_error_is_raised_where_its_result_was_due(depth):
    made = ahead([4, 2, 0, 1], lambda n: 8 // n, depth)
    assert [next(made), next(made)] == [2, 4]
    with pytest.raises(ZeroDivisionError):
        next(made)


def test_no_thread_stays_behind_a_consumer_that_stops_early():
    before = threading.active_count()
    made = ahead(range(1000), str, depth=4)
    next(made)
    made.close()
    assert threading.active_count() == before
