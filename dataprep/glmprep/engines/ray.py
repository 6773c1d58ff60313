"""Work on a Ray cluster: tasks of Ray's core, a bounded number of them ahead of their results.

Not Ray Data, whose plans begin with a list of all items, give results as columns of its own types,
and start anew for each list; docs/scale.md has the figures of both.
"""

from __future__ import annotations

import logging
import os
import platform
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Self

from glmprep.engines import Item, Made
from glmprep.engines.local import ONE_THREAD, TRIES
from glmprep.errors import InputError, UsageError, first_line

if TYPE_CHECKING:
    from ray import ObjectRef

AHEAD = 4
"""Tasks for each CPU that are given out before the first one's result is asked for."""
COUNT_SECONDS = 5.0
"""How long a count of the cluster's CPUs is believed: nodes come and go."""
CONNECT_SECONDS = 10.0
STORE_BYTES = 128 << 20
"""Ray's store of objects on this machine: only work, items and small results pass through it."""
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_task_oom_retries": str(TRIES),
}
"""Set before Ray is loaded, unless they are: no telemetry, no warning of what will change, and no
endless trying again where memory runs out."""
SAME = ("glm-finetune-suite", "tokenizers", "numpy", "pyarrow", "orjson")
"""What nodes must have in the same version, or they would write other bytes."""


class RayEngine:
    """A Ray cluster, which is joined, or started on this machine, when there is work.

    `address` is `HOST:PORT` of a cluster, `auto` for the one that this machine is part of, or
    `local` for one of `workers` CPUs that is started here and ended at the end; by default what
    RAY_ADDRESS names, else `local`. Every node needs the same packages as this machine, and what
    work reads and writes must be within its reach.
    """

    def __init__(self, address: str | None = None, workers: int | None = None) -> None:
        self._address = address or os.environ.get("RAY_ADDRESS") or "local"
        self._workers = workers
        self._joined = False
        self._cpus, self._counted = 1, 0.0

    def map(self, work: Callable[[Item], Made], items: Iterable[Item]) -> Iterator[Made]:
        """`work` of each item, in order.

        Raises InputError for a cluster that cannot be reached or that gives up: what was running
        on a worker or a node that died is run again, TRIES times at most.
        """
        self._join()
        import ray

        task: Any = ray.remote(max_retries=TRIES)(_run)
        shared, expected = ray.put(work), ray.put(_versions())
        ahead: deque[ObjectRef[Any]] = deque()
        try:
            for item in items:
                ahead.append(task.remote(shared, item, expected))
                while len(ahead) >= AHEAD * self._count():
                    yield _result(ahead.popleft())
            while ahead:
                yield _result(ahead.popleft())
        finally:
            for waiting in ahead:
                ray.cancel(waiting)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._joined:
            import ray

            ray.shutdown()
            self._joined = False

    def _join(self) -> None:
        """Join the cluster or start one; one that the caller has joined already is used."""
        for name, value in QUIET.items():
            os.environ.setdefault(name, value)
        try:
            import ray
        except ImportError as error:
            raise UsageError(
                "--engine ray: Ray is not installed; pip install 'glm-finetune-suite[ray]'"
            ) from error
        if ray.is_initialized():
            return
        try:
            _require_reachable(self._address)
            ray.init(address=self._address, **self._options())
        except (OSError, RuntimeError, ValueError) as error:
            raise InputError(f"Ray at {self._address}: {first_line(error)}") from error
        self._joined = True

    def _options(self) -> dict[str, Any]:
        options: dict[str, Any] = {
            "log_to_driver": False,
            "logging_level": logging.CRITICAL,
            "runtime_env": {"env_vars": dict.fromkeys(ONE_THREAD, "1")},
        }
        if self._address == "local":
            options["include_dashboard"] = False
            options["num_cpus"] = self._workers
            options["object_store_memory"] = STORE_BYTES
        return options

    def _count(self) -> int:
        """The CPUs of the cluster, at least one: it may be about to grow."""
        import ray

        if time.monotonic() - self._counted > COUNT_SECONDS:
            self._cpus = max(1, int(ray.cluster_resources().get("CPU", 1)))
            self._counted = time.monotonic()
        return self._cpus


def _require_reachable(address: str) -> None:
    """Raise OSError where nobody listens: Ray itself would try for many minutes."""
    host, _, port = address.rpartition(":")
    if port.isdecimal():
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()


def _run(work: Callable[[Item], Made], item: Item, expected: dict[str, str]) -> Made:
    """A task, on whichever node: the work of one item."""
    found = _versions()
    for name, wanted in expected.items():
        if found[name] != wanted:
            raise InputError(
                f"node {platform.node()}: has {name} {found[name]} and not {wanted} as this "
                "machine; install the same packages on all nodes"
            )
    return work(item)


@cache
def _versions() -> dict[str, str]:
    """What decides the bytes that this process writes."""
    return {"Python": platform.python_version(), **{name: version(name) for name in SAME}}


def _result(ref: ObjectRef[Any]) -> Any:
    """What a task made; its own error comes out as it was raised."""
    import ray
    from ray.exceptions import RayError, RayTaskError

    try:
        return ray.get(ref)
    except RayTaskError as error:
        raise error.cause from None
    except RayError as error:
        raise InputError(
            f"Ray gave up on a part of the work after {TRIES} tries: {first_line(error)}"
        ) from error
