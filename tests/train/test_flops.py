"""The count of operations against torch's own, which follows each product as it is made."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from glmtrain import flops, prefix, settings
from glmtrain.flops import Costs
from glmtrain.model import quiet_libraries
from torch.utils.flop_counter import FlopCounterMode

VOCABULARY, WIDTH, LAYERS, ROWS, LENGTH = 96, 64, 6, 2, 48
COMMON = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "intermediate_size": 160,
    "pad_token_id": 0,
    "max_position_embeddings": 128,
    # The fused kernels of a CPU are not among what torch counts.
    "attn_implementation": "eager",
    "experts_implementation": "eager",
}
EXPERTS = {
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "n_shared_experts": 1,
    "moe_intermediate_size": 48,
    "first_k_dense_replace": 1,
    "n_group": 1,
    "topk_group": 1,
}


def build(kind: str) -> Any:
    with quiet_libraries():
        import transformers

        config = getattr(transformers, f"{kind}Config")
        more = EXPERTS if kind == "Glm4Moe" else {}
        torch.manual_seed(0)
        model = getattr(transformers, f"{kind}ForCausalLM")(config(**COMMON, **more))
    model.config.use_cache = False
    return model.train()


def prepare(model: Any, method: str) -> None:
    if method == "lora":
        from peft import LoraConfig, get_peft_model

        with quiet_libraries():
            targets = ["q_proj", "k_proj", "v_proj", "o_proj"]
            get_peft_model(model, LoraConfig(r=8, target_modules=targets))
    elif method == "ptuning":
        prefix.install(model, settings.Prefix(tokens=8), seed=0)


class Learner:
    """What is counted of a learner: its model."""

    def __init__(self, causal: Any) -> None:
        self.causal = causal


def measured(model: Any) -> int:
    ids = torch.randint(1, VOCABULARY, (ROWS, LENGTH))
    with FlopCounterMode(display=False) as counter:
        model(input_ids=ids).logits.sum().backward()
    return int(counter.get_total_flops())


def predicted(costs: Costs) -> flops.Flops:
    """torch counts the whole square of attention and, here, all logits."""
    tokens = ROWS * LENGTH
    return costs.step(tokens=tokens, labelled=tokens, squares=2 * ROWS * LENGTH**2)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("method", ["full", "lora", "ptuning"])
@pytest.mark.parametrize("kind", ["Glm", "Glm4", "Glm4Moe"])
def test_the_count_is_that_of_torch(kind, method, checkpointing):
    model = build(kind)
    if checkpointing:
        with quiet_libraries():
            model.gradient_checkpointing_enable({"use_reentrant": False})
    prepare(model, method)
    found = predicted(flops.of(Learner(model)))
    assert (found.recomputed > 0) is checkpointing
    # Done again, a block ends before its last product where nothing needs that: 6 % of Glm here.
    assert found.hardware == pytest.approx(measured(model), rel=0.07 if checkpointing else 0.02)


def test_full_training_costs_six_operations_a_weight_and_adapters_about_four():
    model = build("Glm")
    blocks = sum(w.numel() for w in model.model.layers.parameters() if w.ndim == 2)
    ignored = {"labelled": 0, "squares": 0}
    full = flops.of(Learner(model)).step(tokens=1, **ignored)
    assert full.model == 6 * blocks
    prepare(model, "lora")
    lora = flops.of(Learner(model)).step(tokens=1, **ignored)
    assert 4 * blocks < lora.model < 5 * blocks


def test_a_token_pays_for_the_experts_that_it_goes_through_alone():
    model = build("Glm4Moe")
    experts = [m for n, m in model.named_modules() if n.endswith("mlp.experts")]
    fused = sum(w.numel() for m in experts for w in m.parameters())
    rest = sum(w.numel() for w in model.model.layers.parameters() if w.ndim == 2)
    assert flops.of(Learner(model)).layers == rest + fused * 2 / 8


def test_adapters_of_experts_count_as_those_of_the_experts_in_use():
    from peft import LoraConfig, get_peft_model

    model = build("Glm4Moe")
    before = flops.of(Learner(model)).layers
    with quiet_libraries():
        get_peft_model(model, LoraConfig(r=4, target_parameters=["mlp.experts.down_proj"]))
    found = flops.of(Learner(model))
    of_experts = (LAYERS - 1) * 2 * 4 * (48 + WIDTH)  # layers x experts in use x rank x (in + out)
    assert found.layers - before == pytest.approx(of_experts)
    assert found.layers_learning == pytest.approx(of_experts)


def test_packed_segments_pay_for_their_own_pairs_alone():
    costs = flops.of(Learner(build("Glm")))
    one = costs.step(tokens=100, labelled=0, squares=100**2)
    two = costs.step(tokens=100, labelled=0, squares=2 * 50**2)
    assert one.model - two.model == pytest.approx(12 * 64 * LAYERS * 5000 / 2)


@pytest.mark.parametrize(
    ("name", "dtype", "tera"),
    [
        ("NVIDIA H100 80GB HBM3", torch.bfloat16, 989),
        ("NVIDIA H100 PCIe", torch.bfloat16, 756),
        ("NVIDIA H200", torch.bfloat16, 989),
        ("NVIDIA A100-SXM4-80GB", torch.bfloat16, 312),
        ("NVIDIA A100-SXM4-80GB", torch.float32, 19.5),
        ("NVIDIA L40S", torch.bfloat16, 362.05),
        ("NVIDIA L4", torch.bfloat16, 121),
        ("NVIDIA A10G", torch.float16, 70),
        ("NVIDIA GeForce RTX 4090", torch.bfloat16, 165.2),
        ("NVIDIA GeForce RTX 3090 Ti", torch.bfloat16, 80),
        ("Tesla V100-SXM2-32GB", torch.float16, 125),
        ("Tesla V100-PCIE-16GB", torch.float16, 112),
        ("Tesla T4", torch.float16, 65),
    ],
)
def test_a_device_is_known_by_the_name_that_its_driver_tells(name, dtype, tera):
    assert flops.peak_of(name, dtype) == pytest.approx(tera * 1e12)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("Tesla V100-SXM2-32GB", torch.bfloat16),
        ("Ascend910B3", torch.bfloat16),
        ("NVIDIA GeForce RTX 4090 D", torch.float64),
        ("NVIDIA Graphics Device", torch.bfloat16),
        ("", torch.float16),
    ],
)
def test_an_unknown_peak_is_none_and_so_is_its_mfu(name, dtype):
    assert flops.peak_of(name, dtype) is None
    assert flops.mfu(1e12, 1.0, None) is None


def test_a_cpu_has_no_peak():
    assert flops.peak(torch.device("cpu"), torch.float32) is None


def test_half_of_the_peak_is_a_half():
    assert flops.mfu(989e12, 2.0, 989e12) == 0.5
