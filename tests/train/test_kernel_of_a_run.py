"""`loss.kernel` in a run: a stand-in for Liger's package is installed, and allowed on a CPU."""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib import import_module

import pytest
import torch
from glmprep.errors import UsageError
from glmtrain import derive, devices, kernels, loss, methods, model
from glmtrain.batches import Inputs
from glmtrain.config import build
from glmtrain.progress import Silent
from glmtrain.run import train

from tests.train import models

STAND_IN = """
from torch.nn.functional import cross_entropy

calls, factor = [], 1.0


def liger_fused_linear_cross_entropy(
    rows, weight, targets, *, lse_square_scale, label_smoothing, reduction, accum_dtype
):
    calls.append(len(rows))
    logits = (rows @ weight.T).float()
    loss = cross_entropy(logits, targets, reduction=reduction, label_smoothing=label_smoothing)
    return factor * (loss + lse_square_scale * logits.logsumexp(-1).square().sum())
"""
ADAPTED = ("q_proj", "v_proj")


@pytest.fixture
def liger(tmp_path, monkeypatch):
    """The stand-in's module: `calls` has the rows of each call, `factor` spoils what it gives."""
    folder = tmp_path / "packages" / "liger_kernel" / "transformers"
    folder.mkdir(parents=True)
    for empty in (folder, folder.parent):
        (empty / "__init__.py").write_text("")
    (folder / "functional.py").write_text(STAND_IN)
    monkeypatch.syspath_prepend(str(tmp_path / "packages"))
    allow(monkeypatch, "cpu")
    yield import_module("liger_kernel.transformers.functional")
    for name in [name for name in sys.modules if name.partition(".")[0] == "liger_kernel"]:
        del sys.modules[name]


def allow(monkeypatch, device):
    made = tuple(replace(each, device=device) for each in kernels.CANDIDATES)
    monkeypatch.setattr(kernels, "CANDIDATES", made)


def prepared(method="lora", targets=ADAPTED, dtype=torch.float32, device=None, **sections):
    lora = {"target_modules": targets, "rank": 4, "alpha": 8.0, "dropout": 0.0}
    chosen = {"model": {"method": method}, "lora": lora, "prefix": {"tokens": 4}}
    config = build([("test", chosen | sections)])
    with model.quiet_libraries():
        return methods.prepare(models.make(), config, dtype, device=device)


def batch():
    random = torch.Generator().manual_seed(3)
    ids = torch.randint(0, 250, (3, 20), generator=random)
    labels = ids.clone()
    labels[:, :8] = -100
    return Inputs(
        input_ids=ids,
        position_ids=torch.arange(20).expand(3, 20),
        attention_mask=None,
        labels=labels,
        tokens=60,
        supervised=36,
    )


def step(learner):
    """The loss of a batch, and the gradient of each weight that learns."""
    learner.zero_grad()
    found = learner(batch())
    found.backward()
    return found.detach(), {name: w.grad.clone() for name, w in learner.learning().items()}


@pytest.mark.parametrize("asked", ["liger", "auto"])
@pytest.mark.parametrize("method", ["lora", "full", "ptuning"])
@pytest.mark.parametrize("objective", [{}, {"label_smoothing": 0.1, "z_loss": 1e-3}])
def test_the_kernel_computes_the_loss_and_its_gradients_reach_the_weights(
    liger, asked, method, objective
):
    learner = prepared(method, loss={"kernel": asked, **objective})
    liger.calls.clear()
    found, gradients = step(learner)
    assert liger.calls == [36]
    ours, expected = step(prepared(method, loss={"kernel": "torch", **objective}))
    assert liger.calls == [36]
    torch.testing.assert_close(found, ours)
    torch.testing.assert_close(gradients, expected, rtol=1e-4, atol=1e-4)
    liger.factor = 3.0  # the proof is over
    found, gradients = step(learner)
    torch.testing.assert_close(found, 3 * ours)
    expected = {name: 3 * each for name, each in expected.items()}
    torch.testing.assert_close(gradients, expected, rtol=1e-4, atol=1e-4)


def test_losses_of_single_tokens_are_the_reference_s_own(liger):
    learner = prepared(loss={"kernel": "liger"})
    liger.calls.clear()
    assert learner(batch(), "each").shape == (36,)
    assert liger.calls == []


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_kernel_computes_in_the_format_of_the_run(liger, dtype):
    learner = prepared(loss={"kernel": "liger"}, dtype=dtype)
    assert (learner.objective.dtype, learner.objective.kernel.name) == (dtype, "liger")
    found, _ = step(learner)
    ours, _ = step(prepared(loss={"kernel": "torch"}, dtype=dtype))
    torch.testing.assert_close(found, ours, rtol=2e-2, atol=0)


def test_a_kernel_that_computes_something_else_is_refused_or_left_with_the_reason(liger):
    liger.factor = 1.1
    with pytest.raises(UsageError, match=r"loss\.kernel = liger: its loss is off by 0\.1"):
        prepared(loss={"kernel": "liger"})
    assert "not liger: its loss is off by 0.1" in told(prepared())


def test_a_kernel_that_is_not_installed_is_refused_or_left_with_the_reason(monkeypatch):
    module = "a_package_that_is_not_there"
    made = (replace(kernels.CANDIDATES[0], device="cpu", module=module),)
    monkeypatch.setattr(kernels, "CANDIDATES", made)
    with pytest.raises(UsageError, match=f"liger: the package {module} is not installed"):
        prepared(loss={"kernel": "liger"})
    assert f"not liger: the package {module} is not installed" in told(prepared())


def test_an_adapter_on_the_output_layer_leaves_no_kernel_that_fits(liger):
    targets = (*ADAPTED, "lm_head")
    with pytest.raises(UsageError, match="liger: the output layer is a Linear, not a plain"):
        prepared(targets=targets, loss={"kernel": "liger"})
    assert "not liger: the output layer is a Linear" in told(prepared(targets=targets))
    assert liger.calls == []


def test_a_kernel_without_label_smoothing_is_not_taken_for_it(liger):
    with pytest.raises(UsageError, match=r"cce: it cannot compute loss\.label_smoothing"):
        prepared(loss={"kernel": "cce", "label_smoothing": 0.1})


def test_no_kernel_is_taken_beside_a_teacher(liger):
    distill = {"teacher": "tiny"}
    with pytest.raises(UsageError, match=r"liger: it cannot compute distill\.teacher; use auto"):
        prepared(distill=distill, loss={"kernel": "liger"})
    assert told(prepared(distill=distill)) == (
        "loss.kernel = torch (no other compares with a distill.teacher)"
    )
    assert liger.calls == []


def test_a_model_that_is_moved_later_is_judged_by_where_it_goes(liger, monkeypatch):
    """Strategies that slice a model take it to its device themselves."""
    allow(monkeypatch, "meta")
    elsewhere = torch.device("meta")
    assert "it runs on meta only, and the model is on cpu" in told(prepared())
    assert "it runs on meta only" not in told(prepared(device=elsewhere))


def test_another_format_than_the_proven_one_is_computed_by_torch(liger):
    objective = prepared(loss={"kernel": "liger", "z_loss": 1e-3}).objective
    within = objective.within(torch.float64)
    assert (within.kernel, within.dtype, within.z_loss) == (loss.TORCH, torch.float64, 1e-3)


def test_choosing_a_kernel_draws_no_random_numbers(liger):
    drawn = []
    for kernel in ("torch", "liger"):
        prepared(loss={"kernel": kernel})
        drawn.append(torch.rand(4))
    assert torch.equal(*drawn)


def told(learner):
    (found,) = (str(each) for each in derive.of_model(learner) if each.setting == "loss.kernel")
    return found


class Notes(Silent):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)

    def of_kernel(self):
        (found,) = (note for note in self.notes if note.startswith("loss.kernel"))
        return found


def run(settings, kernel, notes=None):
    config = build([("test", settings | {"loss": {"kernel": kernel}})])
    with devices.join(config.devices) as place:
        return train(config, place, given=(), shown=notes or Silent())


def test_what_a_run_says_of_its_kernel_is_what_computes_each_step(liger, settings):
    settings["run"]["max_steps"] = 2
    notes = Notes()
    run(settings, "liger", notes)
    assert notes.of_kernel().startswith("loss.kernel = liger (installed, and its loss and gradient")
    called = len(liger.calls)
    assert called >= 3  # the proof and each step
    settings["run"] |= {"output": settings["run"]["output"] + "-2"}
    notes = Notes()
    run(settings, "torch", notes)
    assert notes.of_kernel() == "loss.kernel = torch (as asked for)"
    assert len(liger.calls) == called


@pytest.mark.parametrize("asked", ["liger", "cce"])
def test_a_run_that_asks_for_a_kernel_of_cuda_does_not_begin_on_a_cpu(settings, tmp_path, asked):
    with pytest.raises(UsageError, match=f"loss.kernel = {asked}: it runs on cuda only, and"):
        run(settings, asked)
    assert not list((tmp_path / "run").glob("*"))


def test_a_run_on_a_cpu_says_why_torch_computes_the_loss(settings):
    settings["run"]["max_steps"] = 1
    notes = Notes()
    run(settings, "auto", notes)
    assert notes.of_kernel().startswith("loss.kernel = torch (which runs everywhere; not liger: ")
