from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from glmprep.errors import SuiteError
from glmtrain import data, model
from glmtrain.batches import Batch, collate
from glmtrain.outofmemory import Fallback, is_out_of_memory, split
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

CPU = torch.device("cpu")


def batch(*rows: int) -> Batch:
    return Batch(rows=np.array(rows, dtype=np.int64), bucket=128, packed=False)


class Step:
    """A step over some rows on a card that holds `room` tokens."""

    def __init__(self, causal: Any, rows: data.TrainingData, room: int) -> None:
        self.causal, self.data, self.room = causal, rows, room
        self.supervised = int(rows.rows.supervised.sum())
        self.done: list[int] = []
        self.notes: list[str] = []

    def one(self, each: Batch) -> float:
        inputs = collate(self.data.rows, each, self.data.pad_id, CPU)
        if inputs.computed > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB.")
        places = {"input_ids": inputs.input_ids, "position_ids": inputs.position_ids}
        places |= {"attention_mask": inputs.attention_mask, "use_cache": False}
        logits = self.causal(**places).logits[:, :-1].flatten(0, 1)
        loss = cross_entropy(logits, inputs.labels[:, 1:].flatten(), reduction="sum")
        loss = loss / self.supervised
        loss.backward()
        self.done += each.rows.tolist()
        return float(loss.detach())

    def forget(self) -> None:
        self.done.clear()
        self.causal.zero_grad(set_to_none=True)

    def fallback(self, **more) -> Fallback:
        lengths = self.data.rows.lengths
        facts = {"lengths": lengths, "budget": 512, "forget": self.forget}
        return Fallback(**{**facts, "note": self.notes.append, **more})

    def gradients(self) -> dict[str, torch.Tensor]:
        named = self.causal.named_parameters()
        return {name: weight.grad.clone() for name, weight in named if weight.grad is not None}


@pytest.fixture
def make_step(small_model, bucketed):
    def make(room: int) -> Step:
        with model.quiet_libraries():
            causal = model.load(str(small_model), torch.float32)
        return Step(causal, data.load([str(bucketed)]), room)

    return make


def test_a_step_that_ran_out_has_the_gradients_of_one_that_did_not(make_step):
    batches = [batch(*range(12)), batch(*range(12, 24))]
    roomy, tight = make_step(10**9), make_step(130)
    whole, unsplit = roomy.fallback().step(batches, roomy.one)
    parts, again = tight.fallback().step(batches, tight.one)
    assert (unsplit, again) == (False, True)
    assert sum(parts) == pytest.approx(sum(whole), rel=1e-6)
    expected = roomy.gradients()
    found = tight.gradients()
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=1e-6)


def test_each_row_is_trained_on_once_and_the_lower_budget_is_kept_and_told(make_step):
    step = make_step(130)
    fallback = step.fallback()
    fallback.step([batch(*range(24))], step.one)
    assert sorted(step.done) == list(range(24))
    assert (fallback.budget, len(step.notes)) == (128, 2)
    assert "at most 128 tokens" in step.notes[-1]
    step.forget()
    _, again = fallback.step([batch(*range(24))], step.one)
    assert not again
    assert (sorted(step.done), len(step.notes)) == (list(range(24)), 2)


def test_a_row_that_does_not_fit_alone_is_named_with_its_length_and_a_fix(make_step):
    step = make_step(8)
    longest = int(step.data.rows.lengths.argmax())
    length = int(step.data.rows.lengths[longest])
    with pytest.raises(SuiteError, match=rf"row {longest} of {length} tokens .*checkpointing"):
        step.fallback().step([batch(longest)], step.one)
    assert step.gradients() == {}


def test_a_rank_that_had_room_does_its_step_again_with_the_others(make_step):
    step, answers = make_step(10**9), iter([True, False, False])
    _, again = step.fallback(agree=lambda own: next(answers)).step([batch(0, 1, 2)], step.one)
    assert again
    assert sorted(step.done) == [0, 1, 2]


def test_a_rank_gives_up_when_another_cannot_go_on(make_step):
    step = make_step(10**9)
    with pytest.raises(SuiteError, match="another rank"):
        step.fallback(agree=lambda own: True).step([batch(0, 1)], step.one)


def test_other_errors_are_passed_on(make_step):
    step = make_step(10**9)
    with pytest.raises(RuntimeError, match="shapes differ"):
        step.fallback().step([batch(0)], lambda each: _raise(RuntimeError("shapes differ")))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate"), True),
        (MemoryError(), True),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_errors_of_memory_are_told_from_others(error, expected):
    assert is_out_of_memory(error) is expected


@given(st.lists(st.integers(1, 50), min_size=1, max_size=40), st.integers(1, 200))
def test_split_batches_hold_every_row_once_and_keep_to_the_budget(found, budget):
    lengths = np.array(found, dtype=np.int64)
    parts = split([batch(*range(len(found)))], lengths, budget)
    assert sorted(row for part in parts for row in part.rows.tolist()) == list(range(len(found)))
    for part in parts:
        own = lengths[part.rows]
        assert len(own) == 1 or len(own) * own.max() <= budget


def test_a_batch_that_fits_stays_as_it_is():
    whole = batch(2, 0, 1)
    assert split([whole], np.array([3, 2, 1]), 9) == [whole]


def _raise(error: Exception) -> None:
    raise error
