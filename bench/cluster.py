"""How fast the engines run the same work: this process, worker processes, Ray, and Ray Data.

    python bench/cluster.py [--items N] [--repeats N]

The work is CPU alone: a chain of digests, about a tenth of a second long. Each measurement is a
process of its own; they take turns. `start` is until the first result of a first map, `items/s` is
of a second map, when all workers are there, and `memory` the sum of what all processes hold to
themselves and their part of what they share (PSS). Ray Data is here to show why the engine is
made of Ray's tasks: its plan begins with a list of all items.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from hashlib import sha256
from statistics import median
from typing import Any

import psutil

WORKERS = 2
ROUNDS = 100_000
Run = Callable[[list[int]], Iterator[str]]


def work(item: int) -> str:
    """A chain of digests."""
    digest = item.to_bytes(8, "big")
    for _ in range(ROUNDS):
        digest = sha256(digest).digest()
    return digest.hex()


@contextmanager
def this_process() -> Iterator[Run]:
    """No engine at all."""
    yield lambda items: map(work, items)


@contextmanager
def processes() -> Iterator[Run]:
    """`--engine local`."""
    from glmprep.engines.local import Processes

    with Processes(WORKERS) as engine:
        yield lambda items: engine.map(work, items)


@contextmanager
def one_node() -> Iterator[Run]:
    """`--engine ray` on this machine."""
    from glmprep.engines.ray import RayEngine

    with RayEngine("local", WORKERS) as engine:
        yield lambda items: engine.map(work, items)


@contextmanager
def two_nodes() -> Iterator[Run]:
    """`--engine ray` on a cluster of two nodes, which share this machine."""
    from glmprep.engines.ray import RayEngine
    from ray.cluster_utils import Cluster

    node = {"num_cpus": WORKERS, "object_store_memory": 80 << 20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    cluster.add_node(**node)
    with RayEngine(cluster.address) as engine:
        yield lambda items: engine.map(work, items)
    cluster.shutdown()


@contextmanager
def ray_data() -> Iterator[Run]:
    """Ray Data on this machine: a task for each item, in order."""
    import ray
    import ray.data

    ray.init("local", num_cpus=WORKERS, include_dashboard=False, log_to_driver=False)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True

    def run(items: list[int]) -> Iterator[str]:
        made = ray.data.from_items(items, override_num_blocks=len(items))
        for row in made.map(lambda row: {"made": work(row["item"])}).iter_rows():
            yield row["made"]

    yield run
    ray.shutdown()


WAYS = {
    "this process": this_process,
    f"`--engine local`, {WORKERS} workers": processes,
    f"`--engine ray`, one node of {WORKERS} CPUs": one_node,
    f"`--engine ray`, two nodes of {WORKERS} CPUs": two_nodes,
    f"Ray Data, one node of {WORKERS} CPUs": ray_data,
}


def measure(way: str, count: int) -> dict[str, Any]:
    """Start-up, speed and memory of one way, and a digest of what it made."""
    begin = time.perf_counter()
    with WAYS[way]() as run:
        first = run(list(range(WORKERS * 8)))
        next(first)
        start = time.perf_counter() - begin
        for _ in first:
            pass
        begin = time.perf_counter()
        made = list(run(list(range(count))))
        seconds = time.perf_counter() - begin
        memory = held()
    digest = sha256("".join(made).encode()).hexdigest()
    return {"start": start, "rate": count / seconds, "memory": memory, "digest": digest}


def held() -> int:
    """Bytes of this process and all below it."""
    this = psutil.Process()
    return sum(process.memory_full_info().pss for process in (this, *this.children(recursive=True)))


def table(results: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    """The lines of the table in docs/scale.md."""
    yield "| | start, s | items/s | of the processes | memory |"
    yield "|---|---|---|---|---|"
    base = median(result["rate"] for result in results[list(WAYS)[1]])
    for way, found in results.items():
        start, rate, memory = (
            median(result[key] for result in found) for key in ("start", "rate", "memory")
        )
        cells = f"{start:.1f} | {rate:.1f} | {rate / base:.2f} | {memory / 1e6:.0f} MB"
        yield f"| {way} | {cells} |"


def main() -> None:
    """Measure all ways turn by turn, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--way", choices=list(WAYS), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.way:
        print(json.dumps(measure(given.way, given.items)))
        return
    results: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    for _ in range(given.repeats):
        for way in WAYS:
            command = [sys.executable, __file__, "--way", way, "--items", str(given.items)]
            environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
            done = subprocess.run(
                command,
                check=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
            )
            results[way].append(json.loads(done.stdout.splitlines()[-1]))
    assert len({result["digest"] for found in results.values() for result in found}) == 1
    print(f"{date.today()}, {given.items} items, medians of {given.repeats}")
    print("\n".join(table(results)))


if __name__ == "__main__":
    main()
