"""`glmtrain run` as torchrun starts it, and one process that goes on with it."""

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


def test_two_processes_train_as_one_does(run, tmp_path):
    """A step of two processes holds two batches; more strategies are in test_strategies."""
    batches = ["--tokens-per-batch", 1, "--max-steps", 3]
    shown = run(2, "two", *batches)
    assert shown.count("trained 3 steps") == 1
    first = json.loads((tmp_path / "two" / "metrics.jsonl").read_text().splitlines()[0])
    assert first["ranks"] == 2
    assert len(first["rows"]) == 1  # those of the process that writes
    assert (tmp_path / "two" / "adapter_model.safetensors").exists()
    again = run(1, "two", *batches, "--max-steps", 5, "--resume")
    assert "trained 5 steps" in again
    assert [step["step"] for step in metrics.read(tmp_path / "two")] == [1, 2, 3, 4, 5]
