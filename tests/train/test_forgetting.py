"""How far a model is from its base, against logits held at once."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch
from glmprep import families
from glmprep.errors import InputError
from glmprep.tokenizer import load
from glmreport.text import Literal
from glmtrain import forgetting, model, prefix, settings
from glmtrain.eval_rules import moved_far
from glmtrain.evaluate import Mean
from glmtrain.forgetting import (
    Divergence,
    Pair,
    Text,
    divergence,
    general,
    mean_loss,
)
from glmtrain.precision import Precision

FP32 = Precision(
    dtype=torch.float32, device=torch.device("cpu"), reason=Literal("asked for"), scaler=None
)
TEXTS = [
    Text(ids=list(range(5, 25)), language="english"),
    Text(ids=[9, 3, 7, 100, 250, 11], language="chinese"),
    Text(ids=[1, 2], language="english"),
]


@pytest.fixture(scope="module")
def plain(small_model):
    with model.quiet_libraries():
        return model.load(str(small_model), torch.float32).eval()


@pytest.fixture(params=["lora", "prefix"])
def pair(plain, request):
    """The same model with an adapter, which has learned something at random, and itself without."""
    torch.manual_seed(1)
    causal = copy.deepcopy(plain)
    if request.param == "prefix":
        adapter = prefix.install(causal, settings.Prefix(tokens=4), seed=1)
        learned = adapter.prefixes
    else:
        adapter = lora(causal)
        learned = [weight for name, weight in causal.named_parameters() if "lora_B" in name]
    for weight in learned:
        torch.nn.init.normal_(weight, std=0.3)
    return Pair(causal=causal.eval(), precision=FP32, adapter=adapter)


def lora(causal):
    with model.quiet_libraries():
        from peft import LoraConfig, get_peft_model

        kind = LoraConfig(r=4, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM")
        return get_peft_model(causal, kind)


@torch.no_grad()
def likely(causal, ids):
    return causal(torch.tensor([ids])).logits[0, :-1].double().log_softmax(-1)


def naive(causal, base):
    """Divergence at each place of each text, and whether the likeliest is the same."""
    moved = []
    for text in TEXTS:
        after, before = likely(causal, text.ids), likely(base, text.ids)
        kl = (before.exp() * (before - after)).sum(-1)
        moved.append((kl, before.argmax(-1) == after.argmax(-1)))
    return moved


@pytest.mark.parametrize("chunk", [3, 128])
def test_the_divergence_is_that_of_the_whole_distributions(pair, plain, monkeypatch, chunk):
    monkeypatch.setattr(forgetting, "CHUNK", chunk)
    found = divergence(pair, TEXTS)
    expected = naive(pair.causal, plain)
    every = torch.cat([kl for kl, _ in expected])
    assert found.all.value == pytest.approx(float(every.mean()), rel=1e-4)
    assert found.all.value > 0.01
    assert (found.all.rows, found.all.tokens) == (3, 25)
    same = torch.cat([agreed for _, agreed in expected]).double().mean()
    assert found.same == pytest.approx(float(same))
    chinese = found.by_language["chinese"]
    assert chinese.value == pytest.approx(float(expected[1][0].mean()), rel=1e-4)
    assert math.isnan(chinese.error)
    assert found.as_json()["kl"] == found.all.value


def test_another_model_as_base_gives_the_same_as_an_adapter_switched_off(pair, plain):
    by_switch = divergence(pair, TEXTS)
    by_other = divergence(replace(pair, adapter=None, other=plain), TEXTS)
    assert by_switch.all.value == pytest.approx(by_other.all.value, rel=1e-6)


def test_bf16_gives_about_the_same(pair):
    exact = divergence(pair, TEXTS)
    half = replace(FP32, dtype=torch.bfloat16)
    pair.causal.to(torch.bfloat16)
    rounded = divergence(replace(pair, precision=half), TEXTS)
    assert rounded.all.value == pytest.approx(exact.all.value, rel=0.1)


def test_a_model_is_at_no_distance_from_itself(plain):
    found = divergence(Pair(causal=plain, precision=FP32, other=plain), TEXTS)
    assert found.all.value == pytest.approx(0, abs=1e-9)
    assert found.same == 1


def test_the_adapter_is_back_afterwards_whatever_happens(pair, plain):
    adapted, ids = pair.causal, TEXTS[0].ids
    before = likely(adapted, ids)
    with pair.base() as causal:
        assert torch.allclose(likely(causal, ids), likely(plain, ids))
    assert torch.equal(likely(adapted, ids), before)
    with pytest.raises(KeyError), pair.base():
        raise KeyError
    assert torch.equal(likely(adapted, ids), before)
    assert not torch.allclose(before, likely(plain, ids))


def test_the_mean_loss_is_over_the_labelled_tokens(plain):
    ids, mask = TEXTS[1].ids, [0, 0, 1, 0, 1, 1]
    scores = likely(plain, ids)
    expected = -sum(float(scores[at - 1, ids[at]]) for at in (2, 4, 5)) / 3
    assert mean_loss(plain, FP32, ids, mask) == pytest.approx(expected, rel=1e-5)


def test_general_texts_are_the_beginnings_of_the_samples():
    tokenizer = load()
    family = families.load("glm4", tokenizer)
    texts = general(forgetting.GENERAL, family, tokenizer)
    assert len(texts) == 3 * forgetting.TEXTS
    assert {text.language for text in texts} >= {"chinese", "english"}
    assert max(len(text.ids) for text in texts) == forgetting.TOKENS
    assert all(text.ids[:2] == list(family.prefix) for text in texts)


def test_general_texts_that_are_none_are_refused(tmp_path):
    (tmp_path / "g.jsonl").write_text("{}\n")
    tokenizer = load()
    with pytest.raises(InputError, match="no row holds a conversation"):
        general([str(tmp_path / "g.jsonl")], families.load("glm4", tokenizer), tokenizer)


@pytest.mark.parametrize(("kl", "found"), [(0.6, True), (0.4, False)])
def test_a_model_far_from_its_base_is_found(kl, found):
    mean = Mean(rows=3, tokens=30, value=kl, error=0.1)
    data = moved_far(Divergence(all=mean, by_language={}, same=0.7))
    assert (data is not None) is found
    assert not found or data["kl"] == kl
