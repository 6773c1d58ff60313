"""How long the checks on a million messages take, beyond reading them.

    python bench/checks.py [--messages N]

The messages are those of SGD (English, with tool calls) and SMILECHAT (Chinese), from the folder
that GLM_ASSETS names or ../shared/assets beside the repository, as often as it takes, each copy
with ids of its own. They go through batch by batch, as in every data command: read and parsed, laid
out as a table, then looked at by all rules on form, and by all rules on text, as `glmprep audit`
does. Each step is timed alone; on a shared machine its CPU seconds tell more than the clock.
"""

from __future__ import annotations

import argparse
import gzip
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path

import orjson
import polars as pl
from glmprep.intake import BATCH
from glmprep.parse import parse
from glmprep.records import Conversation, Origin, RawRow
from glmprep.rules.format import FORMAT_RULES, special_token_text
from glmprep.rules.text import TEXT_RULES
from glmprep.table import message_table
from glmprep.tokenizer import load

FILES = (
    "sgd/sgd_toolchat_dev.jsonl.gz",
    "sgd/sgd_toolchat_test.jsonl.gz",
    "smilechat/smilechat_12k.jsonl.gz",
)
ROLES = {"client": "user", "counselor": "assistant"}


@dataclass(slots=True)
class Step:
    """What one step took so far."""

    clock: float = 0.0
    cpu: float = 0.0

    def __enter__(self) -> None:
        self.clock -= time.perf_counter()
        self.cpu -= time.process_time()

    def __exit__(self, *_: object) -> None:
        self.clock += time.perf_counter()
        self.cpu += time.process_time()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=1_000_000)
    wanted = parser.parse_args().messages
    beside = Path(__file__).resolve().parents[2] / "shared" / "assets"
    folder = Path(os.environ.get("GLM_ASSETS", beside)) / "data"
    if not all((folder / name).exists() for name in FILES):
        sys.exit(f"{folder}: no SGD and SMILECHAT there; set GLM_ASSETS")
    lines = [
        line
        for name in FILES
        for line in gzip.decompress((folder / name).read_bytes()).splitlines()
    ]
    special = list(load().added)
    flags = {
        "rules on form": {
            rule.id: rule(special) if rule is special_token_text else rule()
            for rule in FORMAT_RULES
        },
        "rules on text": {rule.id: rule() for rule in TEXT_RULES},
    }
    report(measure(lines, flags, wanted))


def rows(lines: Sequence[bytes]) -> Iterator[RawRow]:
    """All rows, again and again, with new ids."""
    for copy in count():
        for place, line in enumerate(lines, 1):
            value = orjson.loads(line) | {"id": f"{copy}-{place}"}
            yield RawRow(value=value, origin=Origin("copies", place))


def measure(
    lines: Sequence[bytes], flags: Mapping[str, Mapping[str, pl.Expr]], wanted: int
) -> tuple[dict[str, Step], int, int]:
    """The steps, and the messages and bytes of text that went through."""
    steps = {name: Step() for name in ("read and parse", "table", *flags)}
    stream = parse(rows(lines), ROLES)
    messages = size = 0
    while messages < wanted:
        with steps["read and parse"]:
            chunk = [one for one in islice(stream, BATCH) if isinstance(one, Conversation)]
        with steps["table"]:
            table = message_table(chunk)
        for name, rules in flags.items():
            with steps[name]:
                table.lazy().select(**rules).collect()
        messages += table.height
        size += int(table["content"].str.len_bytes().sum())
    return steps, messages, size


def report(measured: tuple[dict[str, Step], int, int]) -> None:
    """Print the steps as a table, scaled to a million messages."""
    steps, messages, size = measured
    print(f"{messages:,} messages, {size / 1e6:,.0f} MB of text; seconds per million messages:")
    print(f"{'':18}{'clock':>8}{'CPU':>8}{'MB/s':>8}")
    structural = Step()
    for name in ("table", "rules on form"):
        structural.clock += steps[name].clock
        structural.cpu += steps[name].cpu
    steps = {**steps, "table + form": structural}
    for name, step in steps.items():
        clock, cpu = (1e6 * seconds / messages for seconds in (step.clock, step.cpu))
        print(f"{name:18}{clock:8.2f}{cpu:8.2f}{size / 1e6 / step.clock:8,.0f}")


if __name__ == "__main__":
    main()
