"""What a teacher tells, chunk by chunk, against all logits held at once."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from glmtrain import heads
from glmtrain.imitation import Told, hidden_distance, imitation_loss
from glmtrain.loss import Objective
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from torch.nn.functional import cosine_similarity, cross_entropy, kl_div

from tests.train.test_loss import Made, made_head

FP32 = Objective(dtype=torch.float32)


def naive(rows, targets, head, objective, told, weight, temperature):
    """The same from all logits at once, by autograd and torch's own losses."""
    logits, teacher = head(rows), told.head(told.rows).detach()
    hard = cross_entropy(
        logits, targets, reduction="sum", label_smoothing=objective.label_smoothing
    )
    hard = hard + objective.z_loss * logits.logsumexp(-1).square().sum()
    shared = min(logits.shape[1], teacher.shape[1])
    student, known = (
        (each[:, :shared] / temperature).log_softmax(-1) for each in (logits, teacher)
    )
    soft = kl_div(student, known, reduction="sum", log_target=True)
    return (1 - weight) * hard + weight * temperature**2 * soft


def example(tokens, *, width=8, vocabulary=40, teachers=40, told_kind="frozen"):
    """Hidden states, targets, and what a wider teacher tells of them."""
    rows = torch.randn(tokens, width, requires_grad=True)
    targets = torch.randint(0, min(vocabulary, teachers), (tokens,))
    head = made_head(told_kind, width=width + 3, vocabulary=teachers).requires_grad_(False)
    return rows, targets, Told(rows=torch.randn(tokens, width + 3), head=head)


@examples(deadline=None, max_examples=20)
@given(
    kind=st.sampled_from(["plain", "frozen", "lora"]),
    told_kind=st.sampled_from(["frozen", "bias"]),
    tokens=st.integers(0, 30),
    vocabulary=st.integers(5, 60),
    teachers=st.integers(5, 60),
    chunk=st.integers(1, 40),
    weight=st.sampled_from([0.0, 0.3, 1.0]),
    temperature=st.sampled_from([0.5, 1.0, 2.0, 10.0]),
    smoothing=st.sampled_from([0.0, 0.1]),
    z_loss=st.sampled_from([0.0, 1e-2]),
    seed=st.integers(0, 1000),
)
def test_equals_the_naive_loss_with_its_gradients(
    kind,
    told_kind,
    tokens,
    vocabulary,
    teachers,
    chunk,
    weight,
    temperature,
    smoothing,
    z_loss,
    seed,
):
    torch.manual_seed(seed)
    head = made_head(kind, width=8, vocabulary=vocabulary)
    rows, targets, told = example(
        tokens, vocabulary=vocabulary, teachers=teachers, told_kind=told_kind
    )
    objective = Objective(dtype=torch.float32, label_smoothing=smoothing, z_loss=z_loss)
    learning = [rows, *(each for each in head.parameters() if each.requires_grad)]
    how = {"told": told, "weight": weight, "temperature": temperature}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(heads, "CHUNK", chunk)
        mine = imitation_loss(rows, targets, head, objective, **how)
        my_gradients = torch.autograd.grad(mine / max(1, tokens), learning)
    theirs = naive(rows, targets, head, objective, **how)
    gradients = torch.autograd.grad(theirs / max(1, tokens), learning)
    pairs = zip(
        (mine / max(1, tokens), *my_gradients), (theirs / max(1, tokens), *gradients), strict=True
    )
    for one, other in pairs:
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_a_student_that_is_its_teacher_has_nothing_to_learn():
    rows, targets, _ = example(20)
    head = made_head("frozen", width=8, vocabulary=40)
    told = Told(rows=rows.detach(), head=head)
    loss = imitation_loss(rows, targets, head, FP32, told=told, weight=1.0, temperature=3.0)
    loss.backward()
    assert abs(loss) < 1e-4
    assert rows.grad.abs().max() < 1e-5


def test_large_logits_do_not_overflow():
    rows, targets, told = example(20)
    head, told = made_head("plain", width=8, vocabulary=40), replace(told, rows=told.rows * 3000)
    how = {"told": told, "weight": 0.5, "temperature": 1.0}
    found = imitation_loss(rows * 3000, targets, head, FP32, **how)
    torch.testing.assert_close(
        found, naive(rows * 3000, targets, head, FP32, **how), rtol=1e-5, atol=0
    )


def test_no_tensor_grows_with_tokens_times_vocabulary(monkeypatch):
    monkeypatch.setattr(heads, "CHUNK", 8)
    largest = []
    head = made_head("plain", width=8, vocabulary=700)
    for tokens in (30, 300):
        rows, targets, told = example(tokens, vocabulary=700, teachers=700)
        with Made() as seen:
            how = {"told": told, "weight": 0.5, "temperature": 2.0}
            imitation_loss(rows, targets, head, FP32, **how).backward()
        largest.append(max(shape.numel() for shape, _ in seen.made))
    assert largest[0] == largest[1] == (8 + 3) * 700  # the teacher's own weight


def test_the_distance_of_hidden_states_is_one_less_the_cosine():
    one, other = torch.randn(5, 8), torch.randn(5, 8)
    expected = sum(1 - cosine_similarity(a, b, dim=0) for a, b in zip(one, other, strict=True))
    torch.testing.assert_close(hidden_distance(one, other), expected)
    torch.testing.assert_close(hidden_distance(one, 7 * one), torch.tensor(0.0))
    assert hidden_distance(one[:0], other[:0]) == 0
