"""Which number format to train in: asked of the hardware, then proven by a computation.

What a device says of itself is not enough: a GPU without bf16 units computes bf16 all the same, at
a fraction of the speed, and some kernels compute it wrong. So each format has to pass three tests:
the hardware has units for it, a small language-model head gives the loss and the gradient that
float64 gives, and a matrix product is no slower than in fp32.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    import torch

DType: TypeAlias = Literal["bfloat16", "float16", "float32"]
State: TypeAlias = Literal["usable", "missing", "wrong", "slow"]

# bf16 keeps 8 bits (relative steps of 0.4 %), fp16 keeps 11, and sums over 512 terms average out:
# sound hardware stays several times below these limits.
TOLERANCE: dict[DType, float] = {"bfloat16": 0.03, "float16": 0.01, "float32": 1e-4}
SLOWEST = 0.8  # of fp32's speed; timing on a busy machine varies by less, emulation costs far more
LOSS_SCALE = 1024.0  # as in training: gradients of fp16 would vanish without it
AMPERE = (8, 0)  # the first CUDA capability with bf16 units
CPU_FLAGS = ("avx512_bf16", "amx_bf16", "bf16")  # the last one is ARM's
TIMED_RUNS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class DtypeCheck:
    """What one number format came to on one device.

    `native` is what the hardware says. `error` is the larger relative error of loss and gradient
    against float64, inf where they are not numbers or the computation failed (`problem` says how).
    `seconds` is the least time of a matrix product, `speedup` fp32's time over it.
    """

    dtype: DType
    native: bool
    error: float
    seconds: float
    speedup: float
    problem: str | None = None

    @property
    def correct(self) -> bool:
        """Whether the computation gave what float64 gives, within the format's precision."""
        return self.error <= TOLERANCE[self.dtype]

    @property
    def state(self) -> State:
        """ "usable", or the first test that it failed."""
        if not self.native:
            return "missing"
        if not self.correct:
            return "wrong"
        return "usable" if self.speedup >= SLOWEST else "slow"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """The number format to train in on `device`, and what it rests on."""

    device: str
    dtype: DType
    bf16: DtypeCheck
    fp16: DtypeCheck
    fp32: DtypeCheck

    @property
    def reason(self) -> str:
        """The reason as one English sentence."""
        bf16 = {
            "usable": "bf16 units, correct in a test computation",
            "missing": "no bf16 units, so bf16 would be emulated",
            "wrong": f"bf16 is wrong in a test computation (error {self.bf16.error:.2g})",
            "slow": f"bf16 runs at {self.bf16.speedup:.2f} times the speed of fp32",
        }[self.bf16.state]
        chosen = {
            "bfloat16": "",
            "float16": "; fp16 with loss scaling instead",
            "float32": "; fp32 instead",
        }[self.dtype]
        return f"{self.device}: {bf16}{chosen}"


def recommend(device: torch.device | None = None) -> Recommendation:
    """Test the formats on a device, by default the accelerator that torch finds, else the CPU.

    Takes under a second. bf16 where it is usable; else fp16 on an accelerator; else fp32.
    """
    device = device or default_device()
    fp32 = check("float32", device)
    bf16, fp16 = check("bfloat16", device, fp32), check("float16", device, fp32)
    dtype: DType = "float32"
    if bf16.state == "usable":
        dtype = "bfloat16"
    elif device.type != "cpu" and fp16.state == "usable":
        dtype = "float16"
    return Recommendation(device=str(device), dtype=dtype, bf16=bf16, fp16=fp16, fp32=fp32)


def default_device() -> torch.device:
    """The accelerator that torch finds, else the CPU."""
    import torch

    found = torch.accelerator.current_accelerator(check_available=True)
    return found or torch.device("cpu")


def check(name: DType, device: torch.device, fp32: DtypeCheck | None = None) -> DtypeCheck:
    """One format on one device; `fp32` is what its speed is compared with."""
    error, problem = _tried(lambda: _error(name, device))
    seconds, slow_problem = _tried(lambda: _seconds(name, device))
    return DtypeCheck(
        dtype=name,
        native=name == "float32" or _is_native(name, device),
        error=error,
        seconds=seconds,
        speedup=fp32.seconds / seconds if fp32 else 1.0,
        problem=problem or slow_problem,
    )


@cache
def cpu_flags() -> frozenset[str]:
    """The processor's feature flags as Linux lists them; empty elsewhere."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return frozenset()
    keys = ("flags", "Features")
    lines = (line.partition(":") for line in text.splitlines())
    return frozenset(next((v.split() for k, _, v in lines if k.strip() in keys), ()))


def _is_native(name: DType, device: torch.device) -> bool:
    """What the hardware says of itself."""
    import torch

    if device.type == "cpu":
        return name == "bfloat16" and not cpu_flags().isdisjoint(CPU_FLAGS)
    if name == "float16":
        return True
    if device.type == "cuda" and torch.version.hip is None:
        return torch.cuda.get_device_capability(device) >= AMPERE
    if device.type == "mps":
        return torch.backends.mps.is_macos_or_newer(14, 0)
    says: Callable[[], bool] | None
    says = getattr(getattr(torch, device.type, None), "is_bf16_supported", None)
    return bool(says and says())


def _tried(measure: Callable[[], float]) -> tuple[float, str | None]:
    """A measurement, or inf and why there is none: torch refuses what it cannot compute."""
    try:
        return measure(), None
    except (RuntimeError, TypeError) as error:
        return math.inf, (str(error).splitlines() or [type(error).__name__])[0]


def _error(name: DType, device: torch.device) -> float:
    """The larger relative error of loss and gradient of a small head against float64 on the CPU."""
    import torch

    loss, gradient = _head(torch.float64, torch.device("cpu"))
    found_loss, found_gradient = _head(getattr(torch, name), device)
    of_loss = abs(found_loss - loss) / loss
    of_gradient = float((found_gradient - gradient).norm() / gradient.norm())
    worst = max(of_loss, of_gradient)
    return worst if math.isfinite(of_loss + of_gradient) else math.inf


def _head(dtype: torch.dtype, device: torch.device) -> tuple[float, Any]:
    """Loss and weight gradient of normalise, project, cross entropy: 128 tokens, 512 wide.

    The targets are such that the loss lies far from that of a guess, so that a wrong one shows.
    """
    import torch
    from torch.nn import functional

    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(128, 512, generator=generator, dtype=torch.float64)
    weight = torch.randn(1024, 512, generator=generator, dtype=torch.float64) / 8
    targets = torch.randint(1024, (128,), generator=generator).to(device)
    hidden, weight = hidden.to(dtype).to(device), weight.to(dtype).to(device).requires_grad_()
    logits = functional.layer_norm(hidden, (512,)) @ weight.T
    wide = logits if dtype == torch.float64 else logits.float()
    loss = functional.cross_entropy(wide, targets)
    (gradient,) = torch.autograd.grad(loss * LOSS_SCALE, weight)
    return loss.item(), gradient.cpu().double() / LOSS_SCALE


def _seconds(name: DType, device: torch.device) -> float:
    """The least time of a square matrix product; what else the machine does can only add to it."""
    import torch

    size = 256 if device.type == "cpu" else 4096
    matrix = torch.ones(size, size, device=device, dtype=getattr(torch, name))
    return min(_product_seconds(matrix) for _ in range(TIMED_RUNS))


def _product_seconds(matrix: torch.Tensor) -> float:
    begin = time.perf_counter()
    product = matrix @ matrix
    float(product[0, 0])  # reading a value waits for an accelerator to finish
    return time.perf_counter() - begin
