from __future__ import annotations

import pytest
import torch
from glmprep.errors import UsageError
from glmtrain import layers, lora, methods, model, quantised
from glmtrain.coverage import coverage
from glmtrain.settings import Config, Lora, Model

from tests.train import models

pytest.importorskip("bitsandbytes")
CPU = torch.device("cpu")
METHOD = Model(method="qlora")


def prepared(base, dtype=torch.float32, **settings):
    asked = Lora(rank=4, alpha=8.0, **settings)
    targets = lora.targets(base, asked, quantised=True)
    asked = Lora(rank=4, alpha=8.0, target_modules=targets, **settings)
    with model.quiet_libraries():
        return methods.prepare(base, Config(model=METHOD, lora=asked), dtype)


@pytest.mark.parametrize("kind", list(models.KINDS))
def test_adapters_learn_on_a_quantised_base(kind):
    learner = prepared(models.make(kind))
    optimiser = torch.optim.AdamW(learner.learning().values(), lr=0.02)
    losses = []
    for _ in range(6):
        loss = models.loss(learner.causal)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 0.1
    assert all("lora_" in name for name in learner.learning())


def test_every_linear_layer_is_in_four_bits_but_the_output():
    base = models.make()
    whole = sum(weight.numel() for weight in base.parameters())
    linear = sum(layer.weight.numel() for layer in layers.linears(base).values())
    done = quantised.quantise(base, torch.float32, CPU)
    assert (done.parameters, done.quantised) == (whole, linear)
    assert done.share == linear / whole
    assert type(base.lm_head) is torch.nn.Linear
    # Half a byte a parameter where there were four bytes; the scales are buffers.
    assert done.bytes_before - done.bytes_after == linear * 3.5


def test_fused_experts_are_in_four_bits_and_the_router_and_adapted_weights_are_not():
    base = models.make("Glm4Moe")
    shares = {}
    for name, weight in models.make("Glm4Moe").named_parameters():
        kind = layers.kind(name)
        shares[kind] = shares.get(kind, 0) + weight.numel()
    targets = lora.targets(base, Lora(), quantised=True)
    done = quantised.quantise(base, torch.float32, CPU, targets)
    assert done.quantised == shares["attention"] + shares["experts"]
    plain = {"feed-forward", "router", "embeddings", "head", "norms"}
    packed = {name: weight.dtype == torch.uint8 for name, weight in base.named_parameters()}
    assert {layers.kind(name) for name, done in packed.items() if done} == {"attention", "experts"}
    assert {layers.kind(name) for name, done in packed.items() if not done} == plain


def test_coverage_counts_parameters_not_their_packed_bytes():
    base = models.make("Glm4Moe")
    whole = base.num_parameters()
    found = {one.kind: one for one in coverage(prepared(base))}
    assert sum(one.parameters for one in found.values()) == whole
    assert found["attention"].share == found["feed-forward"].share == 1
    assert found["experts"].adapted == 0


@pytest.mark.parametrize("kind", ["Glm", "Glm4Moe"])
def test_round_trip_gives_the_values_that_training_saw(kind):
    seen, restored = models.make(kind), models.make(kind)
    targets = lora.targets(seen, Lora(), quantised=True)
    quantised.quantise(seen, torch.float32, CPU, targets)
    quantised.round_trip(restored, targets)
    assert not torch.allclose(models.logits(restored), models.logits(models.make(kind)))
    torch.testing.assert_close(models.logits(restored), models.logits(seen))


def test_evaluation_between_steps_leaves_the_gradient_in_place(monkeypatch):
    monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: True)
    learner = prepared(models.make())
    models.logits(learner.causal)
    models.loss(learner.causal).backward()
    # A gradient that reaches the first layer went through all the layers above.
    first = [w for n, w in learner.learning().items() if "layers.0" in n and "lora_B" in n]
    assert all(weight.grad.any() for weight in first)


def test_an_adapter_of_a_quantised_base_fits_the_base_before(tmp_path):
    learner = prepared(models.make())
    models.scatter(learner)
    methods.save(learner, tmp_path)
    base = models.make()
    quantised.round_trip(base)
    with model.quiet_libraries():
        methods.adapters.attach(base, tmp_path)
    torch.testing.assert_close(models.logits(base), models.logits(learner.causal))


def test_experts_cannot_be_asked_for_on_a_base_to_be_quantised():
    asked = Lora(target_modules=("experts.down_proj",))
    with pytest.raises(UsageError, match=r"no linear layer 'experts\.down_proj'"):
        lora.targets(models.make("Glm4Moe"), asked, quantised=True)


def test_without_bitsandbytes_the_way_to_install_it_is_told(monkeypatch):
    monkeypatch.setattr(quantised, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'glm-finetune-suite\[qlora\]'"):
        prepared(models.make())
