"""What the environment of a launcher makes of a process."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from glmprep.errors import InputError, SuiteError, UsageError
from glmtrain import devices
from glmtrain.settings import Devices

LAUNCHER = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
TWO = {"WORLD_SIZE": "2"}
FSDP = {**TWO, "ACCELERATE_USE_FSDP": "true"}
DEEPSPEED = {**TWO, "ACCELERATE_USE_DEEPSPEED": "true"}


@pytest.fixture(autouse=True)
def launcher(monkeypatch):
    """No launcher, until the test says so."""
    for name in LAUNCHER:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(devices, "default_device", lambda: torch.device("cpu"))
    monkeypatch.setattr(devices, "find_spec", lambda name: name)
    return monkeypatch


def test_without_a_launcher_there_is_one_process_and_no_group():
    with devices.join(Devices()) as place:
        assert (place.rank, place.ranks, place.strategy, place.main) == (0, 1, "single", True)
        assert not torch.distributed.is_initialized()


def test_alone_there_is_nobody_to_talk_to():
    with devices.join(Devices()) as place:
        assert place.total([1.5, 2.0]) == [1.5, 2.0]
        assert place.any(True)
        assert not place.any(False)
        assert place.share({"a": [1]}) == {"a": [1]}
        place.barrier()
        with place.turn():
            pass


def test_slicing_alone_makes_a_group_of_one_without_a_network_and_ends_it():
    with devices.join(Devices(strategy="fsdp2")) as place:
        assert place.ranks == torch.distributed.get_world_size() == 1
    assert not torch.distributed.is_initialized()


def test_the_group_ends_with_an_error_too():
    with pytest.raises(KeyError), devices.join(Devices(strategy="fsdp2")):
        raise KeyError
    assert not torch.distributed.is_initialized()


def test_an_error_of_the_connection_becomes_one_line():
    lost = RuntimeError("[gloo/transport/tcp/pair.cc:553] Connection closed by peer")
    with (
        pytest.raises(SuiteError, match=r"lost the others; .*Connection closed by peer"),
        devices.join(Devices(strategy="fsdp2")),
    ):
        raise lost


def test_another_error_stays_what_it_is():
    with (
        pytest.raises(RuntimeError, match="shapes cannot be multiplied"),
        devices.join(Devices(strategy="fsdp2")),
    ):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")


@pytest.mark.parametrize(
    ("environment", "asked", "name"),
    [
        ({}, "auto", "single"),
        (TWO, "auto", "ddp"),
        (TWO, "zero2", "zero2"),
        ({}, "ddp", "single"),
        ({}, "zero3", "zero3"),
        (FSDP, "auto", "fsdp2"),
        (FSDP, "ddp", "ddp"),
        ({**DEEPSPEED, "ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"}, "auto", "zero3"),
        (DEEPSPEED, "auto", "zero2"),
    ],
)
def test_the_strategy_is_what_was_asked_for_or_what_the_launcher_says(environment, asked, name):
    assert devices.strategy(Devices(strategy=asked), environment) == name


def test_the_stage_may_stand_in_a_file_of_deepspeed(tmp_path):
    path = tmp_path / "zero.json"
    path.write_text(json.dumps({"zero_optimization": {"stage": 3}}))
    environment = {**DEEPSPEED, "ACCELERATE_DEEPSPEED_CONFIG_FILE": str(path)}
    assert devices.strategy(Devices(), environment) == "zero3"


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_a_file_of_deepspeed_without_a_stage_is_refused(tmp_path, content):
    path = tmp_path / "zero.json"
    path.write_text(content)
    environment = {**DEEPSPEED, "ACCELERATE_DEEPSPEED_CONFIG_FILE": str(path)}
    with pytest.raises(InputError, match=r"names no zero_optimization\.stage"):
        devices.strategy(Devices(), environment)


@pytest.mark.parametrize(
    ("asked", "environment", "said"),
    [
        (Devices(strategy="single"), TWO, "2 processes were started"),
        (Devices(offload=True), TWO, "no effect with ddp"),
        (
            Devices(),
            {**DEEPSPEED, "ACCELERATE_DEEPSPEED_ZERO_STAGE": "1"},
            "asks for ZeRO stage 1",
        ),
    ],
)
def test_contradictions_are_refused(asked, environment, said):
    with pytest.raises(UsageError, match=said):
        devices.strategy(asked, environment)


def test_zero_without_deepspeed_is_told_how_to_get_it(launcher):
    launcher.setattr(devices, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'glm-finetune-suite\[deepspeed\]'"):
        devices.strategy(Devices(strategy="zero2"), TWO)


def test_a_launcher_that_says_only_half_is_refused(launcher):
    launcher.setenv("WORLD_SIZE", "2")
    with (
        pytest.raises(UsageError, match="no RANK, MASTER_ADDR, MASTER_PORT: start it with"),
        devices.join(Devices()),
    ):
        pass


def test_an_environment_that_is_no_number_is_refused(launcher):
    launcher.setenv("WORLD_SIZE", "two")
    with (
        pytest.raises(UsageError, match="WORLD_SIZE = 'two' is no number"),
        devices.join(Devices()),
    ):
        pass


def test_more_processes_than_accelerators_are_refused(launcher):
    launcher.setenv("WORLD_SIZE", "2")
    launcher.setenv("LOCAL_RANK", "1")
    launcher.setattr(devices, "default_device", lambda: torch.device("cuda"))
    launcher.setattr(torch.accelerator, "device_count", lambda: 1)
    with (
        pytest.raises(UsageError, match="2 processes on this machine, but 1 accelerators"),
        devices.join(Devices()),
    ):
        pass


def test_only_rank_0_prints_and_writes():
    with devices.join(Devices()) as place:
        assert not replace(place, rank=1, ranks=2).main
