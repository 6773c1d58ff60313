from __future__ import annotations

import json
import logging

import pytest
import torch
from glmprep.errors import InputError, UsageError
from glmtrain import model


def test_tiny_is_the_same_each_time_and_leaves_the_random_state_alone(monkeypatch):
    small = {**model.tiny_config(), "vocab_size": 320, "pad_token_id": 0, "hidden_size": 32}
    monkeypatch.setattr(model, "tiny_config", lambda: small)
    state = torch.get_rng_state()
    with model.quiet_libraries():
        one, other, third = model.tiny(), model.tiny(), model.tiny(seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.fingerprint(one) == model.fingerprint(other) != model.fingerprint(third)


def test_tiny_has_the_vocabulary_and_the_special_ids_of_glm4():
    config = model.tiny_config()
    assert config["vocab_size"] == 151552
    assert config["pad_token_id"] == 151329
    assert config["eos_token_id"] == [151329, 151336, 151338]


def test_a_model_folder_is_loaded_for_training(small_model):
    with model.quiet_libraries():
        loaded = model.load(str(small_model), torch.bfloat16)
    assert loaded.config.use_cache is False
    assert model.head_weight(loaded).dtype == torch.bfloat16


def test_one_changed_weight_changes_the_fingerprint(small_model):
    with model.quiet_libraries():
        loaded = model.load(str(small_model), torch.float32)
    before = model.fingerprint(loaded)
    with torch.no_grad():
        loaded.model.norm.weight[3] += 1
    assert model.fingerprint(loaded) != before


def remote_code(folder):
    auto = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
    (folder / "config.json").write_text(json.dumps({"model_type": "chatglm", "auto_map": auto}))
    (folder / "evil.py").write_text("raise SystemExit('was executed')")


def pickled(folder):
    config = {**model.tiny_config(), "vocab_size": 320, "pad_token_id": 0}
    (folder / "config.json").write_text(json.dumps(config))
    torch.save({}, folder / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda folder: None, "no config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "cannot be loaded as a model"),
        (remote_code, "take the '-hf' edition"),
        (pickled, "not in safetensors files"),
    ],
)
def test_a_folder_that_is_no_model_is_refused_in_one_line(tmp_path, prepare, message):
    prepare(tmp_path)
    with model.quiet_libraries(), pytest.raises(InputError, match=message) as caught:
        model.load(str(tmp_path), torch.float32)
    assert "\n" not in str(caught.value)


def test_a_file_is_not_a_model(tmp_path):
    (tmp_path / "model.bin").write_bytes(b"x")
    with pytest.raises(InputError, match="is a file"):
        model.load(str(tmp_path / "model.bin"), torch.float32)


def test_an_output_layer_with_a_bias_is_refused(small_model):
    with model.quiet_libraries():
        loaded = model.load(str(small_model), torch.float32)
    loaded.set_output_embeddings(torch.nn.Linear(32, 320, bias=True))
    with pytest.raises(UsageError, match="not a plain projection"):
        model.check_head(loaded)


def test_libraries_speak_again_afterwards():
    before = logging.getLogger("transformers").level
    with model.quiet_libraries():
        assert logging.getLogger("transformers").level == logging.ERROR
        assert logging.getLogger("huggingface_hub").level == logging.ERROR
    assert logging.getLogger("transformers").level == before
