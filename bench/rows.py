"""CPU seconds for a million messages of each stage between bytes and tokens, encoding left out.

    python bench/rows.py DATA.jsonl... [--repeats N]

Every measurement is a process of its own, on one thread; of the repeats the median counts. In
place of the tokenizer stands one that gives a token for every two characters, at next to no cost.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from glmprep import families, tokenizer
from glmprep.intake import Intake
from glmprep.labels import tokenize
from glmprep.parse import parse
from glmprep.read import read
from glmprep.source import Source
from glmprep.table import message_table

STAGES = ("read", "parse", "table", "rules", "pieces", "labels")
ROLES = {"client": "user", "counselor": "assistant"}
ONE = "--one"


def main() -> None:
    """Measure in processes, and print."""
    if sys.argv[1:2] == [ONE]:
        print(json.dumps(measured(sys.argv[2])))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="+")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    print(f"{'CPU s per 1M messages':32}" + "".join(f"{name:>9}" for name in (*STAGES, "all")))
    for path in arguments.data:
        runs = [_process(path) for _ in range(arguments.repeats)]
        middle = [statistics.median(run[name] for run in runs) for name in STAGES]
        shown = "".join(f"{seconds:9.2f}" for seconds in (*middle, sum(middle)))
        print(f"{os.path.basename(path):32}{shown}")


def _process(path: str) -> dict[str, float]:
    command = [sys.executable, __file__, ONE, path]
    environment = {**os.environ, "POLARS_MAX_THREADS": "1"}
    found = subprocess.run(command, env=environment, capture_output=True, check=True, text=True)
    return dict(json.loads(found.stdout))


def measured(path: str) -> dict[str, float]:
    """Seconds of each stage for a million messages; where one runs another, the difference."""
    vocabulary = tokenizer.load()
    family = families.load("auto", vocabulary)
    vocabulary.encode_batch = counted  # type: ignore[method-assign]
    spent: dict[str, float] = defaultdict(float)

    def timed(name: str, work: Callable[..., Any], *given: Any) -> Any:
        begin = time.process_time()
        made = work(*given)
        spent[name] += time.process_time() - begin
        return made

    timed("read", _run_through, read([path]))
    timed("read and parse", _run_through, parse(read([path]), ROLES))
    source = Source(paths=[path], roles=ROLES)
    intake = Intake(source, family=family, special_tokens=list(vocabulary.added))
    batches = intake.batches()
    while (batch := timed("intake", next, batches, None)) is not None:
        timed("table", message_table, batch.conversations)
        timed("pieces", list, map(family.pieces, batch.rows))
        timed("tokenize", tokenize, batch.rows, family, vocabulary)
    spent["parse"] = spent["read and parse"] - spent["read"]
    spent["rules"] = spent["intake"] - spent["read and parse"] - spent["table"]
    spent["labels"] = spent["tokenize"] - spent["pieces"]
    return {name: spent[name] * 1e6 / intake.messages for name in STAGES}


def counted(texts: Sequence[str]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """What an encoder gives, without its work."""
    lengths = np.fromiter((len(text) // 2 + 1 for text in texts), np.int64, len(texts))
    return np.zeros(int(lengths.sum()), np.int32), lengths


def _run_through(items: Iterator[Any]) -> None:
    for _ in items:
        pass


if __name__ == "__main__":
    main()
