from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from types import ModuleType, SimpleNamespace

import pytest
from glmdiag import accelerators, hardware
from glmdiag.accelerators import Device, Process
from glmdiag.hardware import Cpu, Machine
from glmdiag.hardware_rules import GIB, judge
from glmreport import render
from glmtrain.probe import DtypeCheck, Recommendation

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
)
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
    versions={"python": "3.11.7", "torch": "2.13.0", "cuda": "12.8"},
    recommendation=SOUND,
    unseen=[],
)
ON_CPU = replace(SOUND, device="cpu", dtype="float32")
OTHER = Process(pid=7, user="ann", name="python", memory=30 * GIB)
WINDOWS = Process(pid=8, user="bob", name="Xorg", memory=GIB // 50)


def with_bf16(**changes) -> Machine:
    return replace(MACHINE, recommendation=replace(SOUND, bf16=replace(BF16, **changes)))


def with_device(**changes) -> Machine:
    return replace(MACHINE, devices=[replace(A100, **changes)])


FAULTY = {
    "HW001": replace(MACHINE, devices=[], driver=None),
    "HW002": with_bf16(native=False, speedup=0.1),
    "HW003": with_bf16(error=math.inf),
    "HW004": with_device(memory_free=20 * GIB),
    "HW005": with_device(processes=[OTHER, WINDOWS]),
    "HW006": replace(MACHINE, recommendation=None, unseen=["torch"]),
    "HW007": replace(MACHINE, recommendation=ON_CPU),
    "HW008": with_bf16(speedup=0.5),
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


class FakeNvml(ModuleType):
    """NVIDIA's library as a machine with one busy V100 answers."""

    class NVMLError(Exception):
        pass

    def __init__(self, *, broken: bool = False) -> None:
        super().__init__("pynvml")
        self.broken = broken

    def nvmlInit(self):  # noqa: N802
        if self.broken:
            raise self.NVMLError("driver not loaded")

    def nvmlShutdown(self): ...  # noqa: N802

    def __getattr__(self, name):
        answers = {
            "nvmlSystemGetDriverVersion": b"570.1",
            "nvmlDeviceGetCount": 1,
            "nvmlDeviceGetHandleByIndex": "handle",
            "nvmlDeviceGetName": "Tesla V100",
            "nvmlDeviceGetMemoryInfo": SimpleNamespace(total=32 * GIB, free=2 * GIB),
            "nvmlDeviceGetComputeRunningProcesses": [
                SimpleNamespace(pid=2**22 + 1, usedGpuMemory=30 * GIB)
            ],
        }
        if name == "nvmlDeviceGetCudaComputeCapability":
            return self.refuse
        if name not in answers:
            raise AttributeError(name)
        return lambda *_: answers[name]

    def refuse(self, *_):
        raise self.NVMLError("not supported")


def test_nvidia_devices_are_seen_with_their_users(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml())
    driver, (device,) = accelerators.nvidia()
    assert driver == "570.1"
    assert (device.name, device.memory_free, device.capability) == ("Tesla V100", 2 * GIB, None)
    # A process outside this container: its memory is known, its name is not.
    assert device.processes == [Process(pid=2**22 + 1, user=None, name=None, memory=30 * GIB)]


@pytest.mark.parametrize("module", [None, FakeNvml(broken=True)], ids=["missing", "no driver"])
def test_without_library_or_driver_no_nvidia_device_is_seen(monkeypatch, module):
    monkeypatch.setitem(sys.modules, "pynvml", module)
    assert accelerators.nvidia() == (None, ())


def test_without_torch_everything_else_is_still_shown(monkeypatch, glmdiag):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml())
    status, out, _ = glmdiag("hw", "--json", "-")
    found = json.loads(out)
    assert status == 0
    assert found["devices"][0]["name"] == "Tesla V100"
    assert found["cpu"]["memory_total"] > GIB
    assert found["versions"]["tokenizers"]
    assert found["unseen"] == ["torch"]
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
