"""How full packed rows are, in how much time and memory; and how alike the steps of ranks are.

    python bench/arrange.py [--large]

Real lengths: SMILECHAT and SGD as `glmprep bucket` tokenizes them, the meetings of QMSum cut at
2,048 tokens and of VCSum at 1,024 by the greedy segmenter; from the folder that GLM_ASSETS names,
or ../shared/assets beside the repository. `hard`: half of the lengths are uniform in 30 to 95 % of
capacity, the others uniform below 30 %, or log-normal and too short to fill up what is left.
Beside `glmprep`: best-fit decreasing item by item, which is TRL's `bfd`; each row filled with the
longest that fits, which is LLaMA-Factory's packing; and the next row begun where the next
conversation does not fit. These for the smaller sets only. Each in a process of its own (Linux);
memory is what it needs at its peak beside the lengths. `--large` adds ten million lengths.
"""

from __future__ import annotations

import argparse
import multiprocessing
import subprocess
import sys
import tempfile
import time
from bisect import bisect_right, insort
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import numpy.typing as npt
from glmprep import shards
from glmprep.arrange import packed
from glmprep.batching import ATTENTION, token_batches
from glmprep.edges import best_edges, histogram
from glmprep.packing import least_bins
from glmprep.segmenters.greedy import greedy
from meetings import Meeting, assets, qmsum, vcsum

Lengths = npt.NDArray[np.int32]
Packer = Callable[[Lengths, int], int]
"""Gives the number of rows."""
SMALL = 100_000
ROLES = ("--role", "client=user", "--role", "counselor=assistant")


def tokenized(folder: str, *options: str) -> Lengths:
    """The lengths of real conversations."""
    files = sorted((assets() / "data" / folder).glob("*.jsonl.gz"))
    with tempfile.TemporaryDirectory() as made:
        command = [sys.executable, "-m", "glmprep.cli", "bucket", *map(str, files), *options]
        subprocess.run([*command, "-o", made, "--max-length", "65536", "--quiet"], check=True)
        return shards.read(Path(made))[1].lengths.astype(np.int32)


def segments(meetings: list[Meeting], limit: int) -> Lengths:
    """The lengths of the segments of meetings, turns that are longer left out."""
    found = [
        np.add.reduceat(meeting.tokens, greedy(meeting.stretch(limit))) for meeting in meetings
    ]
    lengths = np.concatenate(found).astype(np.int32)
    return lengths[lengths <= limit]


def drawn(kind: str, count: int, capacity: int) -> Lengths:
    """Lengths of a distribution."""
    random = np.random.default_rng(0)
    half = count // 2
    log_normal = random.lognormal(np.log(capacity / 20), 0.8, count)
    large = random.uniform(0.3, 0.95, half) * capacity
    small = random.uniform(0.001, 0.3, half) * capacity
    lengths = {
        "log-normal": log_normal,
        "hard": np.concatenate([large, small]),
        "hard, little to fill up with": np.concatenate([large, log_normal[:half]]),
    }[kind]
    return random.permutation(np.clip(lengths, 1, capacity).astype(np.int32))


def sets(large: bool) -> Iterator[tuple[str, Lengths, int]]:
    """Names, lengths and capacities."""
    chat = {"SMILECHAT": tokenized("smilechat", *ROLES), "SGD": tokenized("sgd")}
    for name, lengths in chat.items():
        for capacity in (2048, 8192):
            yield name, lengths[lengths <= capacity], capacity
    for name, meetings, limit in (
        ("QMSum", qmsum("Academic_train"), 2048),
        ("VCSum", vcsum(), 1024),
    ):
        lengths = segments(meetings, limit)
        yield f"{name}, segments of {limit}", lengths, limit
        yield f"{name}, segments of {limit}", lengths, 8192
    for count in (SMALL, 1_000_000, *([10_000_000] if large else [])):
        for kind in ("log-normal", "hard", "hard, little to fill up with"):
            yield kind, drawn(kind, count, 8192), 8192
    yield "log-normal", drawn("log-normal", 1_000_000, 131_072), 131_072


def with_glmprep(lengths: Lengths, capacity: int) -> int:
    """The plan of `glmprep bucket --layout packed`."""
    return len(packed(lengths, capacity=capacity, seed=0))


def item_by_item(lengths: Lengths, capacity: int) -> int:
    """Best-fit decreasing as textbooks have it, with the room of all rows in a sorted list."""
    rooms: list[int] = []
    rows: list[list[int]] = []
    by_room: dict[int, list[int]] = {}
    for item in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[item])
        place = bisect_right(rooms, length - 1)
        if place < len(rooms):
            room = rooms.pop(place)
            row = by_room[room].pop()
        else:
            room, row = capacity, len(rows)
            rows.append([])
        rows[row].append(item)
        insort(rooms, room - length)
        by_room.setdefault(room - length, []).append(row)
    return len(rows)


def row_by_row(lengths: Lengths, capacity: int) -> int:
    """Each row filled with the longest that still fits, until none does."""
    left, rows = np.sort(lengths).tolist(), 0
    while left:
        room, rows = capacity, rows + 1
        while place := bisect_right(left, room):
            room -= left.pop(place - 1)
    return rows


def in_turn(lengths: Lengths, capacity: int) -> int:
    """A new row where the next conversation does not fit."""
    rows, room = 0, 0
    for length in lengths.tolist():
        if length > room:
            rows, room = rows + 1, capacity
        room -= length
    return rows


PACKERS: dict[str, Packer] = {
    "glmprep": with_glmprep,
    "item by item": item_by_item,
    "row by row": row_by_row,
    "in turn": in_turn,
}


def measured(packer: Packer, lengths: Lengths, capacity: int) -> tuple[int, float, float]:
    """Rows, seconds, and MiB at the peak, in a process of its own."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    process = context.Process(target=_measure, args=(there, packer, lengths, capacity))
    process.start()
    found: tuple[int, float, float] = here.recv()
    process.join()
    return found


def _measure(answer: Connection, packer: Packer, lengths: Lengths, capacity: int) -> None:
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak of the process before
    before, began = _peak(), time.perf_counter()
    rows = packer(lengths, capacity)
    answer.send((rows, time.perf_counter() - began, _peak() - before))


def _peak() -> float:
    """MiB that were resident at most."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def packing(large: bool) -> None:
    """Print a table of all packers on all sets."""
    print("| lengths | number | capacity | packer | rows | filled | bound | seconds | MiB |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, lengths, capacity in sets(large):
        least = least_bins(histogram(lengths, capacity), capacity)
        tokens = int(lengths.sum(dtype=np.int64))
        for packer in PACKERS if len(lengths) <= SMALL else ["glmprep"]:
            rows, seconds, memory = measured(PACKERS[packer], lengths, capacity)
            filled, most = (tokens / (count * capacity) for count in (rows, least))
            print(
                f"| {name} | {len(lengths):,} | {capacity:,} | {packer} | {rows:,} | {filled:.3%} "
                f"| {min(1, most):.3%} | {seconds:.2f} | {memory:.0f} |",
                flush=True,
            )


def batching() -> None:
    """Print how much of the ranks' time is spent waiting for the slowest, by ways to deal rows."""
    lengths = drawn("log-normal", SMALL, 8192)
    edges = best_edges(lengths, 8, 8192)
    group = np.searchsorted(edges, lengths)
    budget = 16_384
    print("\n| ranks | steps | waiting, glmprep | waiting, batches dealt in random order |")
    print("|---|---|---|---|")
    for ranks in (2, 8, 64, 512):
        deal = partial(token_batches, lengths, group, edges, tokens=budget, seed=0)
        made, alone = deal(ranks=ranks), deal().of_rank(0)
        ours = np.array([[_work(lengths[b]) for b in made.of_rank(r)] for r in range(ranks)])
        whole = len(alone) // ranks * ranks
        theirs = np.array([_work(lengths[b]) for b in alone[:whole]]).reshape(-1, ranks).T
        waiting = [1 - costs.mean() / costs.max(axis=0).mean() for costs in (ours, theirs)]
        print(f"| {ranks} | {made.steps:,} | {waiting[0]:.2%} | {waiting[1]:.2%} |")


def _work(lengths: Lengths) -> float:
    pairs = float(np.square(lengths, dtype=np.float64).sum())
    return len(lengths) * int(lengths.max()) + ATTENTION * pairs


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--large", action="store_true", help="ten million lengths as well")
    packing(parser.parse_args().large)
    batching()
