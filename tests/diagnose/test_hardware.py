from __future__ import annotations

import json
import math
import sys
from dataclasses import replace

import pytest
from glmdiag.machine import attention, hardware
from glmdiag.machine.accelerators import Condition, Device, Process
from glmdiag.machine.hardware import Machine
from glmdiag.machine.hardware_rules import GIB, judge
from glmdiag.machine.processor import Cpu
from glmreport import render
from glmtrain.probe import DtypeCheck, Recommendation

from tests.diagnose.nvml_stand_in import busy_v100

BF16 = DtypeCheck(dtype="bfloat16", native=True, error=0.005, seconds=1e-3, speedup=8.0)
FP32 = replace(BF16, dtype="float32", error=1e-7, speedup=1.0)
SOUND = Recommendation(
    device="cuda:0", dtype="bfloat16", bf16=BF16, fp16=replace(BF16, dtype="float16"), fp32=FP32
)
A100 = Device(
    kind="cuda",
    index=0,
    name="NVIDIA A100",
    memory_total=80 * GIB,
    memory_free=78 * GIB,
    capability="8.0",
    condition=Condition(
        clock=1410,
        clock_max=1410,
        slowed_by=[],
        temperature=50,
        power=300.0,
        power_limit=400.0,
        power_default=400.0,
        ecc_errors=0,
        pcie=1,  # the generation falls while a device is idle: no fault
        pcie_max=4,
        lanes=16,
        lanes_max=16,
        nvlinks=12,
    ),
)
V100 = replace(A100, name="Tesla V100", capability="7.0")
MACHINE = Machine(
    cpu=Cpu(
        name="EPYC",
        cores=8,
        threads=16,
        memory_total=64 * GIB,
        memory_free=60 * GIB,
        flags=["avx512_bf16"],
    ),
    devices=[A100],
    driver="570.1",
    driver_cuda="12.8",
    versions={"python": "3.11.7", "torch": "2.13.0", "cuda": "12.8"},
    recommendation=SOUND,
    unseen=[],
    architectures=["sm_70", "sm_80", "sm_90", "compute_120"],
    attention=attention.expected(A100, "bfloat16", 128),
)
ON_CPU = replace(SOUND, device="cpu", dtype="float32")
OTHER = Process(pid=7, user="ann", name="python", memory=30 * GIB)
WINDOWS = Process(pid=8, user="bob", name="Xorg", memory=GIB // 50)


def with_bf16(**changes) -> Machine:
    return replace(MACHINE, recommendation=replace(SOUND, bf16=replace(BF16, **changes)))


def with_device(**changes) -> Machine:
    return replace(MACHINE, devices=[replace(A100, **changes)])


def with_condition(**changes) -> Machine:
    return with_device(condition=replace(A100.condition, **changes))


def with_flash(state: str) -> Machine:
    found = MACHINE.attention
    kernels = [replace(kernel, state=state) for kernel in found.kernels[:1]] + found.kernels[1:]
    return replace(MACHINE, attention=replace(found, kernels=kernels, load="sdpa"))


FAULTY = {
    "HW001": replace(MACHINE, devices=[], driver=None),
    "HW002": with_bf16(native=False, speedup=0.1),
    "HW003": with_bf16(error=math.inf),
    "HW004": with_device(memory_free=20 * GIB),
    "HW005": with_device(processes=[OTHER, WINDOWS]),
    "HW006": replace(MACHINE, recommendation=None, unseen=["torch"]),
    "HW007": replace(MACHINE, recommendation=ON_CPU),
    "HW008": with_bf16(speedup=0.5),
    "HW010": with_condition(slowed_by=["heat"], clock=600, temperature=88),
    "HW011": with_condition(ecc_errors=3),
    "HW012": with_condition(lanes=8),
    "HW013": with_condition(power_limit=250.0),
    "HW014": replace(MACHINE, devices=[A100, replace(V100, index=1)]),
    "HW015": replace(MACHINE, driver="535.1", driver_cuda="12.2", versions={"cuda": "13.0"}),
    "HW016": replace(MACHINE, architectures=["sm_75", "sm_90", "compute_90"]),
    "HW017": with_flash("package"),
    "HW018": with_flash("capability"),
    "HW019": replace(
        MACHINE,
        devices=[A100, replace(A100, index=1, name="?", problem="GPU is lost")],
    ),
    "HW020": replace(
        MACHINE,
        devices=[
            replace(A100, index=i, condition=replace(A100.condition, nvlinks=None))
            for i in range(2)
        ],
    ),
}


@pytest.mark.parametrize("rule", FAULTY)
def test_a_rule_fires_alone_on_a_machine_with_its_fault(rule):
    assert [finding.rule for finding in judge(FAULTY[rule])] == [rule]


def test_a_sound_machine_has_no_findings():
    assert judge(MACHINE) == []
    assert judge(with_device(processes=[WINDOWS])) == []


def test_little_main_memory_is_told_too():
    machine = replace(MACHINE, cpu=replace(MACHINE.cpu, memory_free=GIB))
    assert [(f.rule, f.where) for f in judge(machine)] == [("HW004", "cpu")]


def test_missing_bf16_is_a_warning_on_a_gpu_and_a_note_on_a_processor():
    emulated = replace(BF16, native=False)
    on_gpu = replace(MACHINE, recommendation=replace(SOUND, bf16=emulated))
    on_cpu = replace(on_gpu, recommendation=replace(ON_CPU, bf16=emulated), driver=None)
    severities = [next(f.severity for f in judge(m) if f.rule == "HW002") for m in (on_gpu, on_cpu)]
    assert severities == ["warning", "info"]


@pytest.mark.parametrize("machine", [MACHINE, *FAULTY.values()], ids=["sound", *FAULTY])
def test_every_machine_has_a_page_that_tells_its_findings(machine):
    from glmdiag.views.hardware import page

    findings = judge(machine)
    html = render(page(machine, findings, "glmdiag hw"))
    assert "EPYC" in html
    assert all(finding.rule in html for finding in findings)


@pytest.mark.parametrize(
    "machine",
    [
        replace(MACHINE, versions={"cuda": "12.9"}, driver_cuda="12.2"),  # later builds of one CUDA
        replace(MACHINE, versions={"cuda": "12.4"}, driver_cuda=None),
        replace(MACHINE, devices=[replace(A100, make="amd")], versions={"cuda": "99.1"}),
        replace(MACHINE, architectures=["sm_80"], devices=[replace(A100, capability="8.6")]),
        replace(MACHINE, architectures=["compute_70"]),
        with_condition(nvlinks=None),  # a single device needs none
        with_condition(lanes=None, power_limit=None, ecc_errors=None, slowed_by=None),
        replace(MACHINE, devices=[A100, replace(A100, index=1)]),
    ],
)
def test_what_only_looks_like_a_fault_is_passed_over(machine):
    assert judge(machine) == []


def test_a_driver_is_judged_by_its_own_number_where_it_does_not_tell_its_cuda():
    machine = replace(MACHINE, driver="470.129.06", driver_cuda=None)
    (finding,) = judge(machine)
    assert (finding.rule, finding.data["driver_major"]) == ("HW015", 11)


def test_a_link_of_few_lanes_is_a_warning():
    assert [f.severity for f in judge(with_condition(lanes=4))] == ["warning"]


def test_without_torch_everything_else_is_still_shown(monkeypatch, glmdiag):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setitem(sys.modules, "pynvml", busy_v100())
    status, out, _ = glmdiag("hw", "--json", "-")
    found = json.loads(out)
    assert status == 0
    assert found["devices"][0]["name"] == "Tesla V100"
    assert found["cpu"]["memory_total"] > GIB
    assert found["versions"]["tokenizers"]
    assert found["unseen"] == ["torch", "condition"]
    assert {f["rule"] for f in found["findings"]} >= {"HW004", "HW005", "HW006"}


def test_a_driver_without_its_library_is_said_not_to_be_seen(monkeypatch, tmp_path):
    driver = tmp_path / "version"
    driver.touch()
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setattr(hardware, "DRIVER", driver)
    machine = hardware.examine()
    assert (machine.driver, machine.unseen) == ("unknown", ["nvml", "torch"])


def test_hw_recommends_a_number_format_and_writes_a_report(glmdiag, tmp_path):
    pytest.importorskip("torch").set_num_threads(1)
    report, result = tmp_path / "hw.html", tmp_path / "hw.json"
    status, out, err = glmdiag("hw", "--report", report, "--json", result)
    found = json.loads(result.read_text())
    assert status in (0, 1)
    assert found["recommendation"]["dtype"] in ("bfloat16", "float16", "float32")
    assert found["recommendation"]["fp32"]["state"] == "usable"
    assert "train in" in out
    assert report.read_text("utf-8").startswith("<!doctype html>")
    assert "hw.html" in err
