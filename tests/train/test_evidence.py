"""What a run keeps of the first step that it leaves out."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from glmprep.errors import InputError
from glmtrain import checkpoint, config, devices, evidence, metrics, model
from glmtrain.evidence import Evidence
from glmtrain.loop import step_seed
from glmtrain.progress import Silent
from glmtrain.run import Mode, Training
from safetensors.torch import load_file


@pytest.fixture
def training(settings):
    def make(mode=None, shown=None, **changes):
        merged = {name: {**settings.get(name, {}), **changes.get(name, {})} for name in settings}
        chosen = config.build([("test", {**changes, **merged})])
        with devices.join(chosen.devices) as place, model.quiet_libraries():
            return Training(chosen, (), shown or Silent(), mode or Mode(overwrite=True), place)

    return make


def poison(monkeypatch, learner, *, steps):
    """Have the loss of these training steps be NaN; each has one batch."""
    plain, at = type(learner).forward, [0]

    def forward(self, inputs, returns="sum"):
        found = plain(self, inputs, returns)
        if not self.training:
            return found
        at[0] += 1
        return found * float("nan") if at[0] in steps else found

    monkeypatch.setattr(type(learner), "forward", forward)


@pytest.fixture
def broken(training, monkeypatch):
    """A run whose steps 3 and 5 have no finite loss, and its weights after step 2."""
    made = training(mode=Mode(overwrite=True, force=True), data={"accumulate": 1})
    monkeypatch.setattr(made, "_preflight", lambda: None)
    poison(monkeypatch, made.strategy.learner, steps={3, 5})
    before = {}

    def remember(step):
        if step.step == 2:
            before.update(made.strategy.weights())

    made._shown.step = remember
    result = made.run()
    return made, result.output, before


def test_a_healthy_run_keeps_nothing(training):
    result = training().run()
    assert not (result.output / "evidence").exists()
    assert {line["evidence"] for line in metrics.read(result.output)} == {None}


def test_the_first_step_that_is_not_finite_is_kept_with_the_weights_before_it(broken):
    made, output, before = broken
    assert [path.name for path in (output / "evidence").iterdir()] == ["step-000003"]
    folder = evidence.find(output, 3)
    kept = load_file(folder / "weights.safetensors")
    assert kept.keys() == before.keys()
    assert all(torch.equal(kept[name], before[name]) for name in before)
    assert made.saved(made.loop()).restore(folder) == 2


def test_the_log_names_what_was_kept_and_the_facts_are_those_of_the_log(broken):
    made, output, _ = broken
    lines = metrics.read(output)
    assert [line["evidence"] for line in lines[:5]] == [
        None,
        None,
        "evidence/step-000003",
        None,
        None,
    ]
    facts = json.loads((output / lines[2]["evidence"] / "step.json").read_text())
    rows = [row for rank in facts["batches"] for batch in rank for row in batch["rows"]]
    assert rows == lines[2]["rows"]
    assert facts["step"]["learning_rate"] == lines[2]["learning_rate"]
    assert facts["seeds"] == [step_seed(42, 3, 0)]
    assert facts["dtype"] == "fp32"
    lengths = made.data.rows.lengths
    assert [b["length"] for b in facts["batches"][0]] == [int(lengths[rows].max())]


def metrics_of(event, scale=None):
    return metrics.StepMetrics(
        step=2,
        epoch=0.1,
        loss=1.0,
        learning_rate=1e-3,
        grad_norm=1.0,
        tokens=1,
        supervised_tokens=1,
        padding=0.0,
        tokens_per_second=1.0,
        supervised_tokens_per_second=1.0,
        peak_memory=1,
        bucket=32,
        loss_scale=scale,
        rows=[0],
        event=event,
    )


def test_the_first_of_each_kind_is_kept_and_ordinary_overflows_are_not(training):
    made = training()
    kept = Evidence(saved=made.saved(made.loop()), course=made.course, plan=made.plan)
    ordinary = ["overflow", "rewound", "split", "resumed", None]
    assert [kept.take(metrics_of(event, 65536.0)) for event in ordinary] == [None] * 5
    assert kept.take(metrics_of("spike")) == "evidence/step-000002"
    assert kept.take(replace(metrics_of("spike"), step=4)) is None
    last = replace(metrics_of("overflow", 1.0), step=6)
    assert kept.take(last) == "evidence/step-000006"
    assert kept.take(replace(metrics_of("skipped"), step=7)) is None


def test_a_resumed_run_drops_what_comes_again_and_an_overwritten_one_all(broken, training):
    made, output, _ = broken
    evidence.keep_until(output, 3)
    assert evidence.find(output, 3)
    evidence.keep_until(output, 2)
    assert evidence.find(output, 3) is None
    (output / "evidence" / "step-000009").mkdir()
    made._output.clear()
    assert not (output / "evidence").exists()


def test_a_run_can_begin_from_what_was_kept(broken, training, tmp_path):
    _, output, _ = broken
    start = Mode(start=evidence.find(output, 3))
    result = training(mode=start, run={"output": str(tmp_path / "again")}).run()
    assert [line["step"] for line in metrics.read(result.output)] == [3, 4, 5, 6]


@pytest.mark.parametrize(
    "text", ["", "[]", '{"format": "other"}', '{"format": "glmtrain-evidence/1"}']
)
def test_damaged_facts_are_refused_with_what_to_do(tmp_path, text):
    (tmp_path / "step.json").write_text(text)
    with pytest.raises(InputError, match=r"step\.json: not what a run keeps .*; remove"):
        evidence.batches(tmp_path)


def test_checkpoints_are_found_by_their_number(tmp_path):
    for step in (2, 10, 1_000_000):
        (tmp_path / "checkpoints" / checkpoint.named(step)).mkdir(parents=True)
    assert checkpoint.until(tmp_path, 9).name == "step-000002"
    assert checkpoint.until(tmp_path, 10).name == "step-000010"
    assert checkpoint.until(tmp_path, 1) is None
