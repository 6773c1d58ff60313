"""NVIDIA's management library as machines answer that are not here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import ModuleType, SimpleNamespace
from typing import Any

GIB = 1 << 30
REFUSED = object()


class StandIn(ModuleType):
    """Answers by name; a sequence is one answer for each device, what is not there is refused."""

    class NVMLError(Exception):
        pass

    NVML_NVLINK_MAX_LINKS = 4

    def __init__(self, answers: Mapping[str, Any], *, broken: bool = False) -> None:
        super().__init__("pynvml")
        self.answers, self.broken = answers, broken

    def nvmlInit(self):  # noqa: N802
        if self.broken:
            raise self.NVMLError("driver not loaded")

    def nvmlShutdown(self): ...  # noqa: N802

    def __getattr__(self, name):
        if not name.startswith("nvml"):
            raise AttributeError(name)
        return lambda *arguments: self.answer(name, arguments)

    def answer(self, name, arguments):
        found = self.answers.get(name, REFUSED)
        if isinstance(found, tuple):
            found = found[arguments[0]]
        if callable(found):
            found = found(*arguments)
        if found is REFUSED:
            raise self.NVMLError("not supported")
        return found


def process(pid: int, memory: int | None) -> SimpleNamespace:
    return SimpleNamespace(pid=pid, usedGpuMemory=memory)


def memory(total: int, free: int) -> SimpleNamespace:
    return SimpleNamespace(total=total, free=free)


def busy_v100() -> StandIn:
    """An old driver: bytes for texts, and hardly anything is told."""
    return StandIn(
        {
            "nvmlSystemGetDriverVersion": b"570.1",
            "nvmlDeviceGetCount": 1,
            "nvmlDeviceGetHandleByIndex": 0,
            "nvmlDeviceGetName": b"Tesla V100",
            "nvmlDeviceGetMemoryInfo": memory(32 * GIB, 2 * GIB),
            "nvmlDeviceGetComputeRunningProcesses": [process(2**22 + 1, 30 * GIB)],
        }
    )


def lost_handle(index: int) -> int:
    if index == 1:
        raise StandIn.NVMLError("GPU is lost")
    return index


def two_a100(*, reasons: int = 0, errors: int = 0) -> StandIn:
    """Everything is told of the first device; the second has fallen off the bus."""
    answers: dict[str, Any] = {
        "nvmlSystemGetDriverVersion": "550.54.15",
        "nvmlSystemGetCudaDriverVersion": 12040,
        "nvmlDeviceGetCount": 2,
        "nvmlDeviceGetHandleByIndex": lost_handle,
        "nvmlDeviceGetName": "NVIDIA A100-SXM4-80GB",
        "nvmlDeviceGetMemoryInfo": memory(80 * GIB, 79 * GIB),
        "nvmlDeviceGetCudaComputeCapability": [8, 0],
        "nvmlDeviceGetComputeRunningProcesses": [],
        "nvmlDeviceGetClockInfo": 210,
        "nvmlDeviceGetMaxClockInfo": 1410,
        "nvmlDeviceGetCurrentClocksThrottleReasons": reasons,
        "nvmlDeviceGetTemperature": 31,
        "nvmlDeviceGetPowerUsage": 61_500,
        "nvmlDeviceGetEnforcedPowerLimit": 400_000,
        "nvmlDeviceGetPowerManagementDefaultLimit": 400_000,
        "nvmlDeviceGetTotalEccErrors": errors,
        "nvmlDeviceGetCurrPcieLinkGeneration": 1,
        "nvmlDeviceGetMaxPcieLinkGeneration": 4,
        "nvmlDeviceGetCurrPcieLinkWidth": 16,
        "nvmlDeviceGetMaxPcieLinkWidth": 16,
        "nvmlDeviceGetNvLinkState": lambda handle, link: REFUSED if link > 2 else int(link < 2),
    }
    return StandIn(answers)


def devices(names: Sequence[str]) -> StandIn:
    """Devices of which no more than the name is told."""
    return StandIn(
        {
            "nvmlDeviceGetCount": len(names),
            "nvmlDeviceGetHandleByIndex": lambda index: index,
            "nvmlDeviceGetName": lambda index: names[index],
        }
    )
