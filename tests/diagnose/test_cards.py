from __future__ import annotations

import json
import math
from dataclasses import replace

import orjson
import pytest
from glmdiag.machine import attention, cards, hardware
from glmdiag.machine.hardware_rules import judge
from glmdiag.machine.room import rooms
from glmprep.errors import InputError, UsageError
from glmprep.shape import GLM4_9B
from glmreport import render
from glmtrain.probe import DtypeCheck, Recommendation

GIB = 1 << 30


def test_a_card_is_found_with_or_without_its_brand():
    names = ("3090", "RTX 3090", "nvidia geforce rtx-3090", "rtx3090")
    assert {cards.find(name).name for name in names} == {"3090"}
    assert cards.find("Ascend 910B").name == "910B"


def test_an_unknown_card_is_answered_with_those_that_are_known():
    with pytest.raises(UsageError, match=r"V10: not a card that is known; known are V100, .*910B"):
        cards.find("V10")


@pytest.mark.parametrize(
    ("card", "dtype", "bf16", "fp16", "tf32", "fp8"),
    [
        ("P100", "float16", False, True, False, False),
        ("P40", "float32", False, False, False, False),
        ("V100", "float16", False, True, False, False),
        ("T4", "float16", False, True, False, False),
        ("2080Ti", "float16", False, True, False, False),
        ("3090", "bfloat16", True, True, True, False),
        ("A100", "bfloat16", True, True, True, False),
        ("4090", "bfloat16", True, True, True, True),
        ("H20", "bfloat16", True, True, True, True),
        ("910A", "float16", False, True, False, False),
        ("910B", "bfloat16", True, True, False, False),
    ],
)
def test_a_card_says_which_formats_it_has_units_for(card, dtype, bf16, fp16, tf32, fp8):
    machine = hardware.simulated(card)
    found = machine.formats
    assert (found.bf16, found.fp16, found.tf32, found.fp8) == (bf16, fp16, tf32, fp8)
    assert (machine.dtype, machine.bf16_native, machine.fp16_ok) == (dtype, bf16, fp16)


@pytest.mark.parametrize(
    ("card", "plain", "masked", "load"),
    [
        ("V100", "sdpa_efficient", "sdpa_efficient", "sdpa"),
        ("A100", "sdpa_flash", "sdpa_efficient", "flash_attention_2"),
        ("910B", "sdpa_math", "sdpa_math", "sdpa"),
    ],
)
def test_a_card_says_which_kernel_of_attention_is_taken(card, plain, masked, load):
    found = hardware.simulated(card).attention
    assert (found.plain, found.masked, found.load) == (plain, masked, load)


def test_flash_attention_3_is_for_hopper_alone_and_wide_heads_leave_flash_out():
    def usable(card, head):
        found = attention.expected(cards.find(card).device, "bfloat16", head)
        return {kernel.kind for kernel in found.kernels if kernel.usable}

    assert "flash_attention_3" in usable("H100", 128)
    assert "flash_attention_3" not in usable("A100", 128)
    assert "sdpa_cudnn" not in usable("A100", 256)
    assert usable("A100", 512) == {"sdpa_efficient", "sdpa_math", "flex_attention"}


@pytest.mark.parametrize("card", [card.name for card in cards.known_cards()])
def test_every_card_has_findings_and_a_page(card):
    from glmdiag.views.hardware import page

    machine = hardware.simulated(card)
    findings = judge(machine)
    room = rooms(GLM4_9B, machine.memory_total, machine.dtype)
    expected = set()
    if not machine.bf16_native:
        expected = {"HW009"} | ({"HW018"} if machine.devices[0].make == "nvidia" else set())
    assert {finding.rule for finding in findings} == expected
    assert card in render(page(machine, findings, "glmdiag hw", GLM4_9B.name, room))


def test_what_fits_grows_with_memory_and_full_training_of_9b_never_fits_one_card():
    small, large = (rooms(GLM4_9B, memory * GIB, "bfloat16") for memory in (24, 80))
    longest = {
        room.method: (room.longest, other.longest) for room, other in zip(small, large, strict=True)
    }
    assert longest["lora"][0] < longest["lora"][1]
    assert longest["full"] == (None, None)
    assert longest["qlora"][0] > longest["lora"][0]


def as_read(machine: hardware.Machine) -> hardware.Machine:
    return hardware.from_json(orjson.loads(orjson.dumps(machine.as_json())))


def test_a_machine_is_read_back_as_it_was_written():
    card = hardware.simulated("V100")
    check = DtypeCheck(dtype="bfloat16", native=True, error=math.inf, seconds=1e-3, speedup=8.0)
    advice = Recommendation(device="cuda:0", dtype="float16", bf16=check, fp16=check, fp32=check)
    measured = replace(card, simulated=None, recommendation=advice)
    for machine in (card, measured):
        assert orjson.dumps(as_read(machine).as_json()) == orjson.dumps(machine.as_json())
    assert judge(as_read(measured)) == judge(measured)  # an error of infinity survives JSON


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"devices": "x"}, "machine.devices"),
        ({"devices": [{"kind": "cuda"}]}, r"machine.devices\[0\].index is missing"),
        ({"driver": 5}, "machine.driver"),
        ({"cpu": {"name": "x", "cores": True}}, "machine.cpu.cores"),
        ({"unseen": ["everything"]}, r"machine.unseen\[0\]"),
    ],
)
def test_a_machine_that_is_not_one_is_refused_with_its_place(change, message):
    with pytest.raises(InputError, match=message):
        hardware.from_json(hardware.simulated("T4").as_json() | change)
    with pytest.raises(InputError, match="an object is expected"):
        hardware.from_json([1])


def test_hw_judges_a_card_that_is_not_there(glmdiag, tmp_path):
    result = tmp_path / "v100.json"
    status, out, _ = glmdiag("hw", "--simulate", "v100", "--json", result)
    assert status == 0
    assert "train in    fp16" in out
    assert {f["rule"] for f in json.loads(result.read_text())["findings"]} == {"HW009", "HW018"}
    status, again, _ = glmdiag("hw", "--machine", result)
    assert (status, again) == (0, out)


def test_hw_answers_wrong_calls_in_one_line(glmdiag, tmp_path):
    broken = tmp_path / "m.json"
    broken.write_text('{"cpu": 1}')
    for arguments in (
        ("--simulate", "GTX"),
        ("--simulate", "T4", "--machine", broken),
        ("--machine", broken),
        ("--machine", tmp_path / "none.json"),
        ("--model", tmp_path),
    ):
        status, out, err = glmdiag("hw", *arguments)
        assert (status, out, err.count("\n")) == (2, "", 1)


@pytest.mark.parametrize(
    ("config", "head"),
    [
        ({"kv_channels": 128, "hidden_size": 4096, "num_attention_heads": 16}, 128),
        ({"head_dim": 64}, 64),
        ({"hidden_size": 2048, "num_attention_heads": 16}, 128),
        ({"qk_nope_head_dim": 192, "qk_rope_head_dim": 64, "head_dim": 64}, 256),
        ({"hidden_size": "wide", "head_dim": -1}, 128),
    ],
)
def test_the_size_of_a_head_is_read_from_the_models_config(tmp_path, config, head):
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert attention.head_size(tmp_path) == head


def test_kernels_of_attention_are_run_on_this_machine():
    pytest.importorskip("torch").set_num_threads(1)
    found = attention.tried("cpu", None, "float32", 128)
    states = {kernel.kind: kernel.state for kernel in found.kernels}
    assert (states["sdpa_math"], states["flex_attention"]) == ("ran", "backward")
    assert states["flash_attention_2"] == "device"
    assert states[found.plain] == "ran"
    assert found.load == "sdpa"
