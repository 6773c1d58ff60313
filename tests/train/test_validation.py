"""Held-out rows while a run goes on: their loss, the best weights, the early end."""

from __future__ import annotations

import json

import pytest
from glmprep.errors import UsageError
from glmtrain import data, devices, evaluate, metrics, model
from glmtrain.config import build
from glmtrain.measuring import measuring
from glmtrain.progress import Silent
from glmtrain.run import Mode, Training, train
from glmtrain.validation import Validation
from safetensors.torch import load_file


@pytest.fixture
def run(settings, bucketed, packed):
    """A run on packed rows with bucketed ones held out."""

    def run(mode=None, **changes):
        changes.setdefault("data", {})
        changes["data"] |= {"shards": [str(packed)], "validation": str(bucketed)}
        merged = {name: {**settings.get(name, {}), **changes.get(name, {})} for name in settings}
        config = build([("test", {**changes, **merged})])
        with devices.join(config.devices) as place:
            return train(config, place, given=(), shown=Silent(), mode=mode or Mode())

    return run


def held_out(result):
    steps = metrics.read(result.output)
    return {step["step"]: step["eval_loss"] for step in steps if step["eval_loss"] is not None}


def test_the_loss_is_the_mean_over_all_labels_of_the_rows_held_out(settings, bucketed):
    changes = {"data": {**settings["data"], "validation": str(bucketed)}}
    config = build([("test", {**settings, **changes})])
    with devices.join(config.devices) as place, model.quiet_libraries():
        ready = Training(config, (), Silent(), Mode(), place)
        rows = data.load([str(bucketed)])
        found = Validation(ready.plan.config, rows, place).loss(ready.strategy)
        places = evaluate.drawn(rows, 10**9, tokens_per_batch=64, seed=1)
        with measuring(ready.strategy):
            each = evaluate.losses(
                ready.strategy.learner, rows, [p[0] for p in places], ready.precision
            )
    assert found == pytest.approx(each.loss.mean(), rel=1e-5)


def test_it_is_measured_as_often_as_asked_and_at_the_end(run):
    result = run(evaluation={"every": 4}, run={"max_steps": 10})
    assert list(held_out(result)) == [4, 8, 10]


def test_a_run_without_held_out_rows_measures_none(run, settings):
    config = build([("test", settings)])
    with devices.join(config.devices) as place:
        result = train(config, place, given=(), shown=Silent())
    assert held_out(result) == {}
    assert result.best_step is None


def test_the_weights_that_predict_held_out_rows_best_are_kept(run):
    """A rate that is far too high in the end makes the last steps the worst."""
    result = run(
        evaluation={"every": 2},
        run={"max_steps": 16, "keep_checkpoints": 1},
        optimiser={"learning_rate": 0.3, "max_grad_norm": 0.0},
        schedule={"decay": "constant", "warmup": 0.9},
    )
    losses = held_out(result)
    best = min(losses, key=losses.get)
    assert best != 16, losses
    assert result.best_step == best
    assert json.loads((result.output / "run.json").read_text())["best_step"] == best
    kept = result.output / "checkpoints" / f"step-{best:06d}"
    one, other = (load_file(f / "adapter_model.safetensors") for f in (kept, result.output))
    assert all((one[name] == other[name]).all() for name in one)


def test_a_run_ends_when_held_out_loss_no_longer_falls(run):
    result = run(evaluation={"every": 1, "patience": 3, "least": 0.5}, run={"max_steps": 30})
    assert result.last_step < 30
    assert result.stopped_by is None
    assert result.record["state"] == "finished"
    assert (result.output / "adapter_model.safetensors").exists()
    more = {"evaluation": {"every": 1, "patience": 3, "least": 0.5}, "run": {"max_steps": 30}}
    with pytest.raises(UsageError, match=r"held-out loss no longer fell.*evaluation\.patience"):
        run(Mode(resume=True), **more)


def test_a_resumed_run_remembers_the_best_step_and_its_patience(run, tmp_path):
    changes = {"evaluation": {"every": 2, "patience": 50}}
    straight = run(run={"max_steps": 8, "output": str(tmp_path / "straight")}, **changes)
    parts = {"max_steps": 8, "output": str(tmp_path / "parts"), "keep_checkpoints": 9}
    run(run=parts, **changes)
    # As after a kill at step 6: what came after the checkpoint of step 4 is not there.
    folder = tmp_path / "parts" / "checkpoints"
    for step in ("000006", "000008"):
        for path in (folder / f"step-{step}").glob("*"):
            path.unlink()
        (folder / f"step-{step}").rmdir()
    resumed = run(Mode(resume=True), run=parts, **changes)
    assert held_out(resumed) == held_out(straight)
    assert resumed.learned == straight.learned


def test_held_out_rows_of_another_tokenizer_are_refused(settings, tools, tmp_path, bucketed):
    rows = data.load([str(bucketed)]).rows
    other = {"name": "other", "sha256": "1" * 64}
    folder = tools.write_shards(tmp_path / "other", rows, tokenizer=other)
    changes = {"data": {**settings["data"], "validation": str(folder)}}
    config = build([("test", {**settings, **changes})])
    with devices.join(config.devices) as place, pytest.raises(UsageError, match="another token"):
        train(config, place, given=(), shown=Silent())
