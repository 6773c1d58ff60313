from __future__ import annotations

import json
import math

import pytest
import torch
from glmdiag import logs
from glmtrain import metrics
from glmtrain.metrics import CLEAR_REFS, MetricsFile, StepMetrics, peak_memory, restart_peak

CPU = torch.device("cpu")
MIB = 1 << 20


def step(number: int, **more) -> StepMetrics:
    facts = {
        "epoch": 0.5,
        "loss": 2.0,
        "learning_rate": 1e-3,
        "grad_norm": 1.0,
        "tokens": 10,
        "supervised_tokens": 5,
        "padding": 0.0,
        "tokens_per_second": 1.0,
        "supervised_tokens_per_second": 1.0,
        "peak_memory": 1,
        "bucket": 32,
        "loss_scale": None,
        "rows": [1, 2],
    }
    return StepMetrics(step=number, **{**facts, **more})


def test_an_evaluation_is_on_its_step_s_line_and_no_step_of_its_own(tmp_path):
    file = MetricsFile(tmp_path)
    for each in (step(1), step(2, eval_loss=1.5, mfu=0.4, loss_ema=1.9), step(3)):
        file.append(each)
    read = metrics.read(tmp_path)
    assert [line["step"] for line in read] == [1, 2, 3]
    assert [line["eval_loss"] for line in read] == [None, 1.5, None]
    assert [found.step for found in logs.read(file.path).steps] == [1, 2, 3]


def test_steps_after_a_checkpoint_go_with_their_evaluations(tmp_path):
    file = MetricsFile(tmp_path)
    for each in (step(1), step(2, eval_loss=1.5)):
        file.append(each)
    file.keep_until(1)
    assert [line["step"] for line in metrics.read(tmp_path)] == [1]


@pytest.mark.parametrize("name", ["loss", "grad_norm", "loss_ema", "eval_loss"])
def test_what_is_not_finite_is_null_with_its_name_beside(name, tmp_path):
    MetricsFile(tmp_path).append(step(1, **{name: math.nan}))
    (line,) = (tmp_path / metrics.METRICS).read_text().splitlines()
    values = json.loads(line, parse_constant=pytest.fail)
    assert (values[name], values[metrics.UNSOUND[name]]) == (None, "nan")


@pytest.mark.skipif(not CLEAR_REFS.exists(), reason="only Linux forgets a process's peak")
def test_the_peak_of_a_step_is_its_own_and_not_that_of_an_earlier_one():
    restart_peak(CPU)
    torch.ones(64 * MIB)  # 256 MiB, gone at once
    first = peak_memory(CPU)
    restart_peak(CPU)
    torch.ones(MIB)
    assert peak_memory(CPU) < first - 128 * MIB


def test_without_proc_the_peak_so_far_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(metrics, "STATUS", tmp_path / "none")
    monkeypatch.setattr(metrics, "CLEAR_REFS", tmp_path / "none" / "either")
    restart_peak(CPU)
    assert peak_memory(CPU) > MIB
