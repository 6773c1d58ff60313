"""`glmtrain run` as torchrun starts it: two processes do what one does, and one goes on with it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from glmtrain import metrics

FIXED = {"lora.dropout": 0.0, "optimiser.learning_rate": 0.02, "precision.dtype": '"fp32"'}


@pytest.fixture
def run(small_model, bucketed, tmp_path):
    """Runs on so many processes; the lines that were printed."""

    def run(processes, name, *more):
        words = ["run", "--model", small_model, "--shards", bucketed, "-o", tmp_path / name]
        words += [w for key, value in FIXED.items() for w in ("--set", f"{key}={value}")]
        launcher = ["-m", "torch.distributed.run", "--nproc-per-node", processes]
        start = [*launcher, "-m", "glmtrain"] if processes > 1 else ["-m", "glmtrain"]
        words = [sys.executable, *start, *words, *more]
        done = subprocess.run(
            [str(word) for word in words],
            capture_output=True,
            text=True,
            timeout=240,
            env={"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def losses(folder):
    return [step["loss"] for step in metrics.read(folder)]


@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_two_processes_train_as_one_does_and_one_goes_on(run, tmp_path, strategy):
    """Each step of two processes holds two batches, so one process accumulates two."""
    batches = ["--tokens-per-batch", 1, "--max-steps", 6]
    run(1, "one", *batches, "--accumulate", 2)
    shown = run(2, "two", *batches, "--strategy", strategy)
    assert shown.count("trained 6 steps") == 1
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert len(one) == len(two) == 6
    first = json.loads((tmp_path / "two" / "metrics.jsonl").read_text().splitlines()[0])
    assert first["ranks"] == 2
    run(2, "again", *batches, "--strategy", strategy)
    assert losses(tmp_path / "again") == two
