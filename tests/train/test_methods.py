from __future__ import annotations

import pytest
import torch
from glmprep.errors import InputError, UsageError
from glmtrain import methods, model
from glmtrain.settings import Config, Lora, Model

EVERY_LINEAR = ("down_proj", "gate_up_proj", "k_proj", "o_proj", "q_proj", "v_proj")


@pytest.fixture
def base(small_model):
    with model.quiet_libraries():
        return model.load(str(small_model), torch.float32)


def lora(**settings):
    return Config(lora=Lora(alpha=32.0, target_modules=EVERY_LINEAR, **settings))


def test_all_linear_means_every_linear_layer_but_the_output(base):
    assert methods.lora_targets(base, Lora()) == EVERY_LINEAR


def test_named_layers_are_kept(base):
    assert methods.lora_targets(base, Lora(target_modules=("q_proj",))) == ("q_proj",)


@pytest.mark.parametrize("name", ["lm_head", "query_key_value"])
def test_a_layer_that_cannot_be_adapted_is_refused_naming_those_that_can(base, name):
    with pytest.raises(UsageError, match=f"'{name}' to adapt; there are down_proj, gate_up_proj"):
        methods.lora_targets(base, Lora(target_modules=(name,)))


def test_lora_trains_adapters_only(base):
    with model.quiet_libraries():
        trainable = methods.prepare(base, lora(rank=4), torch.float32).learning()
    assert all("lora_" in name for name in trainable)
    assert len(trainable) == 2 * 2 * len(EVERY_LINEAR)  # A and B, two layers


def test_first_adapter_weights_follow_from_the_seed(small_model):
    def first():
        with model.quiet_libraries():
            made = methods.prepare(
                model.load(str(small_model), torch.float32), lora(), torch.float32
            )
        return torch.cat([weight.flatten() for weight in made.learning().values()])

    assert torch.equal(first(), first())


def test_adapters_stay_in_float32_on_a_half_precision_model(small_model):
    with model.quiet_libraries():
        made = methods.prepare(model.load(str(small_model), torch.bfloat16), lora(), torch.float32)
    assert {weight.dtype for weight in made.learning().values()} == {torch.float32}


def test_full_trains_everything(base):
    made = methods.prepare(base, Config(model=Model(method="full")), torch.float32)
    assert len(made.learning()) == len(dict(base.named_parameters()))


@pytest.mark.parametrize("method", ["lora", "full"])
def test_saved_weights_come_back(small_model, tmp_path, method):
    config = Config(model=Model(method=method), lora=lora().lora)

    def load():
        with model.quiet_libraries():
            return methods.prepare(
                model.load(str(small_model), torch.float32), config, torch.float32
            )

    saved, restored = load(), load()
    with torch.no_grad():
        for weight in saved.learning().values():
            weight.add_(1.0)
    saved.save(tmp_path)
    methods.restore(restored, tmp_path)
    for name, weight in saved.learning().items():
        assert torch.equal(weight, restored.learning()[name])


def test_weights_of_another_shape_are_refused(small_model, tmp_path):
    def load(rank):
        with model.quiet_libraries():
            return methods.prepare(
                model.load(str(small_model), torch.float32), lora(rank=rank), torch.float32
            )

    methods.save(load(4), tmp_path)
    with pytest.raises(InputError, match="do not fit the model"):
        methods.restore(load(8), tmp_path)
    with pytest.raises(InputError, match="do not fit the model"):
        methods.restore(load(8), tmp_path / "nowhere")
