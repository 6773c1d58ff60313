from __future__ import annotations

import dataclasses

import pytest
import torch
from glmdiag.preflight import effect_rules, effects
from glmdiag.preflight.effects import Effect
from glmdiag.preflight.trial import prepared
from glmprep.errors import UsageError
from glmtrain import kernels, neftune, quantised
from glmtrain.config import build
from glmtrain.kernels import Candidate
from glmtrain.learner import Learner
from glmtrain.model import quiet_libraries
from glmtrain.prefix_attention import PREFIX
from torch import nn

from tests.diagnose.trials import save, write_shards

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def glm(tmp_path_factory):
    return save(tmp_path_factory.mktemp("glm"))


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return write_shards(tmp_path_factory.mktemp("rows") / "shards")


@pytest.fixture
def proven(glm, shards, tmp_path):
    """What takes effect under changed settings, by name; `change` may spoil what was made."""

    def prove(change=lambda made: None, **changes):
        plain = {
            "model": {"path": str(glm)},
            "data": {"shards": [str(shards)]},
            "precision": {"dtype": "fp32"},
        }
        names = plain | changes
        merged = {name: plain.get(name, {}) | changes.get(name, {}) for name in names}
        with (
            prepared(build([("test", merged)]), tmp_path) as trial,
            trial.made(trial.dtype) as made,
            quiet_libraries(),
        ):
            change(made)
            return {each.name: each for each in effects.of(made, trial)}

    return prove


def test_what_is_not_switched_on_is_not_told_of(proven):
    found = proven(lora={"dropout": 0.0})
    assert set(found) == {"format", "attention", "adapters", "frozen", "learning", "evaluation"}
    assert all(effect.took for effect in found.values())


@pytest.mark.parametrize("kind", ["sdpa", "eager"])
def test_the_attention_that_was_asked_for_is_seen_in_each_layer(proven, kind):
    effect = proven(model={"attention": kind})["attention"]
    assert (effect.took, effect.seen, effect.of) == (True, 2, 2)
    assert effect.how.startswith(kind)
    assert ("flash" in effect.how) == (kind == "sdpa")


def test_an_attention_that_was_changed_behind_is_not_the_one_asked_for(proven):
    def change(made):
        made.learner.causal.set_attn_implementation("eager")

    assert not proven(change, model={"attention": "sdpa"})["attention"].took


def test_a_model_that_calls_an_attention_of_its_own_is_seen(proven):
    def change(made):
        for layer in made.learner.causal.get_decoder().layers:
            layer.self_attn.forward = lambda hidden_states, **_: (hidden_states, None)

    assert proven(change)["attention"].seen == 0


@pytest.fixture
def fused(monkeypatch):
    """A kernel that a CPU can run, in the place of those of CUDA."""

    def compute(rows, weight, targets, objective):
        return nn.functional.cross_entropy(rows @ weight.T, targets, reduction="sum")

    made = Candidate(name="liger", module="torch", device="cpu", compute=compute)
    monkeypatch.setattr(kernels, "CANDIDATES", (made,))


@pytest.mark.parametrize("asked", ["liger", "auto"])
def test_a_kernel_that_computes_the_loss_is_seen(proven, fused, asked):
    effect = proven(loss={"kernel": asked})["kernel"]
    assert (effect.took, effect.asked, effect.how) == (True, asked, "liger")


def test_a_kernel_that_is_asked_for_and_not_called_is_found(proven, fused, monkeypatch):
    def put_torch_back(made):
        made.learner.objective = made.learner.objective.within(torch.float32)

    assert not proven(put_torch_back, loss={"kernel": "liger"})["kernel"].took
    plain = Learner.forward

    def past_it(self, inputs, returns="sum"):
        chosen, self.objective = self.objective, self.objective.within(torch.float32)
        try:
            return plain(self, inputs, returns)
        finally:
            self.objective = chosen

    monkeypatch.setattr(Learner, "forward", past_it)
    effect = proven(loss={"kernel": "liger"})["kernel"]
    assert (effect.took, effect.how) == (False, "liger")
    assert not proven(loss={"kernel": "auto"})["kernel"].took


def test_a_kernel_is_told_of_only_where_one_computes(proven, fused):
    assert "kernel" not in proven(loss={"kernel": "torch"})


def test_a_kernel_that_cannot_run_here_is_refused_before_anything_is_tried(proven):
    with pytest.raises(UsageError, match=r"loss\.kernel = liger: it runs on cuda only"):
        proven(loss={"kernel": "liger"})


def test_checkpointed_layers_run_twice(proven):
    assert "checkpointing" not in proven()
    effect = proven(model={"gradient_checkpointing": True})["checkpointing"]
    assert (effect.took, effect.seen, effect.how) == (True, 2, "2")


def test_checkpointing_that_was_switched_off_behind_is_found(proven):
    def change(made):
        made.learner.causal.gradient_checkpointing_disable()

    effect = proven(change, model={"gradient_checkpointing": True})["checkpointing"]
    assert (effect.took, effect.missing) == (False, ("0", "1"))


def test_adapters_that_hit_nothing_and_weights_without_gradient_are_found(proven, monkeypatch):
    def lose(made):
        names = (*made.config.lora.target_modules, "z_proj")
        chosen = dataclasses.replace(made.config.lora, target_modules=names)
        object.__setattr__(made, "config", dataclasses.replace(made.config, lora=chosen))

    assert proven(lose)["adapters"].missing == ("z_proj",)

    def cut(made):
        layer = made.learner.causal.get_decoder().layers[1]
        layer.mlp.register_forward_hook(lambda _module, _args, output: output.detach())

    found = proven(cut)
    assert not found["adapters"].took
    assert not found["learning"].took
    assert all("layers.1.mlp" in name for name in found["learning"].missing)


@pytest.mark.parametrize("alpha", [16.0, 4.0])
def test_adapters_on_one_layer_are_proven_too(proven, alpha):
    found = proven(lora={"target_modules": ["q_proj"], "alpha": alpha, "rank": 2})
    assert (found["adapters"].seen, found["adapters"].took) == (2, True)


def test_a_prefix_gets_gradients_and_one_that_is_cut_off_does_not(proven):
    assert proven(model={"method": "ptuning"})["prefix"].took

    def cut(made):
        for layer in made.learner.adapter.layers[:1]:
            getattr(layer, PREFIX).register_hook(torch.zeros_like)

    effect = proven(cut, model={"method": "ptuning"})["prefix"]
    assert (effect.seen, effect.of) == (1, 2)


def test_quantised_layers_are_in_four_bits_and_one_that_is_left_out_is_named(proven, monkeypatch):
    assert proven(model={"method": "qlora"})["quantised"].took
    plain = quantised._weights

    def weights(model, targets):
        return [each for each in plain(model, targets) if "layers.1.mlp.down_proj" not in each[0]]

    monkeypatch.setattr(quantised, "_weights", weights)
    effect = proven(model={"method": "qlora"})["quantised"]
    assert not effect.took
    assert "layers.1.mlp.down_proj" in effect.missing[0]


def test_noise_is_seen_in_training_and_found_missing(proven, monkeypatch):
    assert proven(model={"neftune_alpha": 5.0})["noise"].took
    monkeypatch.setattr(neftune, "install", lambda model, alpha: None)
    assert not proven(model={"neftune_alpha": 5.0})["noise"].took


def test_dropout_is_seen_in_training_and_found_missing(proven):
    effect = proven(lora={"dropout": 0.3})["dropout"]
    assert effect.took
    assert 0.2 < float(effect.how.rstrip("%")) / 100 < 0.4

    def silence(made):
        for part in made.learner.causal.modules():
            if isinstance(part, nn.Dropout):
                part.forward = lambda values: values

    assert not proven(silence, lora={"dropout": 0.3})["dropout"].took


def test_dropout_that_stays_on_in_evaluation_is_found(proven):
    def insist(made):
        for part in made.learner.causal.modules():
            if isinstance(part, nn.Dropout):
                part.forward = lambda values: nn.functional.dropout(values, 0.3, training=True)

    effect = proven(insist, lora={"dropout": 0.3})["evaluation"]
    assert not effect.took
    assert all("lora_dropout" in name for name in effect.missing)


def test_a_base_that_gets_gradients_is_found(proven):
    def thaw(made):
        weight = made.learner.causal.get_decoder().norm.weight
        weight.grad = None
        learning = made.learner.learning()
        object.__setattr__(made.learner, "learning", lambda: learning)
        weight.requires_grad_(True)

    effect = proven(thaw)["frozen"]
    assert (effect.took, len(effect.missing)) == (False, 1)


def test_rows_of_added_tokens_learn(proven, tmp_path):
    added = {"added_tokens": ["<|user|>new"], "vocab_size": 303}  # its id is 302, which rows hold
    from glmtrain import newtokens

    token = newtokens.NewToken(text="<|user|>new", id=302, pieces=[1, 2])
    folder = write_shards(tmp_path / "added", **added)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(newtokens, "of_data", lambda manifests, path: (token,))
        for method in ("lora", "full"):
            found = proven(data={"shards": [str(folder)]}, model={"method": method})
            assert (found["tokens"].took, found["tokens"].of) == (True, 1)

        def cut(made):
            for name, weight in made.learner.learning().items():
                if "embed_tokens" in name:
                    weight.register_hook(torch.zeros_like)

        assert not proven(cut, data={"shards": [str(folder)]})["tokens"].took


def test_all_weights_learn_in_full_training(proven):
    effect = proven(model={"method": "full"})["learning"]
    assert effect.took
    assert effect.of == 25


RULES = {
    "CF141": Effect(name="noise", setting="model.neftune_alpha", asked="5", seen=0, of=1),
    "CF142": Effect(name="learning", setting="", asked="", seen=3, of=4, missing=("a",)),
    "CF143": Effect(name="frozen", setting="", asked="", seen=3, of=4, missing=("a",)),
    "CF144": Effect(name="evaluation", setting="", asked="", seen=3, of=4, missing=("a",)),
}


class Found:
    """As much of a trial as the rules on effects read."""

    def __init__(self, *found: Effect) -> None:
        self.effects = found


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_on_effects_fires_alone_and_is_silent_where_all_is_seen(rule):
    broken = RULES[rule]
    sound = dataclasses.replace(broken, seen=broken.of, missing=())

    def fired(effect):
        return [f.rule for each in effect_rules.EFFECT_RULES for f in each(Found(effect))]

    assert fired(broken) == [rule]
    assert fired(sound) == []
