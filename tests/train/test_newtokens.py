from __future__ import annotations

import pytest
import torch
from glmprep.errors import InputError, UsageError
from glmprep.tokenizer import load
from glmtrain import adapters, methods, newtokens
from glmtrain.coverage import coverage
from glmtrain.model import quiet_libraries
from glmtrain.newtokens import NewToken
from glmtrain.settings import Config, Lora, Model

from tests.train import models

FITS = NewToken(text="<|a|>", id=310, pieces=(5, 6, 6))
BEYOND = NewToken(text="<|b|>", id=330, pieces=(7,))
TOKENS = (FITS, BEYOND)
IDS = torch.tensor([[1, 310, 4, 330, 9, 310]])


def prepared(tied=False, method="lora", tokens=TOKENS, targets=("q_proj",), dtype=torch.float32):
    config = Config(
        model=Model(method=method), lora=Lora(rank=4, alpha=8.0, target_modules=targets)
    )
    with quiet_libraries():
        return methods.prepare(models.make(tied=tied), config, dtype, new_tokens=tokens)


@pytest.mark.parametrize("tied", [True, False])
def test_rows_are_made_in_a_multiple_of_64_and_begin_as_the_mean_of_their_pieces(tied):
    before, base = models.make(tied=tied), models.make(tied=tied)
    newtokens.extend(base, TOKENS)
    assert base.config.vocab_size == 384
    for layer in ("model.embed_tokens", "lm_head"):
        old, new = before.get_submodule(layer).weight, base.get_submodule(layer).weight
        assert new.shape == (384, 32)
        torch.testing.assert_close(new[310], (old[5] + 2 * old[6]) / 3)
        torch.testing.assert_close(new[330], old[7])
        torch.testing.assert_close(new[340], old.mean(dim=0))
        kept = [row for row in range(320) if row != 310]
        assert torch.equal(new[kept], old[kept])
    assert (base.lm_head.weight is base.model.embed_tokens.weight) == tied


def test_a_vocabulary_with_room_is_not_resized():
    base = models.make()
    newtokens.extend(base, (FITS,))
    assert base.config.vocab_size == 320


def test_a_token_without_pieces_begins_as_the_mean_of_all():
    base = models.make()
    newtokens.extend(base, (NewToken(text="<|c|>", id=320, pieces=()),))
    weight = base.model.embed_tokens.weight
    torch.testing.assert_close(weight[320], weight[:320].mean(dim=0))


@pytest.mark.parametrize("piece", [310, 320])
def test_a_token_that_begins_from_an_untrained_one_is_refused(piece):
    described = NewToken(text="<|c|>", id=311, pieces=(piece,))
    with pytest.raises(UsageError, match=r"<\|c\|>: .* describe it in plain words"):
        newtokens.extend(models.make(), (FITS, described))


def test_added_tokens_begin_from_their_text_or_their_description():
    tokenizer = load()
    texts = ("<|user|>", "<|system|>")
    of_text, described = newtokens.of_texts(texts, tokenizer, {"<|system|>": "the rules"})
    assert (of_text.id, described.id) == (151336, 151335)
    assert tokenizer.decode(of_text.pieces) == "<|user|>"
    assert not any(map(tokenizer.is_added, of_text.pieces))
    assert tokenizer.decode(described.pieces) == "the rules"
    with pytest.raises(InputError, match=r"no token <\|new\|>"):
        newtokens.of_texts(("<|new|>",), tokenizer)


@pytest.mark.parametrize("tied", [True, False])
def test_the_rows_learn_and_only_they(tied):
    learner = prepared(tied)
    rows = [weight for name, weight in learner.learning().items() if "token_adapter" in name]
    assert [tuple(row.shape) for row in rows] == [(2, 32)] * (1 if tied else 2)
    assert {weight.dtype for weight in rows} == {torch.float32}
    with quiet_libraries():
        learner.causal(input_ids=IDS, labels=IDS).loss.backward()
    assert all(row.grad.any(dim=1).all() for row in rows)
    covered = {one.kind: one.adapted for one in coverage(learner)}
    assert covered["embeddings"] == 2 * 32


@pytest.mark.parametrize("tied", [True, False])
def test_an_adapter_with_new_tokens_gives_the_same_logits_on_a_fresh_base(tied, tmp_path):
    learner = prepared(tied)
    models.scatter(learner)
    methods.save(learner, tmp_path)
    expected = models.logits(learner.causal, IDS)
    with quiet_libraries():
        attached = models.make(tied=tied)
        adapters.attach(attached, tmp_path)
        from peft import PeftModel

        by_peft = models.make(tied=tied)
        newtokens.make_room(by_peft, 330)
        PeftModel.from_pretrained(by_peft, str(tmp_path))
    assert torch.equal(models.logits(attached, IDS), expected)
    assert torch.equal(models.logits(by_peft, IDS), expected)


@pytest.mark.parametrize("tied", [True, False])
def test_rows_learn_in_float32_on_a_half_precision_base(tied):
    base = models.make(tied=tied).to(torch.bfloat16)
    config = Config(lora=Lora(rank=4, alpha=8.0, target_modules=("q_proj",)))
    with quiet_libraries():
        learner = methods.prepare(base, config, torch.bfloat16, new_tokens=TOKENS)
    assert {weight.dtype for weight in learner.learning().values()} == {torch.float32}


def test_full_training_learns_new_rows_as_all_others():
    learner = prepared(method="full")
    assert learner.learning()["model.embed_tokens.weight"].shape == (384, 32)


def test_the_output_layer_cannot_be_adapted_beside_its_new_rows():
    with pytest.raises(UsageError, match="lm_head learns the new tokens' rows already"):
        prepared(targets=("lm_head", "q_proj"))
