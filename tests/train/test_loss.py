from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from glmtrain import heads, model
from glmtrain.heads import CHUNK
from glmtrain.loss import IGNORED, Objective, each_loss, summed_loss
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

WIDTH, VOCABULARY = 16, 700
FP32 = Objective(dtype=torch.float32)
LORA = ["lora", "rslora", "dora", "dropout", "lora on trained"]
ROWS = ["rows", "rows beside lora", "rows on trained", "rows turned off", "rows merged"]
HEADS = ["plain", "frozen", "bias", *LORA, *ROWS]


class Small(nn.Module):
    """What peft needs to put an adapter on a head."""

    def __init__(self, head):
        super().__init__()
        self.lm_head = head
        self.other = nn.Linear(2, 2)


def made_head(kind, *, width=WIDTH, vocabulary=VOCABULARY, tied=None):
    """An output layer of every kind, with adapters that are no longer zero."""
    head = nn.Linear(width, vocabulary, bias=kind == "bias")
    if tied is not None:
        head.weight = tied
    if kind in ("plain", "bias"):
        return head
    if kind == "frozen":
        return head.requires_grad_(False)
    with model.quiet_libraries():
        adapted = _adapted(head, kind)
    with torch.no_grad():
        for weight in adapted.parameters():
            if weight.requires_grad:
                weight += 0.1 * torch.randn_like(weight)
    if kind.endswith("on trained"):
        adapted.base_layer.weight.requires_grad_()
    elif kind == "rows turned off":
        adapted.enable_adapters(False)
    elif kind == "rows merged":
        adapted.merge()
    return adapted


def _adapted(head, kind):
    from peft import LoraConfig, TrainableTokensConfig, get_peft_model

    if kind == "rows beside lora":
        settings = LoraConfig(target_modules=["other"], trainable_token_indices={"lm_head": [1, 4]})
    elif kind in ROWS:
        settings = TrainableTokensConfig(target_modules=["lm_head"], token_indices=[1, 4])
    else:
        settings = LoraConfig(
            r=4,
            target_modules=["lm_head"],
            use_rslora=kind == "rslora",
            use_dora=kind == "dora",
            lora_dropout=0.5 if kind == "dropout" else 0.0,
        )
    return get_peft_model(Small(head), settings).base_model.model.lm_head


def example(rows=3, length=40, *, width=WIDTH, vocabulary=VOCABULARY, unlabelled=0.4):
    hidden = torch.randn(rows, length, width, requires_grad=True)
    labels = torch.randint(0, vocabulary, (rows, length))
    labels[torch.rand(rows, length) < unlabelled] = IGNORED
    return hidden, labels


def naive(hidden, labels, head, objective=FP32):
    """The same from all logits at once, by autograd and torch's own cross-entropy."""
    targets = labels[:, 1:]
    logits = head(hidden[:, :-1][targets != IGNORED]).float()
    targets = targets[targets != IGNORED]
    smoothing = objective.label_smoothing
    loss = cross_entropy(logits, targets, reduction="sum", label_smoothing=smoothing)
    return loss + objective.z_loss * logits.logsumexp(-1).square().sum()


def assert_same(hidden, labels, head, objective=FP32, scale=0.25):
    """Loss and all gradients equal the naive ones, with the same dropout."""
    learning = [weight for weight in head.parameters() if weight.requires_grad]
    found = []
    for loss_of in (summed_loss, naive):
        torch.manual_seed(5)
        loss = loss_of(hidden, labels, head, objective)
        gradients = torch.autograd.grad(
            loss * scale, [hidden, *learning], allow_unused=True, materialize_grads=True
        )
        found.append((loss.detach(), *gradients))
    labelled = max(1, int((labels[:, 1:] != IGNORED).sum()))
    (mine, *my_gradients), (theirs, *their_gradients) = found
    assert abs(mine - theirs) / labelled < 1e-5
    for one, other in zip(my_gradients, their_gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(3)


@pytest.mark.parametrize(("rows", "length"), [(1, 9), (3, 40), (4, 2 * CHUNK // 3)])
def test_equals_the_naive_loss_with_its_gradients(rows, length):
    assert_same(*example(rows, length), made_head("plain"))


@pytest.mark.parametrize("kind", HEADS)
def test_equals_the_naive_loss_for_every_kind_of_output_layer(kind, monkeypatch):
    # Dropout draws its numbers by the chunk, so it is compared in one.
    monkeypatch.setattr(heads, "CHUNK", CHUNK if kind == "dropout" else 7)
    assert_same(*example(), made_head(kind), Objective(dtype=torch.float32, z_loss=1e-3))


@examples(deadline=None, max_examples=60)
@given(
    kind=st.sampled_from(["plain", "frozen", "lora", "rows"]),
    rows=st.integers(1, 3),
    length=st.integers(2, 30),
    width=st.integers(1, 12),
    vocabulary=st.integers(5, 90),
    chunk=st.integers(1, 40),
    unlabelled=st.sampled_from([0.0, 0.3, 0.9]),
    smoothing=st.sampled_from([0.0, 0.1, 0.7]),
    z_loss=st.sampled_from([0.0, 1e-4, 0.1]),
    seed=st.integers(0, 1000),
)
def test_equals_the_naive_loss_for_all_shapes_labels_and_chunks(
    kind, rows, length, width, vocabulary, chunk, unlabelled, smoothing, z_loss, seed
):
    torch.manual_seed(seed)
    head = made_head(kind, width=width, vocabulary=vocabulary)
    hidden, labels = example(
        rows, length, width=width, vocabulary=vocabulary, unlabelled=unlabelled
    )
    objective = Objective(dtype=torch.float32, label_smoothing=smoothing, z_loss=z_loss)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(heads, "CHUNK", chunk)
        assert_same(hidden, labels, head, objective)


@pytest.mark.parametrize("rows", [False, True], ids=["whole", "rows"])
def test_tied_embeddings_get_both_gradients(small_model, rows):
    """Whole, or only the rows of two tokens, which peft shares between both layers."""
    from peft import LoraConfig, get_peft_model

    with model.quiet_libraries():
        causal = model.load(str(small_model), torch.float32)
        causal.config.tie_word_embeddings = True
        causal.tie_weights()
        if rows:
            tokens = LoraConfig(target_modules=["q_proj"], trainable_token_indices=[20, 30])
            get_peft_model(causal, tokens)
    assert causal.lm_head.weight.equal(causal.model.embed_tokens.weight)
    ids = torch.randint(20, 32, (2, 20))
    found = []
    for loss_of in (summed_loss, naive):
        hidden = causal.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
        loss = loss_of(hidden, ids, causal.get_output_embeddings(), FP32) * 0.1
        learning = [weight for weight in causal.parameters() if weight.requires_grad]
        found.append(torch.autograd.grad(loss, learning, allow_unused=True))
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)
    assert any(heads.weights(causal.get_output_embeddings())[0] is weight for weight in learning)


@pytest.mark.parametrize("kind", ["plain", "lora"])
def test_each_loss_is_the_plain_cross_entropy_of_every_labelled_token(kind, monkeypatch):
    monkeypatch.setattr(heads, "CHUNK", 16)
    (hidden, labels), head = example(), made_head(kind)
    targets = labels[:, 1:]
    logits = head(hidden[:, :-1])[targets != IGNORED]
    expected = cross_entropy(logits, targets[targets != IGNORED], reduction="none")
    objective = Objective(dtype=torch.float32, label_smoothing=0.3, z_loss=0.1)
    found = each_loss(hidden, labels, head, objective)
    torch.testing.assert_close(found, expected.detach(), atol=1e-5, rtol=1e-5)
    assert not found.requires_grad


@pytest.mark.parametrize("kind", ["plain", "lora"])
def test_large_logits_do_not_overflow(kind):
    (hidden, labels), head = example(), made_head(kind)
    found, expected = (f(hidden * 3000, labels, head, FP32) for f in (summed_loss, naive))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("kind", ["frozen", "lora", "rows", "rows beside lora"])
def test_a_frozen_weight_gets_no_gradient_and_is_not_copied(kind):
    (hidden, labels), head = example(), made_head(kind)
    weight = next(weight for weight in head.parameters() if weight.shape == (VOCABULARY, WIDTH))
    with Made() as seen:
        summed_loss(hidden, labels, head, FP32).backward()
    assert weight.grad is None
    # Either would be a tensor of its size in other memory.
    same_size = {place for shape, place in seen.made if shape == weight.shape}
    assert same_size <= {weight.data_ptr()}


def test_a_frozen_decoder_leaves_the_gradient_of_the_output_layer():
    (hidden, labels), head = example(), made_head("lora")
    summed_loss(hidden.detach(), labels, head, FP32).backward()
    learning = [weight for weight in head.parameters() if weight.requires_grad]
    assert all(weight.grad.abs().sum() > 0 for weight in learning)


@pytest.mark.parametrize("kind", HEADS)
def test_without_labels_is_a_zero_that_is_connected_to_the_graph(kind):
    (hidden, labels), head = example(2, 8), made_head(kind)
    loss = summed_loss(hidden, torch.full_like(labels, IGNORED), head, FP32)
    loss.backward()
    learning = [weight for weight in head.parameters() if weight.requires_grad]
    assert loss.item() == 0
    assert all(weight.grad.abs().sum() == 0 for weight in (hidden, *learning))


@pytest.mark.parametrize("kind", ["plain", "lora"])
def test_a_hidden_state_that_is_no_number_gives_a_loss_that_is_none(kind):
    (hidden, labels), head = example(unlabelled=0), made_head(kind)
    with torch.no_grad():
        hidden[1, 5] = torch.nan
    assert summed_loss(hidden, labels, head, FP32).isnan()
    assert each_loss(hidden, labels, head, FP32).isnan().sum() == 1


def test_first_token_of_a_row_is_no_target():
    (hidden, labels), head = example(1, 5), made_head("plain")
    other = labels.clone()
    other[:, 0] = 7
    assert summed_loss(hidden, labels, head, FP32) == summed_loss(hidden, other, head, FP32)


@pytest.mark.parametrize("autocast", [True, False])
@pytest.mark.parametrize("kind", ["plain", "lora", "dora", "rows"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_near_and_gives_gradients_in_the_weights_own_dtype(
    dtype, kind, autocast
):
    (hidden, labels), head = example(2, 50), made_head(kind)
    learning = [weight for weight in head.parameters() if weight.requires_grad]
    exact = naive(hidden, labels, head)
    exact_gradients = torch.autograd.grad(exact, [hidden, *learning])
    half = hidden.detach().to(dtype).requires_grad_()
    with torch.autocast("cpu", dtype) if autocast else nullcontext():
        loss = summed_loss(half, labels, head, Objective(dtype=dtype))
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, exact.detach(), rtol=0.02, atol=0)
    loss.backward()
    assert half.grad.dtype == dtype
    for weight, expected in zip((half, *learning), exact_gradients, strict=True):
        assert (weight.grad - expected).norm() < 0.05 * expected.norm()


def test_keeps_no_gradients_when_none_are_asked_for():
    (hidden, labels), head = example(2, 10), made_head("plain")
    with torch.no_grad():
        assert not summed_loss(hidden, labels, head, FP32).requires_grad


def test_a_second_backward_pass_is_refused():
    (hidden, labels), head = example(2, 10), made_head("plain")
    loss = summed_loss(hidden, labels, head, FP32)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="freed by its first backward"):
        loss.backward()


class Made(TorchDispatchMode):
    """The shapes and places of all tensors that are made while it is on."""

    def __init__(self):
        super().__init__()
        self.made = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves(made) if isinstance(leaf, torch.Tensor)]
        self.made += [(tensor.shape, tensor.data_ptr()) for tensor in tensors]
        return made


@pytest.mark.parametrize("kind", ["plain", "lora", "rows"])
def test_no_tensor_grows_with_rows_times_vocabulary(kind, monkeypatch):
    monkeypatch.setattr(heads, "CHUNK", 8)
    head = made_head(kind)
    largest = []
    for rows in (2, 20):
        hidden, labels = example(rows, 30)
        with Made() as seen:
            summed_loss(hidden, labels, head, FP32).backward()
        largest.append(max(shape.numel() for shape, _ in seen.made))
    assert largest[0] == largest[1] == max(8, WIDTH) * VOCABULARY
