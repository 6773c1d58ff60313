"""Shapes by name and from a config.json, against what is published of the models."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from glmprep import shapes
from glmprep.errors import InputError, UsageError
from glmprep.memory import Batch, Training, footprint
from glmprep.memory_inference import generation, resuming
from glmprep.shape import GLM4_9B, Experts

GIB = 1 << 30
CONFIG = {
    "model_type": "glm4_moe",
    "hidden_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "intermediate_size": 688,
    "vocab_size": 2048,
    "n_routed_experts": 8,
    "num_experts_per_tok": 3,
    "moe_intermediate_size": 96,
    "n_shared_experts": 1,
    "first_k_dense_replace": 1,
    "use_qk_norm": True,
}


@pytest.fixture
def folder(tmp_path):
    def write(**changes):
        config = {name: v for name, v in {**CONFIG, **changes}.items() if v is not None}
        (tmp_path / "config.json").write_text(json.dumps(config))
        return str(tmp_path)

    return write


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("GLM-4-9B-chat", 9.4),
        ("GLM-4-9B-0414", 9.4),
        ("GLM-4-32B-0414", 32.6),
        ("GLM-4.5-Air", 106.9),
        ("GLM-4.5", 352.8),
    ],
)
def test_known_models_have_as_many_parameters_as_is_published(name, billions):
    assert shapes.read(name).parameters / 1e9 == pytest.approx(billions, abs=0.1)


@pytest.mark.parametrize("name", ["zai-org/glm-4-9b-chat-hf", "GLM_4_9B_CHAT", "glm-4-9b-chat"])
def test_a_name_may_have_an_owner_and_any_case(name):
    assert shapes.read(name) is shapes.KNOWN["GLM-4-9B-chat"]


def test_a_config_tells_experts_norms_of_heads_and_rotation(folder):
    shape = shapes.read(folder())
    assert shape.experts == Experts(count=8, chosen=3, inner=96, shared=96, dense=1)
    assert (shape.head_norms, shape.rotary, shape.query, shape.kv) == (True, 32, 256, 64)


def test_glm4_has_four_norms_a_layer(folder):
    assert shapes.read(folder(model_type="glm4", n_routed_experts=None)).norms == 4


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model_type": "llama"}, "llama"),
        ({"model_type": None}, "None"),
        ({"model_type": "glm4_moe_lite"}, "compressed"),
        ({"hidden_size": None}, "hidden_size"),
        ({"vocab_size": 10**18}, "no size of a model"),
        ({"hidden_size": "4096"}, "hidden_size"),
        ({"moe_intermediate_size": None}, "moe_intermediate_size"),
    ],
)
def test_a_config_that_does_not_tell_is_refused_with_what_it_lacks(folder, changes, told):
    with pytest.raises(InputError, match=told):
        shapes.read(folder(**changes))


def test_a_name_that_is_none_is_refused_with_those_that_are_known():
    with pytest.raises(UsageError, match=r"GLM-4\.5-Air"):
        shapes.read("/no/such/folder")


def test_slices_of_eight_devices_take_an_eighth_of_the_state():
    batch = Batch(rows=1, length=2048, labelled=1024)
    alone = footprint(GLM4_9B, Training(method="full"), batch)
    sliced = [
        footprint(GLM4_9B, Training(method="full", stage=stage, gpus=8), batch)
        for stage in (1, 2, 3)
    ]
    assert [each.state for each in sliced] == [alone.state / 8] * 3
    assert [each.gradients / alone.gradients for each in sliced] == [1, 1 / 8, 1 / 8]
    assert alone.peak > sliced[0].peak > sliced[1].peak > sliced[2].peak


def test_offload_moves_the_slices_to_main_memory():
    batch = Batch(rows=1, length=2048, labelled=1024)
    training = Training(method="full", stage=2, gpus=8)
    there = footprint(GLM4_9B, training, batch)
    moved = footprint(GLM4_9B, replace(training, offload=True), batch)
    assert (there.host, moved.state) == (0, 0)
    assert moved.host == pytest.approx(12 * GLM4_9B.parameters / 8)
    assert moved.peak < there.peak


def test_keys_and_values_of_an_answer_grow_with_its_length():
    short, long = (generation(GLM4_9B, Training(), 1, 1000, new) for new in (9000, 19_000))
    assert short.cache == 10_000 * 2 * 256 * 40 * 2  # at the last token
    assert long.cache == 2 * short.cache


def test_resuming_lays_out_gradients_and_has_the_file_in_main_memory():
    found = resuming(GLM4_9B, Training(method="full"))
    assert found.peak == 16 * GLM4_9B.parameters
    assert found.host == 8 * GLM4_9B.parameters
