"""`glmtrain merge` and what its folder is good for: another command, and transformers alone."""

from __future__ import annotations

import json
from functools import cache

import pytest
import torch
from glmprep.errors import InputError, UsageError
from glmprep.tokenizer import load
from glmtrain import merging, model
from glmtrain.cli import glmtrain
from glmtrain.commands.merge import merge
from glmtrain.inference import Asked, prepare

tiny_config = model.tiny_config
STOPS = ["<|assistant|>", "<|endoftext|>", "<|observation|>", "<|user|>"]


@pytest.fixture(scope="module", autouse=True)
def narrow():
    """A tiny model that is narrower still; it has the same vocabulary."""
    widths = {"hidden_size": 16, "intermediate_size": 32, "head_dim": 8, "num_attention_heads": 2}
    config = {**tiny_config(), **widths, "num_key_value_heads": 1}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(model, "tiny_config", lambda: config)
        patched.setattr("glmprep.tokenizer.load", cache(load))
        yield


def called(command, *arguments):
    with pytest.raises(SystemExit) as end:
        command.main([*map(str, arguments)], standalone_mode=False)
    return end.value.code


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two steps on the tiny model, with the GLM-4 tokenizer and template."""
    from glmprep.cli import glmprep

    place = tmp_path_factory.mktemp("prepared")
    said = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello there."}]
    row = json.dumps({"messages": said})
    (place / "data.jsonl").write_text("\n".join([row] * 8) + "\n")
    data = [place / "data.jsonl", "-o", place / "shards", "--max-length", 64, "--quiet"]
    assert called(glmprep, "bucket", *data) == 0
    options = ["--model", "tiny", "--shards", place / "shards", "--max-steps", 2, "--lr", 0.05]
    more = ["--dtype", "fp32", "--set", "run.sample_tokens=16", "-o", place / "run", "--quiet"]
    called(glmtrain, "run", *options, *more)
    return place / "run"


@pytest.fixture(scope="module")
def merged(run):
    folder = run.parent / "merged"
    result = run.parent / "r.json"
    assert called(merge, run, "-o", folder, "--json", result, "--quiet") == 0
    return folder


def test_the_result_states_the_proof(merged):
    result = json.loads((merged.parent / "r.json").read_text())
    assert result["written"] is True
    proof = result["parity"]
    assert proof["mean"] <= proof["tolerance"] < proof["effect"]
    assert proof["agreement"] == 1


def test_transformers_alone_asks_and_ends_as_in_training(merged):
    from transformers import AutoTokenizer, GenerationConfig

    with model.quiet_libraries():
        tokenizer = AutoTokenizer.from_pretrained(merged)
        generation = GenerationConfig.from_pretrained(merged)
    made = prepare(Asked(model=str(merged), dtype="fp32", prepared={"max_length": 64}))
    said = [{"role": "user", "content": "Hi 你好"}]
    ids = tokenizer.apply_chat_template(said, add_generation_prompt=True, return_dict=False)
    from glmprep.records import Message

    assert ids == made.prompter([Message(role="user", content="Hi 你好")])
    assert generation.eos_token_id == sorted(map(made.prompter.tokenizer.added_id, STOPS))
    assert made.prompter.family.name == "glm4"


def test_the_folder_answers_as_the_adapter_does(merged, run):
    asked = [1, 5, 77, 1234]
    scores = []
    for options in ({"adapter": run}, {"model": str(merged)}, {"model": "tiny"}):
        made = prepare(Asked(**options, dtype="fp32", prepared={"max_length": 64}))
        with torch.inference_mode():
            causal = made.speaker.causal
            states = causal.get_decoder()(torch.tensor([asked]), use_cache=False)
            scores.append(causal.get_output_embeddings()(states.last_hidden_state))
    adapted, whole, base = scores
    torch.testing.assert_close(whole, adapted, atol=1e-4, rtol=1e-4)
    assert (adapted - base).abs().max() > 1e-2


def test_a_proof_that_fails_is_told_with_status_1(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(merging.parity.TOLERANCE, "bf16", 1e-9)
    assert called(merge, run, "-o", tmp_path / "m", "--dtype", "bf16") == 1
    assert "NOT merged" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_the_built_in_model_is_not_for_vllm(run, tmp_path):
    with pytest.raises(UsageError, match="adapts the model 'tiny', which vLLM cannot read"):
        merge.main([str(run), "-o", str(tmp_path / "v"), "--vllm"], standalone_mode=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        (["nowhere"], InputError, "holds no run"),
        (["RUN", "--tokenizer", "nowhere"], InputError, "no tokenizer there"),
        (["RUN", "--model", "nowhere"], InputError, "no such folder"),
    ],
)
def test_wrong_calls_are_refused_in_one_line(run, tmp_path, options, kind, message):
    arguments = [run if option == "RUN" else option for option in options]
    with pytest.raises(kind, match=message) as caught:
        merge.main([*map(str, arguments), "-o", str(tmp_path / "m")], standalone_mode=False)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_weights_says_how_to_go_on(run, tmp_path):
    import shutil

    copy = tmp_path / "run"
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns("checkpoints", "adapter_model*"))
    with pytest.raises(InputError, match="--resume"):
        merge.main([str(copy), "-o", str(tmp_path / "m")], standalone_mode=False)
