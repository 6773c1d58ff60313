from __future__ import annotations

import json
import logging
import shutil
import sys

import pytest
import torch
from glmprep.errors import InputError, UsageError
from glmtrain import model
from safetensors.torch import load_file, save_file


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


def test_a_base_is_the_same_one_in_bfloat16_and_in_float32(small_model):
    with model.quiet_libraries():
        half = model.load(str(small_model), torch.bfloat16)
        whole = model.load(str(small_model), torch.float32)
    assert model.fingerprint(half) == model.fingerprint(whole)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_attention_is_what_was_asked_for(small_model, attention, monkeypatch):
    small = {**model.tiny_config(), "vocab_size": 320, "pad_token_id": 0, "hidden_size": 32}
    monkeypatch.setattr(model, "tiny_config", lambda: small)
    with model.quiet_libraries():
        for path in (str(small_model), model.TINY):
            loaded = model.load(path, torch.float32, attention=attention)
            assert loaded.config._attn_implementation == attention


def remote_code(folder):
    auto = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
    (folder / "config.json").write_text(json.dumps({"model_type": "chatglm", "auto_map": auto}))
    (folder / "evil.py").write_text("raise SystemExit('was executed')")


def own_code(folder, base):
    """A model folder whose class is in the folder."""
    shutil.copytree(base, folder, dirs_exist_ok=True)
    config = json.loads((folder / "config.json").read_text())
    auto = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}
    own = {"model_type": "own", "architectures": ["OwnModel"], "auto_map": auto}
    (folder / "config.json").write_text(json.dumps(config | own))
    (folder / "own.py").write_text(OWN)


OWN = """
from transformers import GlmConfig, GlmForCausalLM

class OwnConfig(GlmConfig):
    model_type = "own"

class OwnModel(GlmForCausalLM):
    config_class = OwnConfig
"""


def test_a_folder_s_own_code_is_run_only_where_it_is_trusted(small_model, tmp_path, monkeypatch):
    folder = tmp_path / "owncode"
    own_code(folder, small_model)
    with model.quiet_libraries():
        with pytest.raises(InputError, match=r"Python code .* model\.trust_remote_code=true"):
            model.load(str(folder), torch.float32)
        from transformers import dynamic_module_utils

        monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
        monkeypatch.setattr(sys, "path", [*sys.path])
        loaded = model.load(str(folder), torch.float32, trust_remote_code=True)
        plain = model.load(str(small_model), torch.float32)
    assert type(loaded).__name__ == "OwnModel"
    assert model.fingerprint(loaded) == model.fingerprint(plain)


def spoiled(folder, base, change):
    """A copy of a model folder with other weights."""
    shutil.copytree(base, folder, dirs_exist_ok=True)
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path, metadata={"format": "pt"})


def without_a_weight(weights):
    return {name: weight for name, weight in weights.items() if "1.mlp.down_proj" not in name}


def with_one_value(value):
    def change(weights):
        weights["model.layers.1.mlp.down_proj.weight"][3, 5] = value
        return weights

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_a_weight, r"lack 1 weights, as model\.layers\.1\.mlp\.down_proj\.weight"),
        (with_one_value(torch.nan), "down_proj.weight holds NaN or infinity"),
        (with_one_value(-torch.inf), "down_proj.weight holds NaN or infinity"),
    ],
)
def test_weights_that_cannot_be_trained_on_are_refused(small_model, tmp_path, change, message):
    spoiled(tmp_path, small_model, change)
    with model.quiet_libraries(), pytest.raises(InputError, match=message) as caught:
        model.load(str(tmp_path), torch.float32)
    assert "\n" not in str(caught.value)
    assert "again" in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("intermediate_size", 128, r"other shapes than its config\.json says"),
        ("num_hidden_layers", 3, r"lack \d+ weights, as model\.layers\.2"),
        ("hidden_size", "wide", "field 'hidden_size'"),
        ("model_type", "other", "does not recognize"),
    ],
)
def test_a_configuration_of_another_model_is_refused(
    small_model, tmp_path, setting, value, message
):
    shutil.copytree(small_model, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {setting: value}))
    with model.quiet_libraries(), pytest.raises(InputError, match=message) as caught:
        model.load(str(tmp_path), torch.float32)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kept", [5, 400, -100])
def test_a_damaged_file_of_weights_is_refused(small_model, tmp_path, kept):
    shutil.copytree(small_model, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with model.quiet_libraries(), pytest.raises(InputError, match="is damaged") as caught:
        model.load(str(tmp_path), torch.float32)
    assert "\n" not in str(caught.value)


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
