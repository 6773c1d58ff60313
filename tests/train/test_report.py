from __future__ import annotations

import json
import math
import re
from dataclasses import replace

import pytest
from glmreport import check_catalogues, render
from glmreport.text import Catalogue, Text
from glmtrain import report
from glmtrain.config import build
from glmtrain.derive import Decision
from glmtrain.learned import Learned, Measured
from glmtrain.metrics import METRICS
from glmtrain.plan import Plan
from glmtrain.run import RunResult


@pytest.fixture
def result(tmp_path):
    """A finished run of 40 steps, with an overflow at the tenth."""
    folder = tmp_path / "run <b>"
    folder.mkdir()
    steps = []
    for number in range(1, 41):
        step = {"step": number, "loss": 9 - number / 10, "learning_rate": 1e-3, "grad_norm": 1.0}
        step |= {"tokens": 100, "supervised_tokens": 40, "padding": 0.2, "peak_memory": 2**30}
        step |= {"bucket": 128 if number % 2 else 64, "mfu": 0.4}
        step |= {"tokens_per_second": 900.0, "supervised_tokens_per_second": 300.0}
        steps.append({**step, "rows": [1, 2], "event": None, "findings": []})
    steps[9] |= {"loss": None, "grad_norm": None, "event": "overflow"}
    (folder / METRICS).write_text("".join(json.dumps(step) + "\n" for step in steps))
    data = {"shards": ["shards one:0.5", "two:1"]}
    config = build([("test", {"run": {"output": str(folder)}, "data": data})])
    decision = Decision(setting="dtype", value="fp32", reason=Text("train.reason.given"))
    return RunResult(
        plan=Plan(config=config, decisions=(decision,), steps_per_epoch=20, steps=40),
        record={},
        findings=(),
        last_step=40,
        stopped_by=None,
        best_step=None,
        learned=Learned(
            before=Measured(loss=9.0, shuffled=9.1, stop=0.01),
            after=Measured(loss=5.0, shuffled=8.0, stop=0.8),
            answers=3,
            tokens=120,
            exact=0.5,
        ),
    )


def words(page, language="en"):
    return Catalogue.load(language).say(page.verdict.headline)


def test_the_page_says_that_it_learned_and_how_to_use_it(result):
    page = report.page(result, "glmtrain run")
    assert page.verdict.level == "good"
    assert words(page) == "The model learned from the data"
    html = render(page)
    assert "PeftModel.from_pretrained(tiny()" in html
    assert "9.00 → 5.00" in html
    assert "9.10 → 8.00" in html
    assert "1.0 GiB" in html
    assert "fp16 overflow, step skipped" in html


@pytest.mark.parametrize(
    ("after", "level", "headline"),
    [
        (8.95, "warn", "The run hardly changed the model"),
        (12.0, "bad", "The model is worse than before the run"),
        (math.nan, "bad", "The model is worse than before the run"),
    ],
)
def test_a_run_that_taught_nothing_is_not_praised(result, after, level, headline):
    now = replace(result.learned.after, loss=after)
    learned = replace(result.learned, after=now)
    page = report.page(replace(result, learned=learned), "glmtrain run")
    assert (page.verdict.level, words(page)) == (level, headline)
    assert "glmdiag labels 'shards one' two" in [step.command for step in page.steps]


def test_a_stopped_run_can_be_resumed_by_copying_a_line(result):
    stopped = replace(result, stopped_by="SIGINT", last_step=7, learned=None)
    page = report.page(stopped, "glmtrain run")
    assert page.steps[0].command.endswith("--resume")
    assert words(page) == "The run was stopped after step 7 of 40"
    assert words(page, "zh") == "训练在第 7 步中止（共 40 步）"


def test_names_are_escaped(result):
    assert not re.search(r"<b>(?!\w)", render(report.page(result, "glmtrain run")))


def test_both_languages_have_the_same_entries():
    assert [problem for problem in check_catalogues() if problem.startswith("train.")] == []
