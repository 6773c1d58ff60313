from __future__ import annotations

import math

import pytest
import torch
from glmtrain import methods
from glmtrain.model import quiet_libraries
from glmtrain.newtokens import NewToken
from glmtrain.settings import Config, Lora, Model

from tests.train import models

ALPHA = 5.0
LORA = Lora(rank=4, alpha=8.0, target_modules=("q_proj",))


def prepared(method="lora", alpha=ALPHA, **given):
    config = Config(model=Model(method=method, neftune_alpha=alpha), lora=LORA)
    with quiet_libraries():
        return methods.prepare(models.make(), config, torch.float32, **given).causal


def embedded(model, seed=0):
    torch.manual_seed(seed)
    with torch.no_grad():
        return model.get_input_embeddings()(models.text())


def test_noise_is_uniform_up_to_alpha_over_the_root_of_length_and_width():
    model = prepared()
    noise = (embedded(model.train()) - embedded(model.eval())).abs()
    limit = ALPHA / math.sqrt(24 * 32)
    assert 0.99 * limit < noise.max() <= limit * (1 + 1e-5)
    assert noise.mean() == pytest.approx(limit / 2, rel=0.05)


def test_noise_follows_from_the_seed():
    model = prepared().train()
    assert torch.equal(embedded(model), embedded(model))
    assert not torch.equal(embedded(model), embedded(model, seed=1))


def test_evaluation_has_no_noise():
    assert torch.equal(models.logits(prepared()), models.logits(prepared(alpha=0.0)))


def test_there_is_none_unless_asked_for():
    model = prepared(alpha=0.0)
    assert torch.equal(embedded(model.train()), embedded(model.eval()))


@pytest.mark.parametrize("method", ["full", "lora"])
def test_there_is_noise_with_every_method_and_beside_new_tokens(method):
    model = prepared(method, new_tokens=(NewToken(text="<|a|>", id=310, pieces=(5,)),))
    assert not torch.equal(embedded(model.train()), embedded(model.eval()))
