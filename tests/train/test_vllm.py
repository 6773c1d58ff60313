"""The layout of vLLM: the same change of every weight, by the names of its layers apart."""

from __future__ import annotations

import json

import pytest
import torch
from glmprep.errors import UsageError
from glmtrain import adapters, trained, vllm
from glmtrain.config import build
from glmtrain.inference import Asked
from glmtrain.vllm import _layers, command, export
from safetensors.torch import load_file, save_file

LAYER = "base_model.model.model.layers.0"
RANK, WIDTH, INNER, EXPERTS = 4, 12, 20, 3


def pair(inside, outside, rank=RANK):
    random = torch.Generator().manual_seed(inside * outside)
    return torch.randn(rank, inside, generator=random), torch.randn(outside, rank, generator=random)


def named(**pairs):
    return {
        f"{LAYER}.{name.replace('__', '.')}.lora_{side}.weight": half
        for name, both in pairs.items()
        for side, half in zip("AB", both, strict=True)
    }


def change(layers, name):
    first, second = layers[f"{LAYER}.{name}"]
    return second @ first


def test_the_halves_of_a_fused_layer_change_its_weights_alike():
    fused = pair(WIDTH, 2 * INNER)
    layers = dict(_layers(named(mlp__gate_up_proj=fused, self_attn__q_proj=pair(8, 8)), RANK))
    whole = fused[1] @ fused[0]
    both = torch.cat([change(layers, f"mlp.{part}_proj") for part in ("gate", "up")])
    torch.testing.assert_close(both, whole)
    assert set(layers) == {
        f"{LAYER}.{name}" for name in ("mlp.gate_proj", "mlp.up_proj", "self_attn.q_proj")
    }


@pytest.mark.parametrize("outer_is_fused", [True, False])
def test_every_expert_gets_its_own_part(outer_is_fused):
    """Beside what peft computes for parameters of three dimensions."""
    from glmtrain.model import quiet_libraries

    with quiet_libraries():
        from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
        from transformers import Glm4MoeConfig, Glm4MoeForCausalLM

        torch.manual_seed(0)
        base = Glm4MoeForCausalLM(
            Glm4MoeConfig(
                vocab_size=64,
                hidden_size=16,
                intermediate_size=24,
                moe_intermediate_size=8,
                num_hidden_layers=2,
                num_attention_heads=2,
                num_key_value_heads=1,
                head_dim=8,
                n_routed_experts=EXPERTS,
                num_experts_per_tok=2,
                n_group=1,
                topk_group=1,
                first_k_dense_replace=1,
                pad_token_id=0,
            )
        )
        targets = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
        config = LoraConfig(
            r=RANK,
            lora_alpha=RANK,
            target_modules=[],
            target_parameters=targets if outer_is_fused else targets[::-1],
        )
        adapter = get_peft_model(base, config)
    for name, weight in adapter.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight)
    before = {name: weight.clone() for name, weight in base.named_parameters()}
    layers = dict(_layers(get_peft_model_state_dict(adapter), RANK))
    merged = dict(adapter.merge_and_unload().named_parameters())
    name = "model.layers.1.mlp.experts"
    apart = {
        part: merged[f"{name}.{part}"] - own
        for part in ("gate_up_proj", "down_proj")
        for key, own in before.items()
        if part in key and ".experts." in key
    }
    for expert in range(EXPERTS):
        own = {
            part: layers[f"base_model.model.{name}.{expert}.{part}"]
            for part in ("gate_proj", "up_proj", "down_proj")
        }
        products = {part: second @ first for part, (first, second) in own.items()}
        fused = torch.cat([products["gate_proj"], products["up_proj"]])
        close = {"atol": 1e-5, "rtol": 1e-4}
        torch.testing.assert_close(fused, apart["gate_up_proj"][expert], **close)
        torch.testing.assert_close(products["down_proj"], apart["down_proj"][expert], **close)


class Run:
    """What `trained.read` gives, of which little is looked at."""

    def __init__(self, folder, method="lora", family="glm4"):
        self.config = build([("test", {"model": {"path": "/models/glm", "method": method}})])
        self.family = family
        self.folder = folder
        self.prepared = type("P", (), {"cutting": type("C", (), {"max_length": 4096})})


@pytest.fixture
def run(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    folder.mkdir()
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "/models/glm",
        "r": RANK,
        "lora_alpha": 8,
        "use_rslora": True,
        "lora_dropout": 0.1,
        "target_modules": ["gate_up_proj", "q_proj"],
    }
    weights = named(mlp__gate_up_proj=pair(WIDTH, 2 * INNER), self_attn__q_proj=pair(8, 8))
    save_file(weights, folder / adapters.WEIGHTS)
    monkeypatch.setattr(trained, "read", Run)

    def run(**changes):
        text = json.dumps(settings | changes)
        (folder / adapters.CONFIGURATION).write_text(text)
        return folder

    return run


def test_an_exported_adapter_has_what_vllm_reads(run, tmp_path):
    made = export(run(), tmp_path / "v")
    told = json.loads((tmp_path / "v" / adapters.CONFIGURATION).read_text())
    assert told == {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "/models/glm",
        "r": RANK,
        "lora_alpha": 8,
        "use_rslora": True,
        "target_modules": ["gate_proj", "q_proj", "up_proj"],
        "bias": "none",
    }
    weights = load_file(tmp_path / "v" / adapters.WEIGHTS)
    assert len(weights) == made.weights == 6
    assert weights[f"{LAYER}.mlp.up_proj.lora_B.weight"].shape == (INNER, RANK)
    (line,) = made.command
    assert "--enable-lora --max-lora-rank 8" in line
    assert line.startswith("vllm serve /models/glm ")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"use_dora": True}, "DoRA magnitudes"),
        ({"trainable_token_indices": {"embed_tokens": [1]}}, "rows of new tokens"),
        ({"modules_to_save": ["lm_head"]}, "whole layers"),
        ({"r": 1024}, "takes 512 at most"),
    ],
)
def test_what_vllm_cannot_take_is_refused(run, tmp_path, changes, message):
    with pytest.raises(UsageError, match=message):
        export(run(**changes), tmp_path / "v")
    assert not (tmp_path / "v").exists()


def test_an_output_that_is_there_is_kept(run, tmp_path):
    (tmp_path / "v").mkdir()
    with pytest.raises(UsageError, match="is there already"):
        export(run(), tmp_path / "v", overwrite=True)
    export(run(), tmp_path / "w")
    assert export(run(), tmp_path / "w", overwrite=True).weights == 6


def asked(**options):
    return Asked(prepared={}, **options)


def test_the_command_merges_an_adapter_first(run):
    folder = run()
    place = {"host": "127.0.0.1", "port": 8000, "name": "mine"}
    merge, serve = command(asked(adapter=folder), keyed=True, **place)
    assert merge == f"glmtrain merge {folder} -o {folder}-merged"
    assert serve == (
        f"vllm serve {folder}-merged --served-model-name mine --host 127.0.0.1 --port 8000 "
        '--max-model-len 4096 --api-key "$GLMTRAIN_API_KEY"'
    )


def test_the_command_names_the_parsers_of_a_template(run, monkeypatch):
    monkeypatch.setattr(trained, "read", lambda folder: Run(folder, family="glm4.7"))
    place = {"host": "127.0.0.1", "port": 8000, "name": "mine"}
    line = command(asked(adapter=run()), keyed=False, **place)[1]
    assert "--tool-call-parser glm47 --reasoning-parser glm45" in line


def test_the_command_needs_what_vllm_reads_and_beyond_loopback_a_key(tmp_path, monkeypatch):
    place = {"port": 8000, "name": "mine", "keyed": False}
    with pytest.raises(UsageError, match="vLLM reads folders"):
        command(asked(model="tiny"), host="127.0.0.1", **place)
    with pytest.raises(UsageError, match=r"0\.0\.0\.0: others can reach it"):
        command(asked(model="/m"), host="0.0.0.0", **place)
    monkeypatch.setattr(trained, "read", lambda folder: Run(folder, method="ptuning"))
    with pytest.raises(UsageError, match="vLLM takes no prefix"):
        command(asked(adapter=tmp_path), host="127.0.0.1", **place)
    assert vllm.command(asked(model="/my models/m"), host="::1", **place)[0].startswith(
        "vllm serve '/my models/m'"
    )
