from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from glmtrain import methods, model, precision
from glmtrain.batches import Inputs
from glmtrain.devices import Place
from glmtrain.newtokens import NewToken
from glmtrain.settings import ALL_LINEAR, Config, Lora, Model, Precision
from safetensors.torch import load_file

from tests.train import models

EVERY_LINEAR = ("down_proj", "gate_up_proj", "k_proj", "o_proj", "q_proj", "v_proj")


def configured(method="lora", pure=False, **settings):
    return Config(
        model=Model(method=method),
        lora=Lora(**{"rank": 8, "alpha": 32.0, "target_modules": EVERY_LINEAR} | settings),
        precision=Precision(pure=pure),
    )


def prepared(config, base=None, dtype=torch.float32):
    with model.quiet_libraries():
        return methods.prepare(models.make() if base is None else base, config, dtype)


def test_lora_trains_adapters_only():
    trainable = prepared(configured()).learning()
    assert all("lora_" in name for name in trainable)
    assert len(trainable) == 2 * 2 * len(EVERY_LINEAR)  # A and B, two layers


def test_first_adapter_weights_follow_from_the_seed():
    def first():
        weights = prepared(configured()).learning().values()
        return torch.cat([weight.flatten() for weight in weights])

    assert torch.equal(first(), first())


def test_full_trains_everything():
    learner = prepared(configured("full"))
    assert len(learner.learning()) == len(dict(learner.causal.named_parameters()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("method", ["lora", "qlora", "full"])
def test_what_learns_is_float32_on_a_half_precision_base(method, dtype):
    base = models.make().to(dtype)
    learner = prepared(configured(method), base, dtype)
    assert {weight.dtype for weight in learner.learning().values()} == {torch.float32}


@pytest.mark.parametrize("method", ["lora", "qlora", "full"])
def test_pure_bf16_learns_in_bf16(method):
    base = models.make().to(torch.bfloat16)
    learner = prepared(configured(method, pure=True), base, torch.bfloat16)
    assert {weight.dtype for weight in learner.learning().values()} == {torch.bfloat16}


def placed(strategy="single"):
    return Place(
        rank=0, ranks=1, local_rank=0, local_ranks=1, device=torch.device("cpu"), strategy=strategy
    )


@pytest.mark.parametrize(("method", "dtype"), [("lora", torch.bfloat16), ("full", torch.float32)])
def test_the_base_is_loaded_as_settings_and_precision_say(small_model, method, dtype):
    asked = Model(path=str(small_model), method=method, attention="eager")
    chosen = precision.choose(Precision(dtype="bf16"), torch.device("cpu"))
    with model.quiet_libraries():
        base = methods.load(Config(model=asked), chosen, placed())
    assert base.dtype == dtype
    assert base.config._attn_implementation == "eager"


@pytest.mark.parametrize(
    ("method", "strategy", "moved"),
    [("lora", "ddp", True), ("qlora", "single", False), ("lora", "fsdp2", False)],
)
def test_a_base_to_be_quantised_or_sliced_is_not_moved_whole(small_model, method, strategy, moved):
    asked = Config(model=Model(path=str(small_model), method=method))
    chosen = precision.choose(Precision(dtype="fp32"), torch.device("cpu"))
    elsewhere = replace(chosen, device=torch.device("meta"))
    with model.quiet_libraries():
        base = methods.load(asked, elsewhere, placed(strategy))
    assert base.device.type == ("meta" if moved else "cpu")


@pytest.mark.parametrize("method", ["lora", "qlora", "full"])
def test_adapters_have_targets_and_full_training_has_none(method):
    config = Config(model=Model(method=method))
    assert methods.targets(models.make(), config) == (() if method == "full" else EVERY_LINEAR)


@pytest.mark.parametrize("method", ["lora", "qlora"])
@pytest.mark.parametrize("tied", [True, False])
def test_weights_kept_elsewhere_are_saved_as_the_learner_s_own(tmp_path, method, tied):
    tokens = (NewToken(text="<|a|>", id=310, pieces=(5,)),)
    with model.quiet_libraries():
        config, base = configured(method), models.make(tied=tied)
        learner = methods.prepare(base, config, torch.float32, new_tokens=tokens)
    models.scatter(learner)
    gathered = {name: weight.detach().clone() for name, weight in learner.learning().items()}
    saved = []
    for weights in (None, gathered):
        folder = tmp_path / str(len(saved))
        folder.mkdir()
        methods.save(learner, folder, weights)
        saved.append(load_file(folder / methods.ADAPTER_WEIGHTS))
        models.scatter(learner)
    assert saved[0].keys() == saved[1].keys()
    assert len(saved[0]) == len(gathered)
    assert all(torch.equal(weight, saved[1][name]) for name, weight in saved[0].items())


@pytest.mark.parametrize("tied", [True, False])
def test_a_whole_model_is_saved_from_weights_kept_elsewhere(tmp_path, tied):
    learner = prepared(configured("full"), models.make(tied=tied))
    models.scatter(learner)
    gathered = {name: weight.detach().clone() for name, weight in learner.learning().items()}
    expected = models.logits(learner.causal)
    models.scatter(learner)
    with model.quiet_libraries():
        methods.save(learner, tmp_path, gathered)
        restored = model.load(str(tmp_path), torch.float32)
    torch.testing.assert_close(models.logits(restored), expected)


def inputs():
    ids = models.text()
    return Inputs(
        input_ids=ids,
        position_ids=torch.arange(ids.shape[1]).expand_as(ids),
        attention_mask=None,
        labels=ids,
        tokens=ids.numel(),
        supervised=ids.numel() - len(ids),
    )


@pytest.mark.parametrize(
    ("kind", "method", "targets", "tied", "new"),
    [
        ("Glm", "lora", (ALL_LINEAR, "lm_head"), False, False),
        ("Glm", "lora", (ALL_LINEAR, "lm_head"), True, False),
        ("Glm4", "lora", (ALL_LINEAR,), False, True),
        ("Glm4", "qlora", (ALL_LINEAR,), True, True),
        ("Glm4Moe", "lora", (ALL_LINEAR,), False, True),
        ("Glm4Moe", "qlora", (ALL_LINEAR,), False, True),
        ("Glm4MoeLite", "lora", (ALL_LINEAR,), True, True),
        ("Glm", "full", (ALL_LINEAR,), True, True),
    ],
)
def test_loss_and_gradients_are_the_model_s_own(kind, method, targets, tied, new):
    base = models.make(kind, tied=tied)
    asked = configured(method, target_modules=targets)
    asked = replace(
        asked, lora=replace(asked.lora, target_modules=methods.targets(base, asked) or targets)
    )
    tokens = (NewToken(text="<|a|>", id=310, pieces=(5,)),) if new else ()
    with model.quiet_libraries():
        learner = methods.prepare(base, asked, torch.float32, new_tokens=tokens)
    models.scatter(learner)
    learning = learner.learning()

    def gradients(loss):
        loss.backward()
        found = {name: weight.grad for name, weight in learning.items()}
        learner.zero_grad()
        return found

    ours, own = learner(inputs()), learner(inputs(), "own").sum()
    torch.testing.assert_close(ours, own)
    of_ours, of_own = gradients(ours), gradients(own)
    for name, gradient in of_own.items():
        torch.testing.assert_close(of_ours[name], gradient, rtol=1e-4, atol=1e-4)
