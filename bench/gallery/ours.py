"""Runs of the suite's own trainer on shards that are written from rows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from base import narrow
from cache import CACHE, drawn
from glmprep import shards
from glmprep.ledger import Ledger
from glmprep.shards import Manifest, Rows, ShardWriter, write_rows
from glmprep.store import Folder
from glmtrain import data, devices
from glmtrain import run as training
from glmtrain.config import build
from glmtrain.progress import Silent
from glmtrain.run import Mode
from words import IGNORED, Row, to_rows, words

STEPS = 64
Settings = Mapping[str, Mapping[str, Any]]
DEFAULTS: dict[str, dict[str, Any]] = {
    "model": {"path": "base", "method": "lora"},
    "data": {"shards": ["data/shards"], "tokens_per_batch": 512},
    "optimiser": {"learning_rate": 1e-2},
    "lora": {"rank": 4, "alpha": 8.0},
    "precision": {"dtype": "fp32"},
    "run": {"output": "run", "max_steps": STEPS, "sample_tokens": 256},
}


def shard(
    rows: Sequence[Row],
    folder: str = "data/shards",
    *,
    step: int = 64,
    packed: int | None = None,
    budget: int = 512,
) -> None:
    """Write rows as shards, in buckets `step` tokens apart, or packed to so many tokens."""
    together = [[row] for row in rows] if packed is None else _packed(rows, packed)
    lengths = [sum(len(row.ids) for row in each) for each in together]
    buckets = [packed or -(-length // step) * step for length in lengths]
    columns = [(row, place) for each in together for place, row in enumerate(each)]
    made = Rows(
        input_ids=_column([row.ids for row, _ in columns], np.int32),
        loss_mask=_column([[x != IGNORED for x in row.labels] for row, _ in columns], np.uint8),
        position_ids=_column([range(len(row.ids)) for row, _ in columns], np.int32),
        segment_ids=_column([[place] * len(row.ids) for row, place in columns], np.int32),
        offsets=np.concatenate(([0], np.cumsum(lengths))).astype(np.int64),
        bucket=np.array(buckets, np.int32),
        conversation_ids=[[f"row-{r}.{p}" for p in range(len(e))] for r, e in enumerate(together)],
    )
    store = Folder(Path(folder))
    files = [write_rows(store, "shard-00000.parquet", made)]
    layout = "buckets" if packed is None else "packed"
    facts = replace(
        _pattern(), files=files, layout=layout, max_length=max(buckets), tokens_per_batch=budget
    )
    ShardWriter(store, overwrite=True).finish(facts)


def train(
    settings: Settings,
    seed: int,
    *,
    resume: bool = False,
) -> None:
    """Run the trainer on `data/shards`; the settings are written as the user's own TOML."""
    merged = {name: dict(values) for name, values in DEFAULTS.items()}
    for section, values in settings.items():
        merged.setdefault(section, {}).update(values)
    merged["run"]["seed"] = drawn(seed)
    _write_toml(Path("config/train.toml"), merged)
    config = build([("train.toml", merged)])
    if not resume:
        folders = [*merged["data"]["shards"], merged["data"].get("validation")]
        found = [shards.read(Path(folder))[1] for folder in folders if folder]
        narrow([row for rows in found for row in to_rows(rows)], "base")
    with inside(), devices.join(config.devices) as place:
        mode = Mode(resume=resume, force=True)
        training.train(config, place, given=(), shown=Silent(), mode=mode)


@contextmanager
def inside() -> Iterator[None]:
    """Have the trainer read ids in the numbers of the gallery's models."""
    load = data.load

    def numbered(*given: Any, **more: Any) -> data.TrainingData:
        found = load(*given, **more)
        manifests = [words().manifest(manifest) for manifest in found.manifests]
        return replace(found, rows=words().rows(found.rows), manifests=manifests)

    data.load = numbered
    try:
        yield
    finally:
        data.load = load


def _pattern() -> Manifest:
    """The manifest of the samples' shards, with an empty ledger."""
    manifest = shards.read_manifest(CACHE / "pool-counselling")
    return replace(
        manifest, buckets=[], inputs=["chats.jsonl"], ledger=Ledger().as_json(), ledger_file=None
    )


def _packed(rows: Sequence[Row], length: int) -> list[list[Row]]:
    """Rows put together, each where it fits first."""
    found: list[list[Row]] = []
    for row in rows:
        for each in found:
            if sum(len(one.ids) for one in each) + len(row.ids) <= length:
                each.append(row)
                break
        else:
            found.append([row])
    return found


def _column(values: Sequence[Sequence[int]], dtype: type) -> Any:
    return np.concatenate([np.array(each, dtype) for each in values])


def _write_toml(path: Path, settings: Settings) -> None:
    """Strings, numbers, booleans and lists are written in TOML as in JSON."""
    lines: list[str] = []
    for section, values in settings.items():
        lines += [
            f"[{section}]",
            *(f"{key} = {json.dumps(value)}" for key, value in values.items()),
        ]
        lines.append("")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines), "utf-8")
