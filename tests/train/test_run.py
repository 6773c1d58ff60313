from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import torch
from glmprep.errors import UsageError
from glmtrain import columns, devices, metrics, model
from glmtrain.config import build
from glmtrain.output import Output, resolved
from glmtrain.progress import Silent
from glmtrain.run import Mode, train
from safetensors.torch import load_file

TIMES = ("tokens_per_second", "supervised_tokens_per_second", "peak_memory", "event")


@pytest.fixture
def start(settings):
    """Runs with changed settings; given `resume`, from what the folder holds, as the command."""

    def start(*, resume=False, overwrite=False, shown=None, given=(), **changes):
        merged = {name: {**settings.get(name, {}), **changes.get(name, {})} for name in settings}
        layers = [("test", {**changes, **merged})]
        if resume:
            layers = [resolved(Path(merged["run"]["output"])), ("test", changes)]
        config, mode = build(layers), Mode(resume=resume, overwrite=overwrite)
        with devices.join(config.devices) as place:
            return train(config, place, given=given, shown=shown or Silent(), mode=mode)

    return start


class StopAfter(Silent):
    """Sends the signal of a polite end while a step is shown."""

    def __init__(self, step, number=signal.SIGTERM):
        self.at, self.number = step, number

    def step(self, metrics):
        if metrics.step == self.at:
            signal.raise_signal(self.number)


def final_weights(output):
    return {
        name: weight
        for path in sorted(output.glob("*model*.safetensors"))
        for name, weight in load_file(path).items()
    }


def without_times(steps):
    return [{k: v for k, v in step.items() if k not in TIMES} for step in steps]


def test_a_run_leaves_all_that_it_promises(start):
    result = start(run={"save_every": 2})
    assert sorted(path.name for path in result.output.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "checkpoints",
        "config.resolved.toml",
        "metrics.jsonl",
        "run.json",
    ]
    names = sorted(path.name for path in (result.output / "checkpoints").iterdir())
    assert names == ["step-000004", "step-000006"]
    record = json.loads((result.output / "run.json").read_text())
    assert (record["state"], record["last_step"]) == ("finished", 6)
    assert record["shards"][0]["manifest_sha256"]
    assert record["base"]["fingerprint"]


def test_nothing_is_pickled(start):
    result = start(run={"save_every": 3})
    kinds = {path.suffix for path in result.output.rglob("*") if path.is_file()}
    assert kinds == {".json", ".jsonl", ".toml", ".safetensors"}


def test_metrics_have_one_object_a_step(start):
    result = start()
    steps = metrics.read(result.output)
    assert [step["step"] for step in steps] == [1, 2, 3, 4, 5, 6]
    expected = {"loss", "learning_rate", "grad_norm", "tokens", "supervised_tokens", "bucket"}
    expected |= {"peak_memory", "loss_scale", "rows", "event", "padding", "epoch", "findings"}
    assert expected <= steps[0].keys()


def test_the_adapter_is_loaded_by_peft_and_answers_differently(start, small_model):
    result = start()
    with model.quiet_libraries():
        from peft import PeftModel

        base = model.load(str(small_model), torch.float32).eval()
        ids = torch.arange(20)[None]
        before = base(input_ids=ids).logits
        adapted = PeftModel.from_pretrained(base, result.output)
        after = adapted(input_ids=ids).logits
    assert (after - before).abs().max() > 0.1
    saved = final_weights(result.output)
    for name, weight in adapted.named_parameters():
        if "lora_" in name:
            assert torch.equal(weight, saved[name.replace(".default", "")])


@pytest.mark.parametrize("method", ["lora", "full"])
def test_stopped_and_resumed_is_the_same_to_the_bit(start, tmp_path, method):
    """Dropout is on, so the random generators have to be where they were, too."""
    changes = {"model": {"method": method}, "data": {"accumulate": 2}}
    changes |= {"lora": {"dropout": 0.2}} if method == "lora" else {}
    straight = start(run={"output": str(tmp_path / "straight")}, **changes)
    stopped = start(shown=StopAfter(3), **changes)
    assert (stopped.stopped_by, stopped.last_step) == ("SIGTERM", 3)
    torch.manual_seed(99)
    resumed = start(resume=True)
    assert resumed.stopped_by is None
    one, other = (metrics.read(result.output) for result in (straight, resumed))
    assert without_times(one) == without_times(other)
    assert other[3]["event"] == "resumed"
    weights = final_weights(resumed.output)
    for name, weight in final_weights(straight.output).items():
        assert torch.equal(weight, weights[name])
    assert straight.learned == resumed.learned


def test_steps_after_the_checkpoint_are_done_again(start):
    result = start(run={"save_every": 4, "keep_checkpoints": 9})
    last = result.output / "checkpoints" / "step-000006"
    (last / "state.json").unlink()  # as if only the older one had been written
    last.rename(last.with_name(".step-000006.tmp"))
    again = start(resume=True)
    assert [step["step"] for step in metrics.read(again.output)] == [1, 2, 3, 4, 5, 6]


def test_a_line_cut_short_by_a_crash_is_dropped(start):
    result = start(shown=StopAfter(2))
    with (result.output / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "lo')
    start(resume=True)
    assert [step["step"] for step in metrics.read(result.output)] == [1, 2, 3, 4, 5, 6]


def test_an_interrupt_saves_and_gives_the_signals_back(start):
    before = signal.getsignal(signal.SIGINT)
    result = start(shown=StopAfter(2, signal.SIGINT))
    assert result.stopped_by == "SIGINT"
    assert (result.output / "checkpoints" / "step-000002" / "state.json").exists()
    assert not (result.output / "adapter_model.safetensors").exists()
    assert signal.getsignal(signal.SIGINT) is before


def test_a_finished_run_goes_on_only_with_more_steps(start):
    start()
    with pytest.raises(UsageError, match="at step 6 of 6 already; raise --max-steps"):
        start(resume=True)
    assert start(resume=True, run={"max_steps": 8}).last_step == 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lora": {"rank": 2}}, "had another lora.rank"),
        ({"run": {"seed": 7}}, "had another run.seed"),
        ({"data": {"accumulate": 5}}, "had another data.accumulate"),
    ],
)
def test_a_resumed_run_keeps_what_decides_its_weights_and_rows(start, changes, message):
    start(shown=StopAfter(2))
    with pytest.raises(UsageError, match=message):
        start(resume=True, **changes)


def test_a_resumed_run_refuses_other_shards(start, packed):
    start(shown=StopAfter(2))
    with pytest.raises(UsageError, match="shards changed since its run began"):
        start(resume=True, data={"shards": [str(packed)]})


def test_a_resumed_run_may_have_another_learning_rate(start):
    start(shown=StopAfter(2))
    again = start(resume=True, optimiser={"learning_rate": 0.001})
    assert metrics.read(again.output)[2]["learning_rate"] <= 0.001


def test_a_run_is_not_overwritten_unless_asked(start):
    first = start(run={"save_every": 2})
    with pytest.raises(UsageError, match="--resume to go on with it, --overwrite to replace it"):
        start()
    (first.output / "notes.txt").write_text("mine")
    start(overwrite=True, run={"max_steps": 3})
    assert [step["step"] for step in metrics.read(first.output)] == [1, 2, 3]
    names = [path.name for path in (first.output / "checkpoints").iterdir()]
    assert names == ["step-000003"]
    assert (first.output / "notes.txt").read_text() == "mine"


def test_refused_runs_leave_nothing_behind(start, tmp_path):
    with pytest.raises(UsageError):
        start(lora={"target_modules": ["nowhere"]})
    assert not (tmp_path / "run").exists()


def test_it_says_whether_it_learned(start):
    good = start(run={"max_steps": 20})
    assert good.learned.verdict == "learned"
    assert good.learned.after.loss < good.learned.before.loss
    assert good.record["learned"] == good.learned.as_json()
    idle = start(overwrite=True, optimiser={"learning_rate": 1e-9})
    assert idle.learned.verdict == "unchanged"
    assert "LG101" in [finding.rule for finding in idle.findings]


def test_settings_without_effect_are_named(start):
    given = ["schedule.final", "run.epochs", "lora.rank", "precision.initial_loss_scale"]
    result = start(given=given, schedule={"decay": "constant"}, run={"epochs": 9})
    named = [finding.where for finding in result.findings if finding.rule == "CF101"]
    assert named == ["precision.initial_loss_scale", "run.epochs", "schedule.final"]


def test_settings_that_have_an_effect_are_not_named(start):
    result = start(given=["run.max_steps", "lora.rank", "schedule.final", "optimiser.beta1"])
    assert not [finding for finding in result.findings if finding.rule == "CF101"]


def test_a_run_killed_before_its_weights_were_in_place_is_finished_by_resuming(start, monkeypatch):
    class Killed(BaseException):
        pass

    def kill(self, *_):
        raise Killed

    plain = Output.place_weights
    monkeypatch.setattr(Output, "place_weights", kill)
    with pytest.raises(Killed):
        start()
    monkeypatch.setattr(Output, "place_weights", plain)
    result = start(resume=True)
    assert result.record["state"] == "finished"
    assert (result.output / "adapter_model.safetensors").exists()
    assert [step["step"] for step in metrics.read(result.output)] == [1, 2, 3, 4, 5, 6]


def test_large_data_is_unpacked_only_while_the_run_lasts(start, monkeypatch):
    seen = []
    plain = columns.mapped
    monkeypatch.setattr(columns, "MAPPED_FROM", 1)
    monkeypatch.setattr(columns, "mapped", lambda folder: seen.append(folder) or plain(folder))
    small = start(run={"max_steps": 2})
    assert [folder.parent for folder in seen] == [small.output]
    assert not seen[0].exists()
