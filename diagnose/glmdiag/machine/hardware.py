"""What a machine has: processor, accelerators, their memory and users, versions of software.

Nothing here is required: without torch or NVIDIA's management library the rest is still told, and
`Machine.unseen` names what could not be looked at. A machine need not be this one: it can be read
from what `glmdiag hw --json` wrote elsewhere, or be no more than a card's name.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, TypeAlias

from glmprep.errors import UsageError
from glmprep.tokenizer import read_json
from glmtrain.probe import DType, Recommendation, recommend

from glmdiag import records
from glmdiag.machine import accelerators, attention, cards, nvml, processor
from glmdiag.machine.accelerators import UNTOLD, Device
from glmdiag.machine.attention import Attention
from glmdiag.machine.cards import UNKNOWN, Card, Formats
from glmdiag.machine.processor import Cpu

Unseen: TypeAlias = Literal["torch", "nvml", "processes", "memory", "condition", "lost"]
SHORT: Mapping[DType, str] = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}
"""Number formats as --dtype takes them."""
DRIVER = Path("/proc/driver/nvidia/version")
PACKAGES = ("torch", "transformers", "peft", "tokenizers", "flash-attn", "glm-finetune-suite")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Everything that was seen, and what was not.

    `cpu` is None for a `simulated` card, which is its name. `driver_cuda` is the newest CUDA that
    the driver runs, `architectures` those that torch has kernels for, `tf32` whether torch may
    multiply fp32 in it.
    """

    cpu: Cpu | None
    devices: Sequence[Device]
    driver: str | None
    versions: Mapping[str, str | None]
    recommendation: Recommendation | None
    unseen: Sequence[Unseen]
    driver_cuda: str | None = None
    architectures: Sequence[str] = ()
    tf32: bool | None = None
    formats: Formats = UNKNOWN
    attention: Attention | None = None
    simulated: str | None = None

    @property
    def has_nvidia_driver(self) -> bool:
        """Whether NVIDIA's driver is loaded, seen by its library or by the kernel."""
        return self.driver is not None

    @property
    def memory_total(self) -> int | None:
        """Bytes of the smallest accelerator, else of the main memory."""
        if self.devices:
            return min((d.memory_total for d in self.devices if d.memory_total), default=None)
        return self.cpu.memory_total if self.cpu else None

    @property
    def bf16_native(self) -> bool | None:
        """Whether bf16 is computed in units of its own, None where that is not known."""
        found = self.recommendation
        return self.formats.bf16 if found is None else found.bf16.native

    @property
    def fp16_ok(self) -> bool | None:
        """Whether fp16 can be trained in; on a processor it never is."""
        found = self.recommendation
        if found is None:
            return self.formats.fp16
        return found.device != "cpu" and found.fp16.state == "usable"

    @property
    def dtype(self) -> DType | None:
        """The number format to train in, None where nothing is known."""
        if self.recommendation is not None:
            return self.recommendation.dtype
        if self.simulated is None:
            return None
        return "bfloat16" if self.formats.bf16 else "float16" if self.formats.fp16 else "float32"

    def as_json(self) -> dict[str, Any]:
        """The machine as plain JSON values."""
        found = asdict(self)
        if self.recommendation is not None:
            found["recommendation"]["reason"] = self.recommendation.reason
            for name in ("bf16", "fp16", "fp32"):
                state = getattr(self.recommendation, name).state
                found["recommendation"][name]["state"] = state
        found |= {"dtype": self.dtype, "bf16_native": self.bf16_native, "fp16_ok": self.fp16_ok}
        return found


def from_json(value: object, where: str = "machine") -> Machine:
    """A machine from what `as_json` gave; raises InputError for anything else."""
    return records.build(Machine, value, where)


def choose(simulate: str | None, file: Path | None, head: int = attention.GLM_HEAD) -> Machine:
    """The machine that a command is asked to judge: a card, one that was written down, or this.

    Raises UsageError for a card that is not known and for both at once, InputError for a file that
    is not what `glmdiag hw --json` writes.
    """
    if simulate is not None and file is not None:
        raise UsageError("--simulate and --machine: give one of them")
    if simulate is not None:
        return simulated(simulate, head)
    return examine(head) if file is None else from_json(read_json(file), str(file))


def simulated(card: str, head: int = attention.GLM_HEAD) -> Machine:
    """A machine that has one such card and nothing else; raises UsageError for an unknown one."""
    found: Card = cards.find(card)
    machine = Machine(
        cpu=None,
        devices=[found.device],
        driver=None,
        versions=_versions(None),
        recommendation=None,
        unseen=[],
        formats=found.formats,
        simulated=found.name,
    )
    dtype = machine.dtype or "float32"
    return replace(machine, attention=attention.expected(found.device, dtype, head))


def examine(head: int = attention.GLM_HEAD) -> Machine:
    """Look at this machine; about a second of it is the computation in each number format."""
    seen = nvml.look()
    driver, devices = seen.driver, seen.devices
    if driver is None and DRIVER.exists():
        driver = "unknown"
    with_torch = _has_torch()
    machine = Machine(
        cpu=processor.look(),
        devices=devices or (accelerators.of_torch() if with_torch else ()),
        driver=driver,
        driver_cuda=seen.cuda,
        versions=_versions(_cuda_of_torch() if with_torch else None),
        recommendation=recommend() if with_torch else None,
        unseen=() if with_torch else ("torch",),
    )
    if machine.recommendation is not None:
        machine = _with_torch(machine, machine.recommendation, head)
    return replace(machine, unseen=[*_unseen(machine, nvml_seen=seen.driver is not None)])


def _with_torch(machine: Machine, found: Recommendation, head: int) -> Machine:
    """What torch tells of the device that it computes on."""
    import torch

    on_cpu = found.device == "cpu"
    card = None if on_cpu or not machine.devices else machine.devices[0]
    return replace(
        machine,
        architectures=torch.cuda.get_arch_list(),
        tf32=torch.get_float32_matmul_precision() != "highest",
        formats=Formats(bf16=found.bf16.native, fp16=found.fp16.native, tf32=False, fp8=False)
        if card is None
        else replace(cards.formats_of(card), bf16=found.bf16.native, fp16=found.fp16.native),
        attention=attention.tried(found.device, card, found.dtype, head),
    )


def _unseen(machine: Machine, *, nvml_seen: bool) -> Sequence[Unseen]:
    devices = [device for device in machine.devices if device.problem is None]
    missing: dict[Unseen, bool] = {
        "nvml": machine.driver == "unknown" and not nvml_seen,
        "torch": "torch" in machine.unseen,
        "memory": any(device.memory_free is None for device in devices),
        "processes": bool(devices) and not nvml_seen,
        "condition": any(device.condition == UNTOLD for device in devices),
        "lost": len(devices) < len(machine.devices),
    }
    return [name for name, is_missing in missing.items() if is_missing]


def _has_torch() -> bool:
    """Whether torch is there and loads; a build whose libraries are missing raises OSError."""
    try:
        import torch  # noqa: F401
    except (ImportError, OSError):
        return False
    return True


def _versions(cuda: str | None) -> dict[str, str | None]:
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found | {"cuda": cuda}


def _cuda_of_torch() -> str | None:
    """The CUDA (or ROCm) version that torch was built for, None for a build without."""
    import torch

    version = torch.version.cuda or torch.version.hip
    return str(version) if version else None
