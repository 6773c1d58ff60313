"""Two processes over gloo on the CPU train as one does."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch
from glmprep.errors import UsageError
from glmtrain import data, model, precision, settings, strategies
from glmtrain.devices import Place
from safetensors.torch import load_file

from tests.train import two_processes

METHODS = ("lora", "full")
STRATEGIES = ("ddp", "fsdp2", *(("zero2", "zero3") if find_spec("deepspeed") else ()))
ALONE = Place(
    rank=0,
    ranks=1,
    local_rank=0,
    local_ranks=1,
    device=torch.device("cpu"),
    strategy="single",
)
pytestmark = pytest.mark.slow
each_strategy = pytest.mark.parametrize("name", STRATEGIES)
each_method = pytest.mark.parametrize("method", METHODS)


def start(*arguments):
    """Two processes of `two_processes`, as torchrun would start them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [
        subprocess.Popen(
            [sys.executable, two_processes.__file__, *map(str, arguments)],
            env={**os.environ, **shared, "RANK": rank, "LOCAL_RANK": rank, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in ("0", "1")
    ]


@pytest.fixture(scope="module")
def trained(small_model, bucketed, tmp_path_factory):
    """What one process and two came to, and what the two printed."""
    output = tmp_path_factory.mktemp("trained")
    rows = data.load((str(bucketed),))
    for method in METHODS:
        with model.quiet_libraries():
            strategy = two_processes.build(ALONE, small_model, method)
            found = two_processes.course(ALONE, strategy, rows)
        two_processes.write(output / "single" / method, *found)
    names = [f"{name}:{method}" for name in STRATEGIES for method in METHODS]
    both = start(small_model, bucketed, output, *names)
    said = [process.communicate(timeout=300)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], "\n".join(said)
    return output, said


def numbers(trained, name, method):
    return json.loads((trained[0] / name / method / "found.json").read_text())


def tensors(trained, name, method, what):
    return load_file(trained[0] / name / method / f"{what}.safetensors")


def assert_same(found, wanted):
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        # What a bias adds to all keys alike, the softmax takes away: its gradient is rounding,
        # which Adam makes a whole step of.
        if not name.endswith("k_proj.bias"):
            near = {"rtol": 1e-4, "atol": 1e-4}
            torch.testing.assert_close(found[name].float(), value.float(), **near, msg=name)


@each_method
@each_strategy
def test_losses_and_norms_of_two_processes_are_those_of_one(trained, name, method):
    found, wanted = (numbers(trained, each, method)["steps"] for each in (name, "single"))
    assert [loss for loss, _ in found] == pytest.approx([loss for loss, _ in wanted], abs=1e-5)
    assert [norm for _, norm in found] == pytest.approx([norm for _, norm in wanted], rel=1e-5)


@each_method
def test_clipping_is_at_work_in_these_steps(trained, method):
    assert all(
        norm > two_processes.LIMIT for _, norm in numbers(trained, "single", method)["steps"]
    )


@each_method
@each_strategy
@pytest.mark.parametrize("kind", ["weights", "state"])
def test_gathered_weights_and_moments_are_those_of_one_process(trained, name, method, kind):
    found, wanted = (tensors(trained, each, method, f"{kind}.half") for each in (name, "single"))
    assert_same(found, wanted)


@each_method
@each_strategy
def test_two_processes_go_on_from_what_one_has_written(trained, name, method):
    wanted = numbers(trained, "single", method)["steps"][two_processes.STEPS // 2 :]
    again = numbers(trained, name, method)["again"]
    assert [loss for loss, _ in again] == pytest.approx([loss for loss, _ in wanted], abs=1e-5)


@each_method
@each_strategy
def test_one_process_goes_on_from_what_two_have_written(
    trained, small_model, bucketed, name, method
):
    rows = data.load((str(bucketed),))
    with model.quiet_libraries():
        strategy = two_processes.build(ALONE, small_model, method)
    strategy.load_weights(tensors(trained, name, method, "weights.half"))
    strategy.load_optimiser_state(tensors(trained, name, method, "state.half"))
    half = two_processes.STEPS // 2
    found, _ = two_processes.train_step(ALONE, strategy, rows, half)
    assert found == pytest.approx(numbers(trained, "single", method)["steps"][half][0], abs=1e-5)


@each_method
@pytest.mark.parametrize("name", ["single", *STRATEGIES])
@pytest.mark.parametrize("reason", ["unsound", "not a number", "not accepted"])
def test_no_process_steps_where_one_must_not(trained, name, method, reason):
    before, after = (
        {kind: tensors(trained, name, method, f"{kind}.{when}") for kind in ("weights", "state")}
        for when in ("end", reason)
    )
    for kind in before:
        assert before[kind].keys() == after[kind].keys()
        assert all(torch.equal(value, after[kind][key]) for key, value in before[kind].items())


@each_method
@each_strategy
def test_the_whole_model_can_be_called_directly(trained, name, method):
    found, wanted = (numbers(trained, each, method)["logits"] for each in (name, "single"))
    assert found == pytest.approx(wanted, rel=1e-4)


def test_processes_say_nothing_of_their_own(trained):
    assert trained[1] == ["", ""]


def test_processes_add_agree_and_share(trained):
    for rank in (0, 1):
        talked = json.loads((trained[0] / f"talked.{rank}.json").read_text())
        assert talked == {
            "total": [3.0, 1.0],
            "any": [True, False],
            "share": {"from": 0, "文": [1]},
        }


def test_a_process_whose_partner_was_killed_ends_with_one_line(tmp_path):
    began = time.monotonic()
    for process in start("lonely", tmp_path):
        process.communicate(timeout=120)
    message = (tmp_path / "lost.txt").read_text()
    assert message.startswith("process 0 of 2 lost the others")
    assert "\n" not in message
    assert time.monotonic() - began < 60


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("fsdp2", {"optimiser": settings.Optimiser(name="muon")}, "whole weights, which fsdp2"),
        ("zero3", {"model": settings.Model(method="qlora")}, "cannot slice 4-bit weights"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(name, changes, said):
    place = replace(ALONE, strategy=name)
    chosen = precision.choose(settings.Precision(dtype="fp32"), place.device)
    with pytest.raises(UsageError, match=said):
        strategies.check(place, settings.Config(**changes), chosen)


@pytest.mark.skipif("zero2" not in STRATEGIES, reason="needs deepspeed")
def test_nothing_is_left_to_deepspeed():
    from glmtrain.strategies.zero import settings as deepspeed_settings

    place = replace(ALONE, strategy="zero3")
    chosen = precision.choose(settings.Precision(dtype="bf16"), place.device)
    made = deepspeed_settings(
        place,
        settings.Config(
            optimiser=settings.Optimiser(max_grad_norm=0.25),
            devices=settings.Devices(offload=True),
        ),
        chosen,
    )
    assert "auto" not in json.dumps(made)
    assert made["gradient_clipping"] == 0.25
    assert (made["bf16"]["enabled"], made["fp16"]["enabled"]) == (True, False)
    assert made["zero_optimization"]["offload_param"]["device"] == "cpu"
