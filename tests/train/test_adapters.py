from __future__ import annotations

import json

import pytest
import torch
from glmprep.errors import InputError, UsageError
from glmtrain import adapters, lora, methods, model
from glmtrain.settings import Config, Lora, Model
from safetensors.torch import load_file, save_file

from tests.train import models

LORA = Lora(rank=4, alpha=8.0, target_modules=("q_proj", "v_proj"))


def prepared(adapter=None, kind="Glm", base=None, method="lora", **settings):
    base = models.make(kind) if base is None else base
    asked = Lora(**{"rank": 4, "alpha": 8.0, "target_modules": LORA.target_modules} | settings)
    where = Model(method=method, adapter=None if adapter is None else str(adapter))
    with model.quiet_libraries():
        return methods.prepare(base, Config(model=where, lora=asked), torch.float32)


@pytest.fixture
def trained(tmp_path):
    """A learner that learned something, and the folder where its adapter lies."""
    return written(prepared(), tmp_path / "earlier"), tmp_path / "earlier"


def written(learner, folder):
    folder.mkdir()
    models.scatter(learner)
    methods.save(learner, folder)
    record = {"base": {"fingerprint": model.fingerprint(models.make())}}
    (folder / "run.json").write_text(json.dumps(record))
    return learner


def change(folder, **settings):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def rewrite(folder, change):
    path = folder / "adapter_model.safetensors"
    save_file({name: change(name, w) for name, w in load_file(path).items()}, path)


def test_training_goes_on_from_an_adapter(trained):
    earlier, folder = trained
    learner = prepared(folder)
    assert torch.equal(models.logits(learner.causal), models.logits(earlier.causal))
    for name, weight in learner.learning().items():
        assert torch.equal(weight, earlier.learning()[name])
        assert weight.requires_grad


def test_what_an_adapter_was_trained_with_is_read_from_it(trained):
    _, folder = trained
    found = adapters.read(folder)
    assert found.lora == Lora(rank=4, alpha=8.0, dropout=0.0, target_modules=LORA.target_modules)
    assert found.base == model.fingerprint(models.make())


def test_an_adapter_on_fused_experts_comes_back(tmp_path):
    targets = lora.targets(models.make("Glm4Moe"), Lora(train_router=True))
    earlier = prepared(kind="Glm4Moe", target_modules=targets)
    written(earlier, tmp_path / "earlier")
    (tmp_path / "earlier" / "run.json").unlink()
    expected = models.logits(earlier.causal)
    learner = prepared(tmp_path / "earlier", kind="Glm4Moe", target_modules=targets)
    assert torch.equal(models.logits(learner.causal), expected)
    answering = models.make("Glm4Moe")
    with model.quiet_libraries():
        adapters.attach(answering, tmp_path / "earlier")
    assert torch.equal(models.logits(answering), expected)


def test_a_layer_without_weights_in_the_file_is_not_left_as_it_was_made(trained):
    _, folder = trained
    weights = load_file(folder / "adapter_model.safetensors")
    save_file(dict(list(weights.items())[1:]), folder / "adapter_model.safetensors")
    with pytest.raises(InputError, match="other layers: 1 missing"), model.quiet_libraries():
        adapters.attach(models.make(), folder)


@pytest.mark.parametrize("rows", [["x"], {"embed_tokens": [None]}, 3])
def test_rows_that_are_no_numbers_are_refused(trained, rows):
    _, folder = trained
    change(folder, trainable_token_indices=rows)
    with pytest.raises(InputError, match="does not fit the model"), model.quiet_libraries():
        adapters.attach(models.make(), folder)


def test_an_adapter_for_another_base_is_refused(trained):
    _, folder = trained
    other = models.make()
    with torch.no_grad():
        other.model.norm.weight.add_(1)
    with pytest.raises(UsageError, match="adapts another base model"):
        prepared(folder, base=other)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("rank", 8),
        ("alpha", 4.0),
        ("rslora", True),
        ("dora", True),
        ("target_modules", ("k_proj", "q_proj")),
    ],
)
def test_an_adapter_of_another_shape_than_asked_is_refused(trained, setting, value):
    _, folder = trained
    with pytest.raises(UsageError, match=rf"^lora.{setting} = .* leave the setting out"):
        prepared(folder, **{setting: value})


def test_another_shape_of_the_same_name_is_refused(trained, tmp_path):
    _, folder = trained
    (folder / "run.json").unlink()
    rewrite(folder, lambda name, weight: weight.repeat(1, 2) if "lora_A" in name else weight)
    with pytest.raises(InputError, match=r"is \[4, 64\] for \[4, 32\]"):
        prepared(folder)


def test_an_adapter_that_is_not_of_numbers_is_refused(trained):
    _, folder = trained
    rewrite(folder, lambda name, weight: weight * torch.nan if "1.self_attn.v" in name else weight)
    with pytest.raises(InputError, match=r"v_proj.*holds NaN or infinity"):
        prepared(folder)


def test_a_prefix_is_not_gone_on_from_by_lora(trained):
    _, folder = trained
    change(folder, peft_type="PREFIX_TUNING")
    with pytest.raises(UsageError, match=r"PREFIX_TUNING, not LORA.*model.method=ptuning"):
        prepared(folder)


def test_full_training_does_not_go_on_from_an_adapter(trained):
    _, folder = trained
    with pytest.raises(UsageError, match="goes on with lora or qlora, not full; merge it"):
        prepared(folder, method="full")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "adapter_config.json").unlink(), "so no adapter"),
        (lambda folder: (folder / "adapter_model.safetensors").unlink(), "so no adapter"),
        (lambda folder: (folder / "adapter_config.json").write_text("{"), "not JSON"),
        (lambda folder: (folder / "adapter_config.json").write_text("[]"), "not a JSON object"),
        (lambda folder: change(folder, r=None), "malformed"),
        (lambda folder: change(folder, target_modules=".*q_proj"), "a pattern of layers"),
        (lambda folder: change(folder, modules_to_save=["lm_head"]), "whole modules"),
        (lambda folder: (folder / "run.json").write_text("{}"), "malformed"),
        (lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"x" * 99), "not fit"),
    ],
)
def test_a_folder_that_is_no_adapter_is_refused_in_one_line(trained, spoil, message):
    _, folder = trained
    spoil(folder)
    with pytest.raises(InputError, match=message) as caught:
        prepared(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)
