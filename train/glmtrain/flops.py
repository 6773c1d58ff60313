"""Floating-point operations of a training step, and the share of a device's peak that they reach.

A multiplication with its addition is two operations. For N weights that a token is multiplied with
(all but the embeddings; of a mixture of experts those that the router takes) and N' of them that
learn, a token costs

    2 N forward + 2 N backward to the inputs + 2 N' backward to the weights,

which is 6 N for full training (Kaplan et al. 2020, arXiv:2001.08361) and about 4 N for adapters,
whose base has no gradients of weights. The output layer costs the same of its own weights, at
labelled positions alone. Attention multiplies queries with keys and weights with values: 4 x (heads
x width of a head) operations in each layer for each pair of a token with one before it or itself,
half the squared length of a segment, and twice that backward (Chowdhery et al. 2022,
arXiv:2204.02311, appendix B, there without the half).

MFU (same appendix) counts these alone. Gradient checkpointing does a forward pass of the layers
again: that is in `Flops.recomputed`, for hardware utilisation (torch leaves out a block's last
product where it can, which is not taken off). Not counted: norms, activations,
softmax, the embeddings' lookup, the optimiser; and the first layer counts as if the gradient of its
inputs were always computed. Of LoRA on fused experts the useful part counts, not the sum over all
experts by which peft computes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from glmtrain.learner import Learner
from glmtrain.model import CausalModel
from glmtrain.prefix_attention import PREFIX

BACKWARD = 2
"""Forward passes that attention's backward pass costs: it has two inputs to each product."""
TERA = 1e12
BF16, FP16, FP32 = torch.bfloat16, torch.float16, torch.float32
PEAKS: Mapping[str, Mapping[torch.dtype, float]] = {
    # NVIDIA B200 (Blackwell architecture brief, dense: half of the sparse 4.5 petaFLOPS).
    "b200": {BF16: 2250, FP16: 2250},
    # NVIDIA H200 datasheet; the dense half of what it gives "with sparsity", as in all below.
    "h200 nvl": {BF16: 835.5, FP16: 835.5, FP32: 60},
    "h200": {BF16: 989, FP16: 989, FP32: 67},
    # NVIDIA H100 datasheet: NVL, PCIe, SXM5 (whose name ends in HBM3 and says nothing of SXM).
    "h100 nvl": {BF16: 835.5, FP16: 835.5, FP32: 60},
    "h100 pcie": {BF16: 756, FP16: 756, FP32: 51},
    "h100": {BF16: 989, FP16: 989, FP32: 67},
    # As the H100 SXM5 and the A100, with slower links between cards.
    "h800 pcie": {BF16: 756, FP16: 756, FP32: 51},
    "h800": {BF16: 989, FP16: 989, FP32: 67},
    "a800": {BF16: 312, FP16: 312, FP32: 19.5},
    "h20": {BF16: 148, FP16: 148, FP32: 44},  # NVIDIA H20 datasheet
    "a100": {BF16: 312, FP16: 312, FP32: 19.5},  # NVIDIA A100 datasheet, PCIe and SXM4
    "l40s": {BF16: 362.05, FP16: 362.05, FP32: 91.6},  # NVIDIA L40S datasheet
    "l40": {BF16: 181.05, FP16: 181.05, FP32: 90.5},  # NVIDIA L40 datasheet
    "l4": {BF16: 121, FP16: 121, FP32: 30.3},  # NVIDIA L4 datasheet
    "a40": {BF16: 149.7, FP16: 149.7, FP32: 37.4},  # NVIDIA A40 datasheet
    "a30": {BF16: 165, FP16: 165, FP32: 10.3},  # NVIDIA A30 datasheet
    "a10g": {BF16: 70, FP16: 70, FP32: 35},  # NVIDIA A10G, Amazon's G5 instances
    "a10": {BF16: 125, FP16: 125, FP32: 31.2},  # NVIDIA A10 datasheet
    "rtx a6000": {BF16: 154.8, FP16: 154.8, FP32: 38.7},  # NVIDIA Ampere GA102 whitepaper
    # With sums in fp32, which training uses: GeForce halves them. Ada and GA102 whitepapers,
    # appendix A.
    "rtx 4090": {BF16: 165.2, FP16: 165.2, FP32: 82.6},
    "rtx 3090 ti": {BF16: 80, FP16: 80, FP32: 40},
    "rtx 3090": {BF16: 71, FP16: 71, FP32: 35.6},
    # NVIDIA V100 datasheet, NVLink and PCIe; Tesla T4 datasheet. Neither multiplies in bf16.
    "v100-pcie": {FP16: 112, FP32: 14},
    "v100": {FP16: 125, FP32: 15.7},
    "t4": {FP16: 65, FP32: 8.1},
    # Ascend 910B: sold in kinds (B1 to B4) of different speed, with no public datasheet of each.
}
"""Dense peaks in TFLOP/s, by what a device's name holds, the longer name first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flops:
    """Operations of a step: what the model needs, and what checkpointing does once more."""

    model: float
    recomputed: float

    @property
    def hardware(self) -> float:
        """All that is computed."""
        return self.model + self.recomputed


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What a model's parts cost, in weights that a token is multiplied with.

    `layers` are those of the blocks and `layers_learning` those of them that learn, both for every
    token; `head` and `head_learning` for a labelled one. `attention` is heads x width of a head
    over all layers, `prefix` the keys that every token sees besides its segment's.
    """

    layers: float
    layers_learning: float
    head: float
    head_learning: float
    attention: float
    prefix: int
    checkpointing: bool

    def step(self, *, tokens: int, labelled: int, squares: int) -> Flops:
        """Operations of a step; `squares` is the sum of its segments' squared lengths.

        Count real tokens: padding is computed too, but is no use.
        """
        pairs = squares / 2 + tokens * self.prefix
        forward = 2 * tokens * self.layers + 4 * pairs * self.attention
        backward = 2 * tokens * (self.layers + self.layers_learning)
        backward += BACKWARD * 4 * pairs * self.attention
        head = 2 * labelled * (2 * self.head + self.head_learning)
        recomputed = forward if self.checkpointing else 0.0
        return Flops(model=forward + backward + head, recomputed=recomputed)


def of(learner: Learner) -> Costs:
    """The costs of a model's parts, counted from its modules; as loaded, before it is sharded."""
    causal = learner.causal
    config, head = causal.config, causal.get_output_embeddings()
    in_head = {id(module) for module in head.modules()}
    active, of_experts = _active(config), _adapters_of_experts(causal)
    inside: list[tuple[float, bool]] = []
    outside: list[tuple[float, bool]] = []
    for module in causal.modules():
        share = active if id(module) in of_experts else 1.0
        found = [(share * weights, learns) for weights, learns in _multiplied(module, active)]
        (inside if id(module) in in_head else outside).extend(found)
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    named = causal.named_parameters()
    prefix = next((weight.shape[2] for name, weight in named if name.endswith(f".{PREFIX}")), 0)
    return Costs(
        layers=sum(weights for weights, _ in outside),
        layers_learning=sum(weights for weights, learns in outside if learns),
        head=sum(weights for weights, _ in inside),
        head_learning=sum(weights for weights, learns in inside if learns),
        attention=config.num_hidden_layers * config.num_attention_heads * width,
        prefix=prefix,
        checkpointing=any(getattr(m, "gradient_checkpointing", False) for m in causal.modules()),
    )


def peak(device: torch.device, dtype: torch.dtype) -> float | None:
    """Dense operations a second of a device; None where that is not known."""
    if device.type != "cuda":
        return None
    return peak_of(torch.cuda.get_device_name(device), dtype)


def peak_of(name: str, dtype: torch.dtype) -> float | None:
    """The same by a device's name as its driver tells it, such as `NVIDIA H100 80GB HBM3`."""
    words = f" {name.lower()} ".replace("nvidia", "").replace("tesla", "")
    found = max((known for known in PEAKS if _names(known, words)), key=len, default=None)
    tera = None if found is None else PEAKS[found].get(dtype)
    return None if tera is None else tera * TERA


def mfu(flops: float, seconds: float, peak: float | None) -> float | None:
    """The share of `peak` that so many operations in so many seconds are; None without a peak."""
    return None if peak is None else flops / seconds / peak


def _names(known: str, words: str) -> bool:
    """Whether the words hold the known name whole: an L4 is no L40, and neither is an L40S."""
    place = words.find(known)
    return place > 0 and words[place - 1] == " " and words[place + len(known)] in " -"


def _multiplied(module: nn.Module, experts: float) -> Iterator[tuple[float, bool]]:
    """How many of this module's own weights a token is multiplied with, and whether they learn.

    `experts` is the share of experts that a token goes through.
    """
    if isinstance(module, nn.Linear):
        # Not the size of the weight: where it is quantised, several weights share a number.
        yield module.in_features * module.out_features, module.weight.requires_grad
    elif not isinstance(module, nn.Embedding):
        for weight in module.parameters(recurse=False):
            if weight.ndim == 3:  # a matrix for each expert
                yield weight.numel() * experts, weight.requires_grad
            elif weight.ndim == 2:  # a router
                yield weight.numel(), weight.requires_grad


def _adapters_of_experts(causal: CausalModel) -> set[int]:
    """Where peft adapts fused experts, the adapters of all of them are two wide linear layers."""
    return {
        id(adapter)
        for module in causal.modules()
        if hasattr(module, "lora_A") and getattr(module, "num_experts", 1) > 1
        for adapter in (*module.lora_A.values(), *module.lora_B.values())
    }


def _active(config: CausalModel) -> float:
    """The share of experts that a token goes through, 1 without experts."""
    experts: int = getattr(config, "n_routed_experts", getattr(config, "num_local_experts", 1))
    return getattr(config, "num_experts_per_tok", experts) / experts
