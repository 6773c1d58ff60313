"""Activations moved to main memory: the same gradients. On a CPU, by making it move them anyway."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from glmtrain.model import load, quiet_libraries
from glmtrain.offload import MainMemory, offloaded

CPU = torch.device("cpu")


@pytest.fixture
def make(small_model):
    def make(*, checkpointing: bool) -> Any:
        with quiet_libraries():
            model = load(str(small_model), torch.float32)
            if checkpointing:
                model.gradient_checkpointing_enable({"use_reentrant": False})
        return model.train()

    return make


def gradients(model: Any, around: Any) -> list[torch.Tensor]:
    ids = torch.arange(2 * 24).view(2, 24)
    with around:
        loss = model(input_ids=ids).logits.square().mean()
    loss.backward()
    return [weight.grad for weight in model.parameters()]


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_stay_the_same(make, checkpointing):
    expected = gradients(make(checkpointing=checkpointing), nullcontext())
    model = make(checkpointing=checkpointing)
    moved = MainMemory(model.parameters(), least=1)
    for found, gradient in zip(gradients(model, moved), expected, strict=True):
        assert torch.equal(found, gradient)
    assert moved.moved > 0


def test_checkpointing_leaves_less_to_move_but_not_nothing(make):
    moved = {}
    for checkpointing in (False, True):
        model = make(checkpointing=checkpointing)
        around = MainMemory(model.parameters(), least=1)
        gradients(model, around)
        moved[checkpointing] = around.moved
    inputs_of_layers = 2 * 2 * 24 * 32 * 4  # layers x rows x tokens x width x bytes
    assert inputs_of_layers <= moved[True] < moved[False]


def test_weights_stay_where_they_are():
    weight = torch.nn.Parameter(torch.randn(8, 8))
    around = MainMemory([weight], least=1)
    with around:
        made = torch.zeros(4, 8) @ weight.t()
    assert around.moved == 4 * 8 * 4  # the input alone, which the weight's gradient needs
    made.sum().backward()


def test_what_is_small_stays_where_it_is():
    around = MainMemory([], least=1000)
    with around:
        torch.ones(10, requires_grad=True).square().sum()
    assert around.moved == 0


def test_on_a_cpu_and_where_it_is_not_wanted_nothing_is_done():
    assert isinstance(offloaded([], CPU, wanted=True), nullcontext)
    assert isinstance(offloaded([], torch.device("cuda"), wanted=False), nullcontext)
    assert isinstance(offloaded([], torch.device("cuda"), wanted=True), MainMemory)
