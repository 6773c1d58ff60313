from __future__ import annotations

import os
from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch
from glmprep.errors import UsageError
from glmreport.text import Catalogue
from glmtrain import kernels
from glmtrain.kernels import Candidate, resolve
from glmtrain.loss import TORCH, Kernel, Objective, summed_loss
from glmtrain.settings import Config, Loss
from torch import nn
from torch.nn.functional import cross_entropy

FP32 = Objective(dtype=torch.float32)
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def right(rows, weight, targets, objective):
    logits = (rows.to(objective.dtype) @ weight.to(objective.dtype).T).float()
    smoothing = objective.label_smoothing
    loss = cross_entropy(logits, targets, reduction="sum", label_smoothing=smoothing)
    return loss + objective.z_loss * logits.logsumexp(-1).square().sum()


def mean_for_sum(*problem):
    return right(*problem) / len(problem[0])


def without_the_last_block(rows, weight, targets, objective):
    """Forgets what does not fill a block of 64 tokens."""
    whole = len(rows) // 64 * 64
    return right(rows[:whole], weight, targets[:whole], objective)


def without_smoothing(rows, weight, targets, objective):
    return right(rows, weight, targets, replace(objective, label_smoothing=0.0))


def without_gradient_of_hidden(rows, *problem):
    return right(rows.detach(), *problem) + 0 * rows.sum()


def without_gradient_of_weight(rows, weight, *problem):
    return right(rows, weight.detach(), *problem)


class Unscaled(torch.autograd.Function):
    """Forgets the factor that the loss is multiplied with."""

    @staticmethod
    def forward(ctx, loss):
        return loss.clone()

    @staticmethod
    def backward(ctx, upstream):
        return torch.ones_like(upstream)


def without_upstream(*problem):
    return Unscaled.apply(right(*problem))


def not_a_number(*problem):
    return right(*problem) * torch.nan


def not_compiling(*problem):
    raise AttributeError("module 'triton' has no attribute 'jit'")


WRONG = [
    mean_for_sum,
    without_the_last_block,
    without_gradient_of_hidden,
    without_gradient_of_weight,
    without_upstream,
    not_a_number,
]


def candidate(compute, **facts):
    return Candidate(
        **{"name": "liger", "module": "torch", "device": "cpu", **facts}, compute=compute
    )


CPU = torch.device("cpu")


def head(**facts):
    return nn.Linear(48, 100, bias=False, **facts)


def said(kernel):
    return Catalogue.load("en").say(kernel.reason)


@pytest.mark.parametrize("asked", ["auto", "liger"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_right_kernel_is_proven_and_taken(asked, dtype):
    kernel = resolve(asked, Objective(dtype=dtype), head(), CPU, [candidate(right)])
    assert (kernel.name, kernel.compute) == ("liger", right)
    assert "agreed with ours" in said(kernel)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("compute", WRONG)
def test_a_wrong_kernel_is_left_for_torch_with_the_reason(compute, dtype):
    kernel = resolve("auto", Objective(dtype=dtype), head(), CPU, [candidate(compute)])
    assert (kernel.name, kernel.compute) == ("torch", None)
    assert "not liger: its " in said(kernel)
    assert "is off by" in said(kernel)


@pytest.mark.parametrize("compute", WRONG)
def test_a_wrong_kernel_that_was_asked_for_is_refused(compute):
    with pytest.raises(UsageError, match=r"loss\.kernel = liger: its .* is off by .*; use auto"):
        resolve("liger", FP32, head(), CPU, [candidate(compute)])


def test_a_kernel_is_proven_with_the_objective_of_the_run():
    smoothed = replace(FP32, label_smoothing=0.1)
    assert resolve("auto", smoothed, head(), CPU, [candidate(right)]).name == "liger"
    assert resolve("auto", FP32, head(), CPU, [candidate(without_smoothing)]).name == "liger"
    assert resolve("auto", smoothed, head(), CPU, [candidate(without_smoothing)]).name == "torch"


def test_a_frozen_output_layer_needs_no_gradient_of_its_weight():
    frozen = head().requires_grad_(False)
    candidates = [candidate(without_gradient_of_weight)]
    assert resolve("auto", FP32, frozen, CPU, candidates).name == "liger"


def test_a_kernel_that_fails_is_left_for_the_next():
    candidates = [candidate(not_compiling), candidate(right, name="cce")]
    assert resolve("auto", FP32, head(), CPU, candidates).name == "cce"
    with pytest.raises(UsageError, match=r"failed on a small problem .*'triton' has no attribute"):
        resolve("liger", FP32, head(), CPU, candidates)


@pytest.mark.parametrize(
    ("facts", "objective", "layer", "reason"),
    [
        ({"device": "cuda"}, FP32, head(), "runs on cuda only, and the model is on cpu"),
        ({"module": "no_such_kernel"}, FP32, head(), "no_such_kernel is not installed"),
        ({}, FP32, nn.Linear(8, 9), "the output layer is a Linear, not a plain"),
        ({}, FP32, nn.Sequential(head()), "the output layer is a Sequential"),
        ({"z_loss": False}, replace(FP32, z_loss=1e-4), head(), "cannot compute loss.z_loss"),
        (
            {"label_smoothing": False},
            replace(FP32, label_smoothing=0.1),
            head(),
            "cannot compute loss.label_smoothing",
        ),
    ],
)
def test_a_kernel_that_does_not_fit_is_not_tried(facts, objective, layer, reason):
    candidates = [candidate(not_compiling, **facts)]
    kernel = resolve("auto", objective, layer, CPU, candidates)
    assert kernel.name == "torch"
    assert reason in said(kernel)
    with pytest.raises(UsageError, match=reason):
        resolve("liger", objective, layer, CPU, candidates)


def test_torch_is_taken_without_a_look_when_asked_for():
    assert resolve("torch", FP32, head(), CPU, [candidate(right)]) == TORCH


def test_on_a_cpu_torch_computes_and_both_kernels_are_named_with_the_reason():
    made = kernels.objective(Config(loss=Loss(z_loss=0.1)), head(), torch.float32, CPU)
    assert (made.kernel.name, made.z_loss) == ("torch", 0.1)
    assert said(made.kernel) == (
        "which runs everywhere; "
        "not liger: it runs on cuda only, and the model is on cpu; "
        "not cce: it runs on cuda only, and the model is on cpu"
    )


@pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") != "1" or find_spec("liger_kernel") is None,
    reason="needs liger-kernel and triton, with TRITON_INTERPRET=1",
)
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("objective", [FP32, replace(FP32, label_smoothing=0.1, z_loss=1e-3)])
def test_liger_is_proven_in_the_interpreter_of_triton(objective, frozen):
    layer = head().requires_grad_(not frozen)
    (liger,) = (one for one in kernels.CANDIDATES if one.name == "liger")
    assert resolve("liger", objective, layer, CPU, [replace(liger, device="cpu")]).name == "liger"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("one", kernels.CANDIDATES, ids=lambda one: one.name)
def test_an_installed_kernel_is_proven_on_cuda(one):
    pytest.importorskip(one.module)
    objective, cuda = Objective(dtype=torch.bfloat16), torch.device("cuda")
    assert resolve(one.name, objective, head(device=cuda), cuda).name == one.name


@pytest.mark.parametrize("asked", ["liger", "cce"])
def test_kernels_of_cuda_are_refused_on_a_cpu(asked):
    with pytest.raises(UsageError, match=f"loss.kernel = {asked}: it runs on cuda only"):
        kernels.objective(Config(loss=Loss(kernel=asked)), head(), torch.float32, CPU)


def test_the_kernel_that_was_taken_is_the_one_that_computes():
    calls = []

    def counted(*problem):
        calls.append(len(problem[0]))
        return right(*problem)

    layer = head()
    objective = replace(FP32, kernel=resolve("auto", FP32, layer, CPU, [candidate(counted)]))
    calls.clear()
    hidden, labels = torch.randn(2, 9, 48, requires_grad=True), torch.randint(0, 100, (2, 9))
    loss = summed_loss(hidden, labels, layer, objective)
    assert calls == [16]
    torch.testing.assert_close(loss, summed_loss(hidden, labels, layer, FP32))


def test_a_kernel_never_computes_for_an_output_layer_that_it_was_not_chosen_for():
    chosen = Kernel(name="liger", reason=TORCH.reason, compute=right)
    hidden, labels = torch.randn(1, 5, 8), torch.zeros(1, 5, dtype=torch.long)
    with pytest.raises(TypeError, match="liger was chosen for a plain output layer"):
        summed_loss(hidden, labels, nn.Linear(8, 9), replace(FP32, kernel=chosen))
