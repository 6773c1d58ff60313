"""TensorBoard for real; wandb, trackio and swanlab by modules that take the same calls.

The three are not installed where these tests run, so that they show what is asked of them and not
what they make of it.
"""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
from glmprep.errors import UsageError
from glmtrain import trackers
from glmtrain.metrics import StepMetrics
from glmtrain.settings import Tracking

SERVICES = ("wandb", "trackio", "swanlab")


def step(number: int, **more) -> StepMetrics:
    facts = {
        "epoch": 0.5,
        "loss": 3.0 - number,
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


class Service:
    """Takes the calls that wandb, trackio and swanlab have in common."""

    def __init__(self) -> None:
        self.begun: dict[str, object] = {}
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.finished = False
        self.Settings = SimpleNamespace

    def init(self, **given) -> None:
        self.begun = given

    def log(self, values, *, step) -> None:
        self.logged.append((step, values))

    def finish(self) -> None:
        self.finished = True


@pytest.fixture(params=SERVICES)
def service(request, monkeypatch):
    for name in ("WANDB_MODE", "WANDB_API_KEY", "SWANLAB_MODE", "SWANLAB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    made = Service()
    monkeypatch.setitem(sys.modules, request.param, made)
    return request.param, made


@pytest.fixture
def begin(tmp_path):
    notes: list[str] = []

    def start(*names: str):
        tracking = Tracking(to=names, project="glm")
        return trackers.start(tracking, tmp_path / "run-1", {"seed": 1}, notes.append), notes

    return start


def test_tensorboard_gets_the_numbers_of_each_step(begin, tmp_path):
    running, _ = begin("tensorboard")
    running.log(step(1))
    running.log(step(2, eval_loss=1.5))
    running.close()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "run-1" / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in events.Scalars("train/loss")] == [(1, 2.0), (2, 1.0)]
    assert [(e.step, e.value) for e in events.Scalars("eval/loss")] == [(2, 1.5)]


def test_a_service_gets_project_settings_and_steps_and_is_ended(service, begin):
    name, made = service
    running, notes = begin(name)
    running.log(step(1))
    running.close()
    assert (made.begun["project"], made.begun["config"]) == ("glm", {"seed": 1})
    ((number, logged),) = made.logged
    assert (number, logged["train/loss"]) == (1, 2.0)
    assert made.finished
    assert notes == []


@pytest.mark.parametrize(
    ("name", "key", "online"),
    [("wandb", "WANDB_API_KEY", "online"), ("swanlab", "SWANLAB_API_KEY", "cloud")],
)
def test_a_service_stays_offline_until_a_key_or_its_own_mode_says_otherwise(
    name, key, online, begin, monkeypatch
):
    made, mode = Service(), key.replace("API_KEY", "MODE")
    monkeypatch.setitem(sys.modules, name, made)
    for variable in (key, mode):
        monkeypatch.delenv(variable, raising=False)
    begin(name)
    assert made.begun["mode"] == "offline"
    monkeypatch.setenv(key, "of the user")
    begin(name)
    assert made.begun["mode"] == online
    monkeypatch.setenv(mode, "disabled")
    begin(name)
    assert made.begun["mode"] == "disabled"


def test_numbers_that_are_missing_or_not_finite_are_left_out():
    shown = trackers.values(step(1, loss=float("nan"), mfu=0.5))
    assert "train/loss" not in shown
    assert "train/loss_scale" not in shown
    assert shown["speed/mfu"] == 0.5


def test_a_tracker_that_fails_is_left_out_and_told_of_and_the_others_go_on(begin, monkeypatch):
    broken, sound = Service(), Service()
    broken.log = lambda *_, **__: 1 / 0
    monkeypatch.setitem(sys.modules, "wandb", broken)
    monkeypatch.setitem(sys.modules, "trackio", sound)
    running, notes = begin("wandb", "trackio")
    for number in (1, 2):
        running.log(step(number))
    assert notes == ["tracking with wandb ends here (division by zero); the run goes on"]
    assert [number for number, _ in sound.logged] == [1, 2]


def test_a_tracker_that_cannot_start_does_not_keep_the_run_from_starting(begin, monkeypatch):
    broken = Service()
    broken.init = lambda **_: 1 / 0
    monkeypatch.setitem(sys.modules, "wandb", broken)
    running, notes = begin("wandb")
    assert running.running == {}
    assert notes == ["tracking with wandb could not start (division by zero); the run goes on"]


def test_a_library_that_is_not_installed_is_refused_with_how_to_install_it(begin, monkeypatch):
    monkeypatch.setitem(sys.modules, "swanlab", None)
    with pytest.raises(UsageError, match="pip install swanlab"):
        begin("swanlab")


def test_an_unknown_tracker_is_refused_with_the_nearest(begin):
    with pytest.raises(UsageError, match="did you mean tensorboard"):
        begin("tensorbord")
