from __future__ import annotations

import pytest
import torch
from glmtrain.loss import CHUNK, IGNORED, summed_loss
from torch.nn.functional import cross_entropy

WIDTH, VOCABULARY = 16, 700


def example(rows: int, length: int, *, grad_head: bool = True):
    generator = torch.Generator().manual_seed(3)
    hidden = torch.randn(rows, length, WIDTH, generator=generator, requires_grad=True)
    head = torch.randn(VOCABULARY, WIDTH, generator=generator).requires_grad_(grad_head)
    labels = torch.randint(0, VOCABULARY, (rows, length), generator=generator)
    labels[torch.rand(rows, length, generator=generator) < 0.4] = IGNORED
    return hidden, head, labels


def naive(hidden, head, labels):
    logits = (hidden[:, :-1] @ head.T).flatten(0, 1)
    return cross_entropy(logits, labels[:, 1:].flatten(), ignore_index=IGNORED, reduction="sum")


def ours(hidden, head, labels):
    return summed_loss(hidden, labels, head, torch.float32)


def gradients(loss, *weights):
    return torch.autograd.grad(loss * 0.25, weights)


@pytest.mark.parametrize(("rows", "length"), [(1, 9), (3, 40), (4, 2 * CHUNK // 3)])
def test_equals_the_naive_loss_with_its_gradients(rows, length):
    hidden, head, labels = example(rows, length)
    expected, found = naive(hidden, head, labels), ours(hidden, head, labels)
    labelled = int((labels[:, 1:] != IGNORED).sum())
    assert abs(found - expected) / labelled < 1e-5
    pairs = zip(gradients(found, hidden, head), gradients(expected, hidden, head), strict=True)
    for mine, theirs in pairs:
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)


def test_large_logits_do_not_overflow():
    hidden, head, labels = example(1, 20)
    torch.testing.assert_close(
        ours(hidden * 300, head, labels), naive(hidden * 300, head, labels), rtol=1e-5, atol=0
    )


def test_works_with_a_frozen_head():
    hidden, head, labels = example(2, 30, grad_head=False)
    ours(hidden, head, labels).backward()
    (expected,) = torch.autograd.grad(naive(hidden, head, labels), hidden)
    torch.testing.assert_close(hidden.grad, expected, atol=1e-5, rtol=1e-5)
    assert head.grad is None


def test_without_labels_is_a_zero_that_is_connected_to_the_graph():
    hidden, head, labels = example(2, 8)
    loss = ours(hidden, head, torch.full_like(labels, IGNORED))
    loss.backward()
    assert loss.item() == 0
    assert hidden.grad.abs().sum() == 0
    assert head.grad.abs().sum() == 0


def test_first_token_of_a_row_is_no_target():
    hidden, head, labels = example(1, 5)
    other = labels.clone()
    other[:, 0] = 7
    assert ours(hidden, head, labels) == ours(hidden, head, other)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_near_and_gives_gradients_in_the_weights_own_dtype(dtype):
    hidden, head, labels = example(2, 50)
    half = hidden.detach().to(dtype).requires_grad_()
    loss = summed_loss(half, labels, head, dtype)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, naive(hidden, head, labels), rtol=0.02, atol=0)
    loss.backward()
    assert (half.grad.dtype, head.grad.dtype) == (dtype, torch.float32)
    assert torch.isfinite(half.grad).all()


def test_keeps_no_gradients_when_none_are_asked_for():
    hidden, head, labels = example(2, 10)
    with torch.no_grad():
        assert not ours(hidden, head, labels).requires_grad
