"""Engines: the same results in the same order, and workers that die."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from glmprep.engines.local import AHEAD, Processes, Serial, local
from glmprep.errors import InputError


def square(number: int) -> int:
    time.sleep(0.001 * (number % 3))
    return number * number


def fail(number: int) -> int:
    raise InputError(f"no {number}")


@dataclass(frozen=True)
class DiesOver:
    """Dies over one item, so often as there is a file less for it."""

    item: int
    folder: Path
    times: int

    def __call__(self, number: int) -> int:
        if number == self.item and len(list(self.folder.iterdir())) < self.times:
            (self.folder / str(len(list(self.folder.iterdir())))).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return number


@pytest.fixture(scope="module")
def processes() -> Iterator[Processes]:
    with Processes(2) as engine:
        yield engine


def test_results_come_in_the_order_of_the_items(processes: Processes) -> None:
    wanted = [number * number for number in range(40)]
    assert list(processes.map(square, range(40))) == wanted
    assert list(Serial().map(square, range(40))) == wanted
    assert list(processes.map(square, [])) == []


def test_items_are_drawn_only_as_far_ahead_as_workers_need(processes: Processes) -> None:
    drawn = []

    def items() -> Iterator[int]:
        for number in range(100):
            drawn.append(number)
            yield number

    results = processes.map(square, items())
    next(results)
    assert len(drawn) <= 2 * AHEAD + 1


def test_an_error_of_the_work_comes_out(processes: Processes) -> None:
    with pytest.raises(InputError, match="no 1"):
        list(processes.map(fail, [1]))
    assert list(processes.map(square, [3])) == [9]


def test_work_of_a_worker_that_is_killed_is_done_again(
    processes: Processes, tmp_path: Path
) -> None:
    work = DiesOver(5, tmp_path, 1)
    assert list(processes.map(work, range(12))) == list(range(12))
    assert len(list(tmp_path.iterdir())) == 1


def test_work_that_kills_workers_again_and_again_is_an_error(
    processes: Processes, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="killed 3 times over the same work"):
        list(processes.map(DiesOver(0, tmp_path, 99), [0]))


def test_one_worker_is_this_process() -> None:
    assert isinstance(local(1), Serial)
    assert isinstance(local(2), Processes)
