"""The tables of docs/scale.md, from the constants in its first table.

    python bench/scale_plan.py [PAGE]

Change a number there and run this: what stands between the two marks is written anew.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs/scale.md"
BEGIN, END = "<!-- scale: begin -->", "<!-- scale: end -->"
CONSTANT = re.compile(r"^\| `(\w+)` \| ([0-9.,]+) \|", re.MULTILINE)
AMOUNTS = {"1 TB": (1e12, 4), "100 TB": (1e14, 100)}
"""Bytes of raw text, and how many nodes work on them."""
Constants = Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """Raw text, the nodes that work on it, and all that follows from both."""

    raw: float
    nodes: int
    known: Constants

    @property
    def cores(self) -> float:
        """All cores of all nodes."""
        return self.nodes * self.known["cores"]

    @property
    def rows(self) -> float:
        """Conversations."""
        return self.raw / self.known["row_bytes"]

    @property
    def tokens(self) -> float:
        """Of all conversations."""
        return self.raw / self.known["token_bytes"]

    @property
    def core_hours(self) -> float:
        """Of all the work, at the share of their time that cores work."""
        return self.raw / 1e6 / self.known["core_rate"] / self.known["busy"] / 3600

    @property
    def hours(self) -> float:
        """From the first row to the last shard."""
        return self.core_hours / self.cores

    @property
    def cost(self) -> float:
        """In units of money."""
        return self.core_hours * self.known["price"]

    @property
    def units(self) -> float:
        """Blocks, each of which becomes a unit."""
        return math.ceil(self.raw / (self.known["block_mib"] * 2**20))

    @property
    def shards(self) -> float:
        """Shard files."""
        return math.ceil(self.tokens / self.known["file_tokens"])

    @property
    def objects(self) -> float:
        """Files at most at once: two of each unit, each shard file, and a note of it."""
        return 2 * self.units + 2 * self.shards

    @property
    def unit_bytes(self) -> float:
        """Of all units."""
        return self.tokens * self.known["unit_token"] + self.rows * self.known["unit_row"]

    @property
    def shard_bytes(self) -> float:
        """Of all shard files."""
        return self.tokens * self.known["shard_token"]

    @property
    def moved(self) -> float:
        """Bytes between nodes and stores: text twice, units once each way, shards once."""
        return 2 * self.raw + 2 * self.unit_bytes + self.shard_bytes

    @property
    def node_rate(self) -> float:
        """Bytes a second of each node, for the time that the work takes."""
        return self.moved / self.nodes / (self.hours * 3600)

    @property
    def driver_bytes(self) -> float:
        """What one run over everything would hold in the driver."""
        return self.rows * self.known["driver_row"]

    @property
    def windows(self) -> float:
        """Runs, each over so much raw text."""
        return math.ceil(self.raw / (self.known["window_gb"] * 1e9))

    @property
    def window_bytes(self) -> float:
        """What one of them holds in its driver."""
        return self.driver_bytes / self.windows

    @property
    def arranging_hours(self) -> float:
        """Of one window's driver that arranges its rows, over lengths alone."""
        return self.rows / self.windows / self.known["arrange_rate"] / 3600

    @property
    def drivers(self) -> float:
        """Windows at once, so that the cores never wait for blocks."""
        return max(1, math.ceil(self.parting_hours / self.hours))

    @property
    def request_cost(self) -> float:
        """Of the stretches read for shard files, one for each row, where each is paid for."""
        return self.rows / 1e6 * self.known["request_price"]

    @property
    def parting_hours(self) -> float:
        """Of one driver that reads and digests all text to part it in blocks."""
        return self.raw / 1e6 / self.known["part_rate"] / 3600

    @property
    def task_hours(self) -> float:
        """Of one driver that gives out all tasks."""
        return (self.units + self.shards) / self.known["task_rate"] / 3600


def count(value: float) -> str:
    """A number in words that are easily compared."""
    for size, name in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:,.3g} {name}".replace("e+03", "000")
    return f"{value:,.3g}"


def amount(value: float) -> str:
    """Bytes."""
    return count(value) + "B"


def hours(value: float) -> str:
    """Hours, or minutes."""
    return f"{value:,.1f} h" if value >= 1 else f"{value * 60:.0f} min"


LINES: tuple[tuple[str, str, Callable[[Amount], str]], ...] = (
    ("conversations", "raw / row_bytes", lambda a: count(a.rows)),
    ("tokens", "raw / token_bytes", lambda a: count(a.tokens)),
    ("core-hours", "raw / core_rate / busy", lambda a: count(a.core_hours)),
    ("nodes", "chosen", lambda a: str(a.nodes)),
    ("hours", "core-hours / (nodes × cores)", lambda a: hours(a.hours)),
    ("cost, in the unit of `price`", "core-hours × price", lambda a: count(a.cost)),
    ("units", "raw / block_mib", lambda a: count(a.units)),
    ("shard files", "tokens / file_tokens", lambda a: count(a.shards)),
    ("files at most at once", "2 × units + 2 × shard files", lambda a: count(a.objects)),
    (
        "bytes of units",
        "tokens × unit_token + rows × unit_row",
        lambda a: amount(a.unit_bytes),
    ),
    ("bytes of shards", "tokens × shard_token", lambda a: amount(a.shard_bytes)),
    ("bytes moved", "2 × raw + 2 × units + shards", lambda a: amount(a.moved)),
    ("of each node, a second", "moved / nodes / hours", lambda a: amount(a.node_rate)),
    ("driver's memory, one run", "rows × driver_row", lambda a: amount(a.driver_bytes)),
    ("windows", "raw / window_gb", lambda a: count(a.windows)),
    ("driver's memory, a window", "the same / windows", lambda a: amount(a.window_bytes)),
    (
        "arranging, a window",
        "rows / windows / arrange_rate",
        lambda a: hours(a.arranging_hours),
    ),
    ("parting, one driver", "raw / part_rate", lambda a: hours(a.parting_hours)),
    ("windows at once", "parting / hours", lambda a: count(a.drivers)),
    ("stretches read for shards", "rows", lambda a: count(a.rows)),
    (
        "their cost on an object store",
        "rows × request_price / million",
        lambda a: count(a.request_cost),
    ),
    (
        "giving out tasks, one driver",
        "(units + shard files) / task_rate",
        lambda a: hours(a.task_hours),
    ),
)


def table(known: Constants) -> Iterator[str]:
    """The plan as Markdown."""
    plans = [Amount(raw=raw, nodes=nodes, known=known) for raw, nodes in AMOUNTS.values()]
    yield f"| | formula | {' | '.join(AMOUNTS)} |"
    yield "|---" * (len(AMOUNTS) + 2) + "|"
    for name, formula, shown in LINES:
        yield f"| {name} | {formula} | {' | '.join(shown(plan) for plan in plans)} |"


def main() -> None:
    """Write the tables anew."""
    page = Path(sys.argv[1]) if len(sys.argv) > 1 else PAGE
    text = page.read_text("utf-8")
    known = {name: float(value.replace(",", "")) for name, value in CONSTANT.findall(text)}
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    page.write_text(f"{before}{BEGIN}\n{chr(10).join(table(known))}\n{END}{after}", "utf-8")


if __name__ == "__main__":
    main()
