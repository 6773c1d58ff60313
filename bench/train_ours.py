"""One run of glmtrain for bench/train.py, as `glmtrain run` does it, with a stopwatch beside it.

    python train_ours.py SPEC.json RESULT.json

SPEC.json is written by bench/train.py.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from glmtrain import data, devices
from glmtrain import run as training
from glmtrain.config import build
from glmtrain.metrics import StepMetrics
from glmtrain.progress import Silent
from glmtrain.run import Mode
from stopwatch import Stopwatch


class Watched(Silent):
    """Stops the time of each step, and shows nothing."""

    def __init__(self) -> None:
        self.watch = Stopwatch()
        self.steps: list[StepMetrics] = []

    def step(self, metrics: StepMetrics) -> None:
        """A step is done."""
        self.watch.lap()
        self.steps.append(metrics)


def settings(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The run that SPEC describes: what all trainers share, the rest as it is by default."""
    return {
        "model": {
            "path": spec["model"],
            "attention": spec["attention"],
            "gradient_checkpointing": spec["checkpointing"],
        },
        "data": {"shards": [spec["data"]], "tokens_per_batch": spec["tokens"]},
        "optimiser": {"learning_rate": spec["rate"], "weight_decay": 0.0},
        "schedule": {"decay": "constant", "warmup": 0.0},
        "lora": {"rank": spec["rank"], "alpha": float(spec["alpha"]), "dropout": 0.0},
        "precision": {"dtype": spec["dtype"]},
        # The few answers that are looked at before and after are not part of any step.
        "run": {
            "output": spec["output"],
            "max_steps": spec["steps"],
            "seed": spec["seed"],
            "sample_tokens": 1,
        },
    }


def main(spec_file: str, result_file: str) -> None:
    """Train, and write what the steps took."""
    spec = json.loads(Path(spec_file).read_bytes())
    config, watched = build([("bench", settings(spec))]), Watched()
    with devices.join(config.devices) as place:
        training.train(config, place, given=(), shown=watched, mode=Mode(overwrite=True))
    squares = data.load(config.data.shards).squares
    result = {
        **watched.watch.result(),
        "first_loss": watched.steps[0].loss,
        "tokens": [step.tokens for step in watched.steps],
        "supervised": [step.supervised_tokens for step in watched.steps],
        "computed": [round(step.tokens / (1 - step.padding)) for step in watched.steps],
        "squares": [int(squares[list(step.rows)].sum()) for step in watched.steps],
    }
    Path(result_file).write_text(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
