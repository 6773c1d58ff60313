"""Tokens that were added to the data's vocabulary: from bucketing to a model that says them."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache

import pytest
import torch
from glmprep import shards
from glmprep.errors import UsageError
from glmprep.tokenizer import load
from glmtrain import adapters, inference, merging, model, newtokens, trained, vocabulary
from glmtrain.cli import glmtrain
from glmtrain.commands.merge import merge
from glmtrain.inference import Asked
from safetensors.torch import load_file

from tests.train import models

tiny_config = model.tiny_config
SQL, DONE = "<sql>", "[完成]"
FIRST = 151_343
IDS = torch.tensor([[5, FIRST, 7, FIRST + 1]])


@pytest.fixture(scope="module", autouse=True)
def narrow():
    """A tiny model that is narrower still, and has no row more than the vocabulary."""
    widths = {"hidden_size": 16, "intermediate_size": 32, "head_dim": 8, "num_attention_heads": 2}
    config = {**tiny_config(), **widths, "num_key_value_heads": 1, "vocab_size": FIRST}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(model, "tiny_config", lambda: config)
        patched.setattr("glmprep.tokenizer.load", cache(load))
        yield


def called(command, *arguments):
    with pytest.raises(SystemExit) as end:
        command.main([*map(str, arguments)], standalone_mode=False)
    return end.value.code


def bucketed(place, *new):
    from glmprep.cli import glmprep

    said = [
        {"role": "user", "content": "How many?"},
        {"role": "assistant", "content": f"{SQL}select count(*){SQL} {DONE}"},
    ]
    place.mkdir(exist_ok=True)
    (place / "data.jsonl").write_text("\n".join([json.dumps({"messages": said})] * 8) + "\n")
    options = [place / "data.jsonl", "-o", place / "shards", "--max-length", 64, "--quiet"]
    assert called(glmprep, "bucket", *options, *(f"--add-token={text}" for text in new)) == 0
    return place / "shards"


def trained_run(data, output, *more):
    options = ["--model", "tiny", "--shards", data, "--max-steps", 3, "--lr", 0.05, "--quiet"]
    small = ["--dtype", "fp32", "--set", "run.sample_tokens=16", "-o", output]
    called(glmtrain, "run", *options, *small, *more)
    return output


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return bucketed(tmp_path_factory.mktemp("prepared"), f"{SQL}=a query of the database", DONE)


@pytest.fixture(scope="module")
def run(data):
    return trained_run(data, data.parent / "run")


def test_the_rows_of_new_tokens_learn_and_no_others(data, run):
    weights = load_file(run / "adapter_model.safetensors")
    rows = {name: weight for name, weight in weights.items() if "token_adapter" in name}
    assert {tuple(weight.shape) for weight in rows.values()} == {(2, 16)}
    manifest = shards.read_manifest(data)
    with model.quiet_libraries():
        begun = model.load("tiny", torch.float32)
        known = begun.model.embed_tokens.weight.detach().clone()
        newtokens.extend(begun, newtokens.of_data([manifest], "tiny"))
    described = load().encode("a query of the database")
    first = begun.model.embed_tokens.weight[[FIRST, FIRST + 1]]
    torch.testing.assert_close(first[0], known[described].mean(dim=0))
    torch.testing.assert_close(first[1], known[load().encode(DONE)].mean(dim=0))
    learned = next(weight for name, weight in rows.items() if "embed_tokens" in name)
    assert (learned - first).abs().amax(dim=1).gt(1e-4).all()
    with model.quiet_libraries():
        causal = trained.load("tiny", trained.read(run), "fp32").causal
    embedded = causal.get_input_embeddings()(torch.arange(FIRST + 2))
    torch.testing.assert_close(embedded[:FIRST], known)
    torch.testing.assert_close(embedded[FIRST:], learned)


def test_the_adapter_gives_the_same_logits_when_it_is_loaded_again(run):
    found = trained.read(run)
    assert found.added_tokens == {SQL: FIRST, DONE: FIRST + 1}
    with model.quiet_libraries():
        first = trained.load("tiny", found, "fp32").causal
        second = model.load("tiny", torch.float32)
        adapters.attach(second, run)
    assert torch.equal(models.logits(first, IDS), models.logits(second, IDS))


def test_answering_knows_the_tokens(run):
    made = inference.prepare(Asked(adapter=run, dtype="fp32", prepared={}))
    tokenizer = made.prompter.tokenizer
    assert tokenizer.encode(f"x{SQL}")[-1] == FIRST
    assert made.speaker.vocabulary == FIRST + 2


def test_a_merged_model_and_its_tokenizer_know_the_tokens(data, run, tmp_path):
    folder = tmp_path / "merged"
    assert called(merge, run, "-o", folder, "--quiet") == 0
    assert vocabulary.trained_with(str(folder)) == {SQL: FIRST, DONE: FIRST + 1}
    with model.quiet_libraries():
        from transformers import AutoTokenizer

        by_transformers = AutoTokenizer.from_pretrained(folder)
    assert by_transformers.encode(f"x{SQL}", add_special_tokens=False)[-1] == FIRST
    made = inference.prepare(Asked(model=str(folder), dtype="fp32", prepared={}))
    assert made.prompter.tokenizer.encode(f"x{SQL}")[-1] == FIRST
    assert (folder / merging.RECORD).is_file()
    tokens = newtokens.of_data([shards.read_manifest(data)], str(folder))
    before = models.logits(made.speaker.causal, IDS)
    newtokens.extend(made.speaker.causal, tokens)
    assert torch.equal(models.logits(made.speaker.causal, IDS), before)


def test_a_whole_model_goes_on_with_what_its_rows_learned(data, tmp_path):
    run = trained_run(data, tmp_path / "full", "--method", "full")
    causal = trained.load(str(run), trained.read(run), "fp32").causal
    assert causal.config.vocab_size == 151_360
    before = causal.model.embed_tokens.weight.detach().clone()
    newtokens.extend(causal, newtokens.of_data([shards.read_manifest(data)], str(run)))
    assert torch.equal(causal.model.embed_tokens.weight, before)


def test_folders_with_other_added_tokens_are_not_mixed(data, tmp_path):
    other = bucketed(tmp_path / "other", DONE)
    with pytest.raises(UsageError, match="make both with the same --tokenizer, --add-token"):
        trained_run(data, tmp_path / "run", "--shards", other)


def test_a_prefix_cannot_learn_new_tokens(data, tmp_path):
    with pytest.raises(UsageError, match="<sql>, which ptuning cannot train"):
        trained_run(data, tmp_path / "run", "--method", "ptuning")


def test_new_tokens_of_a_tokenizer_that_is_not_at_hand_are_refused(data):
    other = {"name": "glm4", "sha256": "0" * 64}
    manifest = replace(shards.read_manifest(data), tokenizer=other)
    with pytest.raises(UsageError, match="'glm4', which is not in the model's folder"):
        newtokens.of_data([manifest], "tiny")


def test_the_first_description_counts(data):
    manifest = shards.read_manifest(data)
    described = {SQL: "other words", DONE: "the end"}
    other = replace(manifest, added_descriptions=described)
    sql, done = newtokens.of_data([manifest, other], "tiny")
    assert load().decode(sql.pieces) == "a query of the database"
    assert load().decode(done.pieces) == "the end"
