"""Fused kernels for the loss: taken where they are installed, fit, and proven on the spot.

A kernel that is asked for but does not fit would be a setting without effect, and a patched model
may not call it at all, so a kernel is called here directly, only after it gave the loss and the
gradients of `loss` on a small random problem on the run's own device, and by name.

Nothing here has run on CUDA so far. liger-kernel 0.8.5 passes the proof in Triton's interpreter on
a CPU; cut-cross-entropy 25.1.1, which does not run there, was only read. The rules of choice are
tested with stand-ins.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec

import torch
from glmprep.errors import UsageError
from glmreport.text import Catalogue, Text
from torch import Tensor, nn

from glmtrain import settings
from glmtrain.heads import is_plain
from glmtrain.loss import TORCH, Kernel, Objective, summed_loss

# Relative errors of the loss and of each gradient's norm, by what logits are multiplied out in;
# float32 leaves room for TF32.
TOLERANCE = {torch.float32: 2e-3, torch.bfloat16: 3e-2, torch.float16: 1e-2}
TOKENS, VOCABULARY = 200, 1031  # neither fills a block of a power of two


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A kernel that might compute the loss, and what it can do.

    `module` must be importable; `compute` is as in `loss.Kernel`.
    """

    name: settings.Kernel
    module: str
    compute: Callable[[Tensor, Tensor, Tensor, Objective], Tensor]
    device: str = "cuda"
    label_smoothing: bool = True
    z_loss: bool = True


def objective(
    config: settings.Config, head: nn.Module, dtype: torch.dtype, device: torch.device
) -> Objective:
    """What a run minimises, with the kernel that fits the output layer `head` on its `device`.

    Raises UsageError if the kernel that is asked for cannot be taken.
    """
    loss = config.loss
    made = Objective(dtype=dtype, label_smoothing=loss.label_smoothing, z_loss=loss.z_loss)
    if config.distill.teacher is not None:
        return replace(made, kernel=_beside_a_teacher(loss.kernel))
    return replace(made, kernel=resolve(loss.kernel, made, head, device))


def resolve(
    asked: settings.Kernel,
    objective: Objective,
    head: nn.Module,
    device: torch.device,
    candidates: Sequence[Candidate] | None = None,
) -> Kernel:
    """The kernel for the output layer `head`, adapters included, which may come to `device` later.

    `auto` takes the first that is proven, else torch. Raises UsageError if the one that is asked
    for cannot be taken.
    """
    if asked == "torch":
        return TORCH
    why = Text("kernel.reason.none")
    for candidate in CANDIDATES if candidates is None else candidates:
        if asked not in ("auto", candidate.name):
            continue
        objection = _objection(candidate, objective, head, device)
        if objection is None:
            tolerance = TOLERANCE[objective.dtype]
            proven = Text("kernel.reason.proven", tolerance=tolerance)
            return Kernel(name=candidate.name, reason=proven, compute=candidate.compute)
        if asked == candidate.name:
            raise _refusal(asked, objection)
        why = Text("kernel.reason.refused", name=candidate.name, why=objection, others=why)
    return Kernel(name="torch", reason=why)


def _beside_a_teacher(asked: settings.Kernel) -> Kernel:
    """A distance to a teacher is computed here alone."""
    if asked == "torch":
        return TORCH
    if asked == "auto":
        return Kernel(name="torch", reason=Text("kernel.reason.teacher"))
    raise _refusal(asked, Text("kernel.refused.setting", setting="distill.teacher"))


def _refusal(asked: settings.Kernel, objection: Text) -> UsageError:
    told = Catalogue.load("en").say(objection)
    return UsageError(f"loss.kernel = {asked}: {told}; use auto or torch")


def _objection(
    candidate: Candidate, objective: Objective, head: nn.Module, device: torch.device
) -> Text | None:
    """Why a kernel cannot be taken; None if it can."""
    if device.type != candidate.device:
        return Text("kernel.refused.device", needed=candidate.device, device=device.type)
    if not is_plain(head):
        return Text("kernel.refused.head", head=type(head).__name__)
    if objective.label_smoothing and not candidate.label_smoothing:
        return Text("kernel.refused.setting", setting="loss.label_smoothing")
    if objective.z_loss and not candidate.z_loss:
        return Text("kernel.refused.setting", setting="loss.z_loss")
    if find_spec(candidate.module) is None:
        return Text("kernel.refused.missing", module=candidate.module)
    return _disproof(candidate, objective, head, device)


def _disproof(
    candidate: Candidate, objective: Objective, head: nn.Linear, device: torch.device
) -> Text | None:
    """What a kernel does wrong on a small problem; None if nothing."""
    kernel = Kernel(name=candidate.name, reason=TORCH.reason, compute=candidate.compute)
    try:
        found = _solved(replace(objective, kernel=kernel), head, device)
    except Exception as error:  # whatever stops a compiler of kernels, torch computes without it
        return Text("kernel.refused.failed", error=f"{type(error).__name__}: {error}"[:200])
    exact = _solved(objective.within(torch.float32), head, device)
    for name, expected in exact.items():
        distance = float((found[name] - expected).norm() / expected.norm())
        if not distance <= TOLERANCE[objective.dtype]:
            return Text("kernel.refused.wrong", what=name, error=distance)
    return None


def _solved(objective: Objective, head: nn.Linear, device: torch.device) -> dict[str, Tensor]:
    """The loss of a small random problem as wide as `head`, and the gradients that it needs."""
    width = head.in_features
    random = torch.Generator().manual_seed(0)
    # Values that half precision holds exactly, so that only the computing differs.
    hidden = torch.randn(1, TOKENS, width, generator=random).bfloat16().float()
    weight = (3 * torch.randn(VOCABULARY, width, generator=random) / width**0.5).bfloat16().float()
    labels = torch.randint(0, VOCABULARY, (1, TOKENS), generator=random)
    small = nn.Linear(width, VOCABULARY, bias=False, device="meta")  # draws no random numbers
    small.weight = nn.Parameter(weight.to(device), requires_grad=head.weight.requires_grad)
    hidden = hidden.to(device).requires_grad_()
    with torch.enable_grad():
        loss = summed_loss(hidden, labels.to(device), small, objective)
        # As in a step, where the loss is divided by the labelled tokens.
        (loss / TOKENS).backward()  # type: ignore[no-untyped-call]
    assert hidden.grad is not None
    solved = {"loss": loss.detach(), "hidden": hidden.grad}
    if small.weight.requires_grad:
        solved["weight"] = _gradient(small.weight)
    return solved


def _gradient(weight: Tensor) -> Tensor:
    return torch.zeros_like(weight) if weight.grad is None else weight.grad


def _liger(rows: Tensor, weight: Tensor, targets: Tensor, objective: Objective) -> Tensor:
    """Liger-Kernel's fused linear cross-entropy, gradients added up in float32."""
    functional = import_module("liger_kernel.transformers.functional")
    with torch.autocast(rows.device.type, enabled=False):
        loss: Tensor = functional.liger_fused_linear_cross_entropy(
            rows.to(objective.dtype),
            weight.to(objective.dtype),
            targets,
            lse_square_scale=objective.z_loss,
            label_smoothing=objective.label_smoothing,
            reduction="sum",
            accum_dtype=torch.float32,
        )
    return loss.float()


def _cut(rows: Tensor, weight: Tensor, targets: Tensor, objective: Objective) -> Tensor:
    """Apple's cut cross-entropy (Wijmans et al. 2024), with no gradient filtered out as small."""
    cut = import_module("cut_cross_entropy")
    with torch.autocast(rows.device.type, enabled=False):
        loss: Tensor = cut.linear_cross_entropy(
            rows.to(objective.dtype),
            weight.to(objective.dtype),
            targets,
            reduction="sum",
            filter_eps=None,
        )
    return loss.float()


CANDIDATES = (
    Candidate(name="liger", module="liger_kernel", compute=_liger),
    Candidate(
        name="cce", module="cut_cross_entropy", compute=_cut, label_smoothing=False, z_loss=False
    ),
)
