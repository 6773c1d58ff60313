"""What each of two processes does for the test of distilling; see `test_distill`.

Run as a script, with the environment that torchrun gives.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from glmtrain import data, devices, model, precision, strategies, teacher
from glmtrain.batches import Batch, collate
from glmtrain.config import build
from glmtrain.learner import Learner
from glmtrain.loss import Objective
from safetensors.torch import save_file

STEPS, ROWS = 3, 4


def prepared(place, student, teachers, shards):
    """A student that is wholly trained, its strategy, and the rows of the shards."""
    settings = {
        "model": {"path": str(student), "method": "full"},
        "distill": {"teacher": str(teachers), "hidden": 0.5},
        "precision": {"dtype": "fp32"},
        "optimiser": {"learning_rate": 0.02, "weight_decay": 0.1},
    }
    config, rows = build([("test", settings)]), data.load((str(shards),))
    chosen = precision.choose(config.precision, place.device)
    with model.quiet_libraries():
        causal = model.load(str(student), torch.float32).train()
        learner = Learner(causal, objective=Objective(dtype=torch.float32))
        taught = teacher.taught(learner, config, rows, chosen, place)
    return strategies.make(place, taught, config, chosen), rows


def train(place, strategy, rows):
    """A few steps on rows that are dealt out to the processes; at the last, one has none."""
    for step in range(STEPS):
        first = step * ROWS
        dealt = rows.trainable[first : first + (ROWS if step < STEPS - 1 else 1)]
        batch = Batch(rows=dealt[place.rank :: place.ranks], bucket=128, packed=False)
        inputs = collate(rows.rows, batch, rows.pad_id)
        (labelled,) = place.total([inputs.supervised])
        with strategy.accumulating(last=True):
            strategy.backward(strategy.model(inputs) / labelled)
        strategy.set_rate(0.02)
        strategy.clip_and_step(1.0, sound=True)


def main(student, teachers, shards, output):
    torch.set_num_threads(1)
    with devices.join(build([]).devices) as place:
        strategy, rows = prepared(place, student, teachers, shards)
        train(place, strategy, rows)
        weights = strategy.weights()
        if place.main:
            save_file(weights, output)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
