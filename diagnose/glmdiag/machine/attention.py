"""Which implementations of attention a device has for a model's head size, and which one is taken.

torch's own attention (`sdpa`) chooses among kernels by device, number format, head size and mask,
and says nothing of its choice. On the machine itself each kernel runs forward and backward, and
the choice is read off the graph; for a card that is not there the kernels' published limits
decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from glmprep.errors import UsageError
from glmprep.model import CONFIG, HEAD
from glmprep.tokenizer import read_json
from glmtrain.probe import DType

from glmdiag.machine.accelerators import Device

if TYPE_CHECKING:
    import torch

Kind: TypeAlias = Literal[
    "flash_attention_2",
    "flash_attention_3",
    "sdpa_flash",
    "sdpa_efficient",
    "sdpa_cudnn",
    "sdpa_math",
    "flex_attention",
]
State: TypeAlias = Literal[
    "ran", "expected", "package", "device", "capability", "dtype", "head", "backward", "refused"
]
USABLE = ("ran", "expected")
GLM_HEAD = 128  # of all dense GLM models
TOKENS, HEADS = 64, 4
PACKAGES = {"flash_attention_2": "flash_attn", "flash_attention_3": "flash_attn_interface"}
BACKENDS: dict[Kind, str] = {
    "sdpa_flash": "FLASH_ATTENTION",
    "sdpa_efficient": "EFFICIENT_ATTENTION",
    "sdpa_cudnn": "CUDNN_ATTENTION",
    "sdpa_math": "MATH",
}
KINDS: tuple[Kind, ...] = (
    "flash_attention_2",
    "flash_attention_3",
    *BACKENDS,
    "flex_attention",
)
TAKEN = {"Cudnn": "sdpa_cudnn", "Flash": "sdpa_flash", "Efficient": "sdpa_efficient"}
AMPERE, HOPPER = (8, 0), (9, 0)
WIDEST, WIDEST_CUDNN = 256, 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """One implementation: it ran here, it is expected to on a card, or why it cannot."""

    kind: Kind
    state: State

    @property
    def usable(self) -> bool:
        """Whether a model can be trained with it."""
        return self.state in USABLE


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """All implementations for a head size and a number format.

    `plain` is the kernel that sdpa takes for rows without padding, `masked` for those with a mask;
    `load` is what to load a model with.
    """

    head: int
    dtype: DType
    kernels: Sequence[Kernel]
    plain: str
    masked: str
    load: Literal["flash_attention_2", "sdpa"]


def head_size(model: Path | None) -> int:
    """The width of a head as a model folder's config.json says, GLM's without a folder.

    Raises UsageError for a folder without one, InputError for one that cannot be read.
    """
    if model is None:
        return GLM_HEAD
    if not (model / CONFIG).is_file():
        raise UsageError(f"--model {model}: no folder with a {CONFIG}")
    config = read_json(model / CONFIG)
    parts = [_number(config, f"qk_{part}_head_dim") for part in ("nope", "rope")]
    if all(parts):  # latent attention: a part with positions and one without
        return sum(parts)
    hidden, heads = _number(config, "hidden_size"), _number(config, "num_attention_heads")
    told = next(filter(None, (_number(config, name) for name in HEAD)), 0)
    return told or (hidden // heads if hidden and heads else GLM_HEAD)


def expected(device: Device, dtype: DType, head: int) -> Attention:
    """What is expected of a card that is not there, with all packages installed."""
    kernels = [_expect(kind, device, dtype, head) for kind in KINDS]
    usable = {kernel.kind for kernel in kernels if kernel.usable}
    order: tuple[Kind, ...] = ("sdpa_flash", "sdpa_efficient")
    return Attention(
        head=head,
        dtype=dtype,
        kernels=kernels,
        plain=next((kind for kind in order if kind in usable), "sdpa_math"),
        masked="sdpa_efficient" if "sdpa_efficient" in usable else "sdpa_math",
        load="flash_attention_2" if "flash_attention_2" in usable else "sdpa",
    )


def tried(name: str, device: Device | None, dtype: DType, head: int) -> Attention:
    """What ran on torch's device `name`; `device` is its card, None for the processor."""
    kernels = [_try(kind, name, device, dtype, head) for kind in KINDS]
    flash = next(kernel for kernel in kernels if kernel.kind == "flash_attention_2")
    return Attention(
        head=head,
        dtype=dtype,
        kernels=kernels,
        plain=_taken(name, dtype, head, masked=False),
        masked=_taken(name, dtype, head, masked=True),
        load="flash_attention_2" if flash.usable else "sdpa",
    )


def _number(config: dict[str, Any], name: str) -> int:
    value = config.get(name)
    return value if type(value) is int and value > 0 else 0


def _expect(kind: Kind, device: Device, dtype: DType, head: int) -> Kernel:
    obstacle = _obstacle(kind, device, dtype, head)
    return Kernel(kind=kind, state=obstacle or "expected")


def _obstacle(kind: Kind, device: Device, dtype: DType, head: int) -> State | None:
    """Why a kernel cannot run on a card, as its makers say; None where it can."""
    compute, half = device.compute, dtype != "float32"
    if kind == "sdpa_math":
        return None
    if compute is None:  # AMD has builds of both flash kernels, the others are not known to run
        amd = device.make == "amd" and kind in ("flash_attention_2", "sdpa_flash")
        return None if amd and half else "device"
    if kind == "sdpa_efficient":
        return "dtype" if dtype == "bfloat16" and compute < AMPERE else None
    if compute < AMPERE or (kind == "flash_attention_3" and compute[0] != HOPPER[0]):
        return "capability"
    if kind == "flex_attention":
        return None
    if not half:
        return "dtype"
    narrow = kind == "sdpa_cudnn" and compute < HOPPER
    return "head" if head > (WIDEST_CUDNN if narrow else WIDEST) else None


def _try(kind: Kind, name: str, device: Device | None, dtype: DType, head: int) -> Kernel:
    """Packages are looked for and not run: what they build on a first call can take minutes."""
    if kind in BACKENDS:
        return Kernel(kind=kind, state="ran" if _runs(kind, name, dtype, head) else "refused")
    if device is None:
        return Kernel(kind=kind, state="backward" if kind == "flex_attention" else "device")
    if kind in PACKAGES and find_spec(PACKAGES[kind]) is None:
        obstacle = _obstacle(kind, device, dtype, head)
        return Kernel(kind=kind, state=obstacle or "package")
    return _expect(kind, device, dtype, head)


def _runs(kind: Kind, name: str, dtype: DType, head: int) -> bool:
    """Whether a kernel of sdpa computes a small attention, forward and backward."""
    import warnings

    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    try:
        with warnings.catch_warnings(), sdpa_kernel([getattr(SDPBackend, BACKENDS[kind])]):
            warnings.simplefilter("ignore")  # torch warns of each kernel that it passes over
            torch.autograd.backward(_attend(name, dtype, head).sum())
    except (RuntimeError, AttributeError):
        return False
    return True


def _taken(name: str, dtype: DType, head: int, *, masked: bool) -> str:
    """The kernel that sdpa takes by itself, as the graph of its result is called."""
    try:
        graph = type(_attend(name, dtype, head, masked=masked).grad_fn).__name__
    except RuntimeError:
        return "sdpa_math"
    return next((kind for part, kind in TAKEN.items() if part in graph), "sdpa_math")


def _attend(name: str, dtype: DType, head: int, *, masked: bool = False) -> torch.Tensor:
    """Causal attention of a few tokens, with a mask as padding needs it, or without."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    shape = (1, HEADS, TOKENS, head)
    query = torch.ones(shape, device=name, dtype=getattr(torch, dtype), requires_grad=True)
    mask = torch.ones(TOKENS, TOKENS, dtype=torch.bool, device=name).tril() if masked else None
    return scaled_dot_product_attention(query, query, query, attn_mask=mask, is_causal=not masked)
