"""A small run before the large one: training, evaluation and the verdict, on rows of every length.

What would break hours later (a row that does not fit, a metric that fails, a model that does not
learn) shows within minutes.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from glmprep import shards
from glmprep.errors import SuiteError
from glmprep.shards import Int64, ShardWriter
from glmprep.store import Folder

from glmtrain import data
from glmtrain.data import TrainingData
from glmtrain.devices import Place
from glmtrain.progress import Silent
from glmtrain.run import Mode, RunResult, train
from glmtrain.settings import Config, Tracking

FOLDER, SAMPLE = "rehearsal", "shards"
ROWS, STEPS, EVALUATIONS = 64, 20, 2


def rehearse(config: Config, place: Place, shown: Silent) -> RunResult:
    """Train on a few rows in OUTPUT/rehearsal; raises SuiteError where the model learns nothing."""
    folder = Path(config.run.output) / FOLDER
    if place.main:
        _write_sample(data.load(config.data.shards), folder / SAMPLE)
        shown.note(f"rehearsal: {STEPS} steps on {ROWS} rows of all lengths, in {folder}")
    place.barrier()
    small, mode = _small(config, folder), Mode(overwrite=True)
    result = train(small, place, given=(), shown=shown, mode=mode)
    if result.learned is not None and result.learned.verdict != "learned":
        before, after = result.learned.before.loss, result.learned.after.loss
        raise SuiteError(
            f"the rehearsal did not learn (loss {before:.3f} before, {after:.3f} after "
            f"{STEPS} steps on {ROWS} rows), so the run was not started; look at {folder} with "
            "glmdiag log, and at the labels with glmdiag labels"
        )
    return result


def by_length(data: TrainingData, count: int) -> Int64:
    """Rows at even distances in the order of their lengths, the shortest and the longest too."""
    rows = data.trainable[np.argsort(data.rows.lengths[data.trainable], kind="stable")]
    places = np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(np.int64)
    return rows[places]


def _write_sample(data: TrainingData, folder: Path) -> None:
    store = Folder(folder)
    writer = ShardWriter(store, overwrite=True)
    writer.begin()
    rows = shards.take(data.rows, by_length(data, ROWS))
    files = [shards.write_rows(store, "shard-00000.parquet", rows)]
    manifest = replace(data.manifests[0], files=files, ledger_file=None)
    writer.finish(manifest)


def _small(config: Config, folder: Path) -> Config:
    sample = str(folder / SAMPLE)
    return replace(
        config,
        data=replace(
            config.data,
            shards=(sample,),
            replay=(),
            stages=(),
            validation=config.data.validation or sample,
        ),
        schedule=replace(config.schedule, decay="constant", warmup=0.0),
        evaluation=replace(config.evaluation, every=STEPS // EVALUATIONS, patience=0),
        tracking=Tracking(),
        run=replace(config.run, output=str(folder), max_steps=STEPS, epochs=None, save_every=0),
    )
