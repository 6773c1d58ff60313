"""How long the checks over a whole data set take, and how much memory they keep.

    python bench/sets.py [DATA …]

DATA defaults to SMILECHAT (12,022 dialogues) and the Schema-Guided Dialogues (5,019) in the folder
that GLM_ASSETS names, or in ../shared/assets beside the repository. `add` is the time over all
batches, `hits` that of the comparison at the end, in seconds; reading and tokenizing come first and
are shown beside them. `bytes` is what a collector keeps for a conversation: the size of its pickle,
less that of one that has seen nothing.
"""

from __future__ import annotations

import argparse
import os
import pickle
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from glmprep import families, tokenizer
from glmprep.intake import Intake
from glmprep.labels import tokenize
from glmprep.sets import set_collectors
from glmprep.source import Source

ROLES = {"client": "user", "counselor": "assistant"}


def defaults() -> list[str]:
    """The real data that is measured when none is named."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "assets"
    data = Path(os.environ.get("GLM_ASSETS", beside)) / "data"
    return [str(data / "smilechat" / "smilechat_12k.jsonl.gz"), str(data / "sgd")]


def measure(path: str) -> Iterator[dict[str, Any]]:
    """Each collector over the data, one after the other."""
    vocabulary = tokenizer.load()
    family = families.load("auto", vocabulary)
    source = Source(paths=[path], roles=ROLES)
    begin = time.perf_counter()
    intake = Intake(source, family=family, special_tokens=list(vocabulary.added))
    batches = [(b.rows, tokenize(b.rows, family, vocabulary)) for b in intake.batches() if b.rows]
    reading = time.perf_counter() - begin
    rows = sum(len(batch) for batch, _ in batches)
    for collector in set_collectors():
        empty = len(pickle.dumps(collector))
        begin = time.perf_counter()
        for batch, tokens in batches:
            collector.add(batch, tokens)
        added = time.perf_counter()
        kept = len(pickle.dumps(collector)) - empty
        again = time.perf_counter()
        found = {hit.rule.id: hit.count for hit in collector.hits()}
        yield {
            "collector": type(collector).__name__,
            "rows": rows,
            "reading": reading,
            "add": added - begin,
            "hits": time.perf_counter() - again,
            "bytes": kept / rows,
            "found": found,
        }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="*", default=defaults())
    options = parser.parse_args()
    print(f"{'':28}{'rows':>8}{'read':>9}{'add':>9}{'hits':>9}{'bytes':>9}  found")
    for path in options.data:
        if not Path(path).exists():
            sys.exit(f"{path}: no such file; name the data or set GLM_ASSETS")
        for one in measure(path):
            label = f"{Path(path).name.split('.')[0][:16]} {one['collector']}"
            print(
                f"{label:28}{one['rows']:8,}{one['reading']:9.2f}{one['add']:9.2f}"
                f"{one['hits']:9.2f}{one['bytes']:9,.0f}  {one['found']}",
                flush=True,
            )


if __name__ == "__main__":
    main()
