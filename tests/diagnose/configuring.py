"""Configurations for tests: the samples, with some settings replaced."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from glmdiag.configs import TrainerConfig, read
from glmdiag.configuration.lengths import Measured
from glmprep.lengths import Cut

SAMPLES = Path(__file__).parent / "configs"
GONE = object()


def sample(name: str) -> Path:
    return next(SAMPLES.glob(f"{name}.*"))


def tree(name: str, **changes: Any) -> dict[str, Any]:
    """A sample's values with those at dotted keys (`__` for a dot) replaced, or taken away."""
    found = yaml.safe_load(sample(name).read_text(encoding="utf-8"))
    for key, value in changes.items():
        *tables, last = key.split("__")
        table = found
        for each in tables:
            table = table.setdefault(each, {})
        if value is GONE:
            table.pop(last, None)
        else:
            table[last] = value
    return found


def made(folder: Path, name: str, beside: Any = None, /, **changes: Any) -> TrainerConfig:
    """The record of a changed sample, with a DeepSpeed file of so many changes beside it."""
    changed = tree(name, **changes)
    if name.startswith("official") and beside is not None:
        changed["training_args"].pop("deepspeed", None)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(changed), encoding="utf-8")
    paths = [path]
    if beside is not None:
        paths.append(folder / "ds.json")
        text = json.dumps(tree("ds_zero3", **beside))
        paths[1].write_text(text, encoding="utf-8")
    return read(paths)


def measured(limit: int, *, long: int = 100, short: int = 0, cut: int = 0, bare: int = 0):
    """Conversations of which `long` have twice as many tokens as the limit, `short` a half."""
    lengths = np.array([2 * limit] * long + [limit // 2] * short, np.int64)
    found = Cut(
        max_length=limit,
        rows=long,
        without_labels=bare,
        answers_cut=cut,
        supervised_lost=limit * cut // 2,
    )
    total = int(lengths.sum()) // 2
    return Measured(conversations=lengths, answers=len(lengths), supervised=total, cut=found)
