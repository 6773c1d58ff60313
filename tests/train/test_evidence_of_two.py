"""What two processes keep together of a step that is not finite."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch
from glmtrain import evidence, metrics
from safetensors.torch import load_file

from tests.train import two_evidence

STRATEGIES = ("ddp", "fsdp2", *(("zero2", "zero3") if find_spec("deepspeed") else ()))
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runs(small_model, bucketed, tmp_path_factory):
    output = tmp_path_factory.mktemp("two")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    script = [sys.executable, two_evidence.__file__, small_model, bucketed, output, *STRATEGIES]
    both = [
        subprocess.Popen(
            [str(part) for part in script],
            env={**os.environ, **shared, "RANK": rank, "LOCAL_RANK": rank, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in ("0", "1")
    ]
    said = [process.communicate(timeout=300)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], "\n".join(said)
    return output


@pytest.mark.parametrize("name", STRATEGIES)
def test_whole_weights_and_the_rows_of_both_are_kept(runs, name):
    output = runs / name
    lines = metrics.read(output)
    (kept,) = (output / "evidence").iterdir()
    line = next(line for line in lines if line["evidence"])
    assert (line["event"], line["evidence"]) == ("skipped", f"evidence/{kept.name}")
    one, other = evidence.batches(kept)
    assert [row for batch in one for row in batch] == line["rows"]
    assert {row for batch in other for row in batch}.isdisjoint(line["rows"])
    assert len(set(json.loads((kept / "step.json").read_text())["seeds"])) == 2
    weights = load_file(kept / "weights.safetensors")
    assert weights["model.embed_tokens.weight"].shape == (320, 32)
    assert all(torch.isfinite(weight).all() for weight in weights.values())


@pytest.mark.parametrize("name", STRATEGIES)
def test_one_process_does_the_step_of_two_again(runs, name):
    from glmdiag.replay.replay import replay
    from glmdiag.replay.replay_rules import judge

    output = runs / name
    line = next(line for line in metrics.read(output) if line["evidence"])
    found = replay(output, line["step"])
    assert found.ranks == 2
    assert len(found.records) > len(line["rows"])
    assert [finding.rule for finding in judge(found)] == ["LG124"]
    first = replay(output, 1)
    assert first.compared.loss == pytest.approx(metrics.read(output)[0]["loss"], rel=1e-5)
    assert first.compared.norm == pytest.approx(metrics.read(output)[0]["grad_norm"], rel=1e-4)
