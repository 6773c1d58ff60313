from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from glmprep.errors import UsageError
from glmreport.text import LANGUAGES, Catalogue
from glmtrain import lora, methods
from glmtrain.coverage import coverage, reason, share
from glmtrain.model import quiet_libraries
from glmtrain.settings import ALL_LINEAR, Config, Lora, Model

from tests.train import models

ATTENTION = ("k_proj", "o_proj", "q_proj", "v_proj")
FUSED = {"experts.gate_up_proj", "experts.down_proj"}
EVERY_MIXTURE = {
    *ATTENTION,
    *FUSED,
    *(f"{of}.{name}_proj.weight" for of in ("mlp", "shared_experts") for name in ("gate", "up")),
    *(f"{of}.down_proj.weight" for of in ("mlp", "shared_experts")),
}


def prepared(model, *names, checkpointing=False, **settings):
    """The model with adapters on what is named, all linear layers if nothing is."""
    asked = Lora(target_modules=names or (ALL_LINEAR,), rank=4, alpha=8.0)
    asked = replace(asked, **settings)
    config = Config(
        model=Model(gradient_checkpointing=checkpointing),
        lora=replace(asked, target_modules=lora.targets(model, asked)),
    )
    with quiet_libraries():
        return methods.prepare(model, config, torch.float32)


@pytest.mark.parametrize("kind", ["Glm", "Glm4"])
def test_all_linear_means_every_linear_layer_but_the_output(kind):
    found = lora.targets(models.make(kind), Lora())
    assert found == ("down_proj", "gate_up_proj", *ATTENTION)


def test_all_linear_means_fused_experts_too_but_not_the_router():
    assert set(lora.targets(models.make("Glm4Moe"), Lora())) == EVERY_MIXTURE


def test_the_router_is_adapted_where_it_is_asked_for():
    found = lora.targets(models.make("Glm4Moe"), Lora(train_router=True))
    assert set(found) - EVERY_MIXTURE == {"gate.weight"}


def test_experts_of_a_base_to_be_quantised_are_left_out():
    found = lora.targets(models.make("Glm4Moe"), Lora(), quantised=True)
    assert set(found) == EVERY_MIXTURE - FUSED


def test_the_output_layer_is_adapted_where_it_is_named():
    model = models.make()
    names = (ALL_LINEAR, "lm_head")
    assert "lm_head" in lora.targets(model, Lora(target_modules=names))
    learning = prepared(model, *names).learning()
    assert {name for name in learning if name.startswith("lm_head.")} == {
        "lm_head.lora_A.default.weight",
        "lm_head.lora_B.default.weight",
    }


def test_named_layers_are_kept():
    assert lora.targets(models.make(), Lora(target_modules=("q_proj",))) == ("q_proj",)


@pytest.mark.parametrize("name", ["embed_tokens", "query_key_value"])
def test_a_layer_that_cannot_be_adapted_is_refused_naming_those_that_can(name):
    with pytest.raises(UsageError, match=f"'{name}' to adapt; there are down_proj, gate_up_proj"):
        lora.targets(models.make(), Lora(target_modules=(name,)))


@pytest.mark.parametrize("kind", list(models.KINDS))
def test_every_adapter_learns_and_nothing_else(kind):
    learner = prepared(models.make(kind), train_router=True)
    models.loss(learner.causal).backward()
    learning = learner.learning()
    assert all("lora_" in name for name in learning)
    # B begins as zero, so that A has no gradient but zero in the first step.
    assert all(w.grad is not None and w.grad.any() for n, w in learning.items() if "lora_B" in n)
    others = [w for n, w in learner.causal.named_parameters() if n not in learning]
    assert all(weight.grad is None for weight in others)


@pytest.mark.parametrize("kind", ["Glm", "Glm4Moe"])
def test_all_linear_covers_all_but_embeddings_output_router_and_norms(kind):
    found = {one.kind: one for one in coverage(prepared(models.make(kind)))}
    whole = {one for one, covered in found.items() if covered.share == 1}
    mixture = {"experts"} if kind == "Glm4Moe" else set()
    assert whole == {"attention", "feed-forward"} | mixture
    assert {kind for kind, one in found.items() if one.share == 0} == found.keys() - whole
    model = models.make(kind)
    assert sum(one.parameters for one in found.values()) == model.num_parameters()


def test_a_mixture_with_adapters_on_attention_alone_is_little_covered():
    learner = prepared(models.make("Glm4Moe"), *ATTENTION)
    attention = sum(w.numel() for n, w in models.make("Glm4Moe").named_parameters() if "_attn" in n)
    total = learner.causal.num_parameters(exclude_embeddings=False) - sum(
        weight.numel() for weight in learner.learning().values()
    )
    assert share(coverage(learner)) == pytest.approx(attention / total)
    assert attention / total < 0.2


@pytest.mark.parametrize(
    ("kind", "targets", "key"),
    [
        ("Glm", (), "high"),
        ("Glm4Moe", (), "high"),
        ("Glm", ("k_proj",), "low"),
        ("Glm4Moe", ATTENTION, "without_experts"),
        ("Glm4Moe", ("experts.down_proj",), "low"),
    ],
)
def test_what_is_said_of_the_coverage_follows_from_what_is_left_out(kind, targets, key):
    said = reason(coverage(prepared(models.make(kind), *targets)))
    assert said.key == f"coverage.{key}"
    assert all(Catalogue.load(language).say(said) for language in LANGUAGES)


def test_full_training_covers_everything():
    made = methods.prepare(models.make(), Config(model=Model(method="full")), torch.float32)
    assert share(coverage(made)) == 1


def test_rank_stabilised_lora_scales_by_the_root_of_the_rank():
    def change(**settings):
        model = models.make()
        before = models.logits(model)
        learner = prepared(model, "o_proj", rank=16, alpha=2.0, **settings)
        torch.manual_seed(0)
        with torch.no_grad():
            for weight in learner.learning().values():
                weight.normal_(0, 1e-3)
        return models.logits(model).double() - before.double()

    ratio = change(rslora=True).norm() / change().norm()
    assert ratio == pytest.approx(math.sqrt(16), rel=1e-2)


def test_dora_learns_the_norm_of_each_output_apart_from_its_direction():
    model = models.make()
    before = models.logits(model)
    norm = model.model.layers[0].self_attn.q_proj.weight.norm(dim=1)
    learner = prepared(model, "q_proj", dora=True)
    learning = learner.learning()
    magnitudes = [weight for name, weight in learning.items() if "magnitude" in name]
    assert len(magnitudes) == 2
    torch.testing.assert_close(magnitudes[0], norm)
    torch.testing.assert_close(models.logits(model), before)
    models.loss(model).backward()
    assert all(magnitude.grad.any() for magnitude in magnitudes)
    with torch.no_grad():
        magnitudes[0].mul_(2)
    assert not torch.allclose(models.logits(model), before)


def test_dropout_acts_in_training_alone():
    model = models.make()
    models.scatter(prepared(model, dropout=0.5))
    assert torch.equal(models.logits(model), models.logits(model))
    assert models.loss(model) != models.loss(model)


@pytest.mark.parametrize(("setting", "value"), [("dropout", 0.1), ("dora", True)])
def test_what_peft_cannot_do_with_experts_is_refused(setting, value):
    with pytest.raises(UsageError, match=rf"lora.{setting}: .* name the layers of attention"):
        prepared(models.make("Glm4Moe"), **{setting: value})
    prepared(models.make("Glm4Moe"), *ATTENTION, **{setting: value})


def test_gradient_checkpointing_gives_the_same_gradients_through_experts():
    def gradients(checkpointing):
        model = models.make("Glm4Moe")
        learner = prepared(model, checkpointing=checkpointing)
        assert model.model.layers[1].gradient_checkpointing == checkpointing
        models.scatter(learner)
        models.loss(model).backward()
        return {name: weight.grad for name, weight in learner.learning().items()}

    plain, checkpointed = gradients(False), gradients(True)
    for name, gradient in plain.items():
        torch.testing.assert_close(checkpointed[name], gradient)
