"""Where work runs: in this process, in processes on this machine, or on a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, Self, TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


class Engine(Protocol):
    """Runs one function over many items; a context manager, since it may hold processes.

    What is made depends on the item alone, so that every engine makes the same.
    """

    def map(self, work: Callable[[Item], Made], items: Iterable[Item]) -> Iterator[Made]:
        """`work` of each item, in the order of the items.

        Items are drawn as there is room for them, so that they may be many. `work`, items and
        results must be picklable unless all runs in this process. An error of `work` comes out
        here; a worker that dies has its items done again, and InputError is raised where that does
        not help.
        """

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...
