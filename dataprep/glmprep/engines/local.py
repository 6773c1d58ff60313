"""Work on this machine: in this process, or in others."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from multiprocessing import forkserver
from multiprocessing.connection import wait
from typing import Any, Generic, Self

from glmprep.engines import Engine, Item, Made
from glmprep.errors import InputError

AHEAD = 2
"""Items for each worker that are drawn before their results are asked for."""
TRIES = 3
"""How often an item is given to workers that die over it."""
ONE_THREAD = ("RAYON_NUM_THREADS", "POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Libraries read these when they start; with a worker for each core, more threads only wait."""
WARM, WARM_VARIABLE = "glmprep.engines.warm", "GLMPREP_WARM"
"""What the server of workers imports, and what tells it the tokenizer to load."""


def local(workers: int, warm: Mapping[str, Any] | None = None) -> Engine:
    """So many workers: this process alone for one (see `Processes`)."""
    return Processes(workers, warm) if workers > 1 else Serial()


class Serial:
    """Does the work in this process, when its result is asked for."""

    def map(self, work: Callable[[Item], Made], items: Iterable[Item]) -> Iterator[Made]:
        """`work` of each item, in order."""
        return map(work, items)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        return None


class Processes:
    """Worker processes, which are started when there is work.

    They are forked from a server that has imported what work needs, and loaded the tokenizer that
    `warm` names (`Named.as_json`); it is started by `with`, and there is one for as long as this
    process lives.
    """

    def __init__(self, workers: int, warm: Mapping[str, Any] | None = None) -> None:
        self._workers = workers
        self._warm = json.dumps(warm) if warm else None
        self._pool: ProcessPoolExecutor | None = None

    def map(self, work: Callable[[Item], Made], items: Iterable[Item]) -> Iterator[Made]:
        """`work` of each item, in order.

        Raises InputError when workers die over one item again and again: mostly memory ran out.
        """
        waiting: deque[_Given[Item, Made]] = deque()
        coming = iter(items)
        try:
            while True:
                for item in islice(coming, self._workers * AHEAD - len(waiting)):
                    waiting.append(_Given(item, self._submit(work, item)))
                if not waiting:
                    return
                yield self._result(work, waiting)
        except BaseException:
            self._stop()  # nothing goes on being written behind the back of a caller that gave up
            raise

    def __enter__(self) -> Self:
        """Let the server of workers start; it has much to load, while the caller goes on."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([WARM])
        settings: dict[str, str] = dict.fromkeys(ONE_THREAD, "1")
        if self._warm is not None:
            settings[WARM_VARIABLE] = self._warm
        with _environment(settings):
            forkserver.ensure_running()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop()

    def _result(self, work: Callable[[Item], Made], waiting: deque[_Given[Item, Made]]) -> Made:
        """The result of the first item; all that wait are given out again when a worker dies."""
        for _ in range(TRIES):
            try:
                made = waiting[0].future.result()
                waiting.popleft()
                return made
            except BrokenProcessPool:
                self._stop()
                for given in waiting:
                    given.future = self._submit(work, given.item)
        raise InputError(
            f"a worker process was killed {TRIES} times over the same work, mostly for want of "
            "memory; pass a smaller --workers"
        )

    def _submit(self, work: Callable[[Item], Made], item: Item) -> Future[Made]:
        with _interrupts_later():  # a worker that is just being forked would fail aloud
            if self._pool is None:
                self._pool = self._start()
            return self._pool.submit(work, item)

    def _start(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("forkserver")
        return ProcessPoolExecutor(self._workers, context, initializer=_begin)

    def _stop(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None


@contextmanager
def _interrupts_later() -> Iterator[None]:
    """Lets an interrupt wait for the end of the block; other threads than the first get none."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if came:
            signal.raise_signal(signal.SIGINT)


@contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    """The environment with these variables, for processes that start meanwhile."""
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class _Given(Generic[Item, Made]):
    """An item that was given to a worker."""

    def __init__(self, item: Item, future: Future[Made]) -> None:
        self.item, self.future = item, future


def _begin() -> None:
    """What a worker does first: leave interrupts to its parent, and end when that ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
