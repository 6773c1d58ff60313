from __future__ import annotations

import pytest
import torch
from glmtrain.tensormemory import TensorMemory
from torch.profiler import ProfilerActivity, profile

MIB = 1 << 20


def ones(mib: int) -> torch.Tensor:
    return torch.ones(mib * MIB // 4)


def test_the_peak_is_what_was_there_at_once():
    with TensorMemory() as memory:
        first = ones(1)
        second = first * 2
        del first
        third = second + 1
        del second, third
        ones(1)
    assert (memory.peak, memory.now) == (2 * MIB, 0)


def test_views_share_their_memory_and_a_view_keeps_it():
    with TensorMemory() as memory:
        whole = ones(1)
        part = whole.view(2, -1)[0]
        del whole
        assert memory.now == MIB
        del part
    assert (memory.peak, memory.now) == (MIB, 0)


def test_what_was_there_before_counts_when_it_is_named_or_used():
    named, used, _unused = ones(1), ones(2), ones(4)
    with TensorMemory([named]) as memory:
        assert memory.now == MIB
        used.add_(1)
    assert memory.now == 3 * MIB


def test_a_backward_pass_is_followed_as_the_allocator_counts_it():
    weight = ones(1).requires_grad_()

    def step() -> None:
        (weight * 2).relu().square().sum().backward()
        weight.grad = None

    with TensorMemory([weight]) as memory:
        step()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        step()
    assert memory.peak - MIB == pytest.approx(_allocated(profiled), rel=0.001)


def _allocated(profiled: profile) -> int:
    """The most bytes over those at the beginning, by the profiler's record of the allocator."""
    now = peak = 0
    for event in profiled.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            peak = max(peak, now)
    return peak
