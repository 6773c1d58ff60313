"""The tables of bench/train.py in Markdown.

python bench/train_table.py [RESULTS.json]    # again, from what was measured
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results/train.json"
OURS = "glmtrain, packed"
Turn = dict[str, dict[str, Any]]


def tables(results: dict[str, Any]) -> str:
    """All rounds, each with its heading."""
    made = [_round(one, results) for one in results["rounds"]]
    return "\n\n".join([*made, _versions(results)])


def _round(one: dict[str, Any], results: dict[str, Any]) -> str:
    names = list(one["turns"][0])
    devices = {run["device"] for turn in one["turns"] for run in turn.values()}
    device = next(iter(devices - {None}), results["machine"])
    checkpointing = "with" if one["checkpointing"] else "without"
    head = (
        f"**{one['model']}**: {one['shape']}, {one['dtype']}, {one['tokens']:,} tokens a step, "
        f"{one['steps']} steps, {checkpointing} gradient checkpointing, {len(one['turns'])} turns; "
        f"{device}, {results['date']}.\n"
    )
    columns = _columns(on_gpu=devices != {None})
    rows = [["", *columns], ["---"] * (1 + len(columns))]
    for name in names:
        rows.append([name, *(of(one["turns"], name) for of in columns.values())])
    rows += [[name, why, *[""] * (len(columns) - 1)] for name, why in one["failed"].items()]
    return "\n".join([head, *(f"| {' | '.join(row)} |" for row in rows)])


def _columns(*, on_gpu: bool) -> dict[str, Callable[[list[Turn], str], str]]:
    """What is told of a contender; ratios are the median of those of each turn."""
    memory = "cuda" if on_gpu else "resident"

    def of(key: str, form: str) -> Callable[[list[Turn], str], str]:
        return lambda turns, name: format(median(turn[name][key] for turn in turns), form)

    def to_ours(key: str) -> Callable[[list[Turn], str], str]:
        def ratio(turns: list[Turn], name: str) -> str:
            both = [turn for turn in turns if OURS in turn]
            found = [turn[name][key] / turn[OURS][key] for turn in both]
            return f"{median(found):.2f}" if found else "–"

        return ratio

    def megabytes(key: str) -> Callable[[list[Turn], str], str]:
        return lambda turns, name: f"{median(turn[name][key] for turn in turns) / 1e6:,.0f} MB"

    def share(key: str) -> Callable[[list[Turn], str], str]:
        def told(turns: list[Turn], name: str) -> str:
            found = [turn[name][key] for turn in turns]
            return "–" if None in found else f"{median(found):.1%}"

        return told

    found = {
        "real tokens/s": of("tokens_per_second", ",.0f"),
        "supervised tokens/s": of("supervised_per_second", ",.1f"),
        "to glmtrain": to_ours("supervised_per_second"),
        "tokens a step": of("tokens_per_step", ",.0f"),
        "padding": share("padding"),
        "peak memory": megabytes(memory),
        "memory to glmtrain": to_ours(memory),
        "process": megabytes("process"),
        "loss of step 1": of("first_loss", ".5f"),
    }
    return {**found, "MFU": share("mfu")} if on_gpu else found


def _versions(results: dict[str, Any]) -> str:
    return "; ".join(f"{name}: {found}" for name, found in results["versions"].items()) + "."


if __name__ == "__main__":
    print(tables(json.loads((Path(sys.argv[1]) if sys.argv[1:] else RESULTS).read_bytes())))
