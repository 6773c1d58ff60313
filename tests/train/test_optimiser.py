from __future__ import annotations

import math
import sys

import pytest
import torch
from glmprep.errors import UsageError
from glmtrain import optimiser, precision, settings
from glmtrain.optimiser import (
    COUNT,
    PREFIX,
    RATE_FACTOR,
    clip,
    load_state_tensors,
    make,
    set_rate,
    state_tensors,
    update,
)
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load, save
from torch import nn

NAMES = tuple(RATE_FACTOR)
PLAIN = precision.choose(settings.Precision(dtype="fp32"), torch.device("cpu"))


def chosen(name="adamw", **changes):
    return settings.Optimiser(name=name, **{"learning_rate": 1e-2, "weight_decay": 0.1, **changes})


def weights(seed=0):
    """One of each kind: a table, a large matrix, experts, a norm, and one without a gradient."""
    torch.manual_seed(seed)
    shapes = {
        "model.embed_tokens.weight": (320, 32),
        "mlp.weight": (64, 96),
        "mlp.experts": (3, 8, 8),
        "norm.weight": (32,),
        "unused.weight": (4, 4),
    }
    return {name: nn.Parameter(torch.randn(shape)) for name, shape in shapes.items()}


def train(parameters, made, steps):
    for number in steps:
        random = torch.Generator().manual_seed(number)
        for name, weight in parameters.items():
            if name != "unused.weight":
                weight.grad = torch.randn(weight.shape, generator=random)
        made.step()
        made.zero_grad()


def bits(parameters):
    return {name: weight.detach().view(torch.int32).tolist() for name, weight in parameters.items()}


@pytest.mark.parametrize("name", NAMES)
def test_three_steps_then_three_resumed_are_six_to_the_bit(name):
    straight = weights()
    train(straight, make(straight, chosen(name)), range(6))

    first = weights()
    stopped = make(first, chosen(name))
    train(first, stopped, range(3))
    file = save(state_tensors(stopped, first))

    second = weights(seed=1)
    for key, weight in second.items():
        weight.data.copy_(first[key].data)
    resumed, before = make(second, chosen(name)), bits(second)
    load_state_tensors(resumed, second, load(file))
    assert bits(second) == before
    train(second, resumed, range(3, 6))
    assert bits(second) == bits(straight)


@pytest.mark.parametrize("name", NAMES)
def test_state_can_be_put_back_into_an_optimiser_that_went_on(name):
    parameters = weights()
    made = make(parameters, chosen(name))
    train(parameters, made, range(2))
    kept = state_tensors(made, parameters)
    train(parameters, made, range(2, 5))
    load_state_tensors(made, parameters, kept)
    again = state_tensors(made, parameters)
    assert again.keys() == kept.keys()
    assert all(torch.equal(again[key], kept[key]) for key in kept)


@pytest.mark.parametrize("name", NAMES)
def test_state_from_before_the_first_step_is_no_state(name):
    parameters = weights()
    made = make(parameters, chosen(name))
    nothing = state_tensors(made, parameters)
    train(parameters, made, range(1))
    load_state_tensors(made, parameters, nothing)
    assert state_tensors(made, parameters).keys() == {COUNT}


@pytest.mark.parametrize("name", NAMES)
def test_state_that_does_not_fit_is_refused(name):
    parameters = weights()
    made = make(parameters, chosen(name))
    train(parameters, made, range(2))
    kept = state_tensors(made, parameters)
    of_mlp = sorted(key for key in kept if key.endswith(".mlp.weight"))

    one_less = {key: value for key, value in kept.items() if key != of_mlp[0]}
    other = {key: value for key, value in kept.items() if key not in of_mlp}
    misshapen = {**kept, of_mlp[-1]: torch.zeros(5)}
    uncounted = {key: value for key, value in kept.items() if key != COUNT}
    refusals = [
        (misshapen, ValueError, "of mlp.weight is torch.float32 \\(5,\\), not "),
        (uncounted, KeyError, COUNT),
        (other, ValueError, "state for 3 of these weights, saved for 4"),
    ]
    if len(of_mlp) > 1:
        refusals.append((one_less, KeyError, of_mlp[0]))
    for tensors, error, message in refusals:
        fresh = weights()
        with pytest.raises(error, match=message):
            load_state_tensors(make(fresh, chosen(name)), fresh, tensors)


@pytest.mark.parametrize("name", NAMES)
def test_every_optimiser_learns_at_its_share_of_one_rate(name):
    torch.manual_seed(0)
    target, weight = torch.randn(64, 64) / 8, nn.Parameter(torch.zeros(64, 64))
    inputs = torch.randn(256, 64)
    rate = 0.01 * RATE_FACTOR[name]
    made = make({"mlp.weight": weight}, chosen(name, learning_rate=rate, weight_decay=0.0))
    losses = []
    for _ in range(40):
        loss = (inputs @ (weight - target)).square().mean()
        loss.backward()
        losses.append(float(loss.detach()))
        update(made, PLAIN, 1.0, sound=True)
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("name", NAMES)
def test_matrices_decay_and_biases_norms_and_input_vectors_do_not(name):
    parameters = {
        "mlp.lora_A.default.weight": nn.Parameter(torch.ones(8, 8)),
        "mlp.experts": nn.Parameter(torch.ones(2, 8, 8)),
        "model.norm.weight": nn.Parameter(torch.ones(8)),
        "mlp.bias": nn.Parameter(torch.ones(8)),
        "embed_tokens.token_adapter.trainable_tokens_delta.default": nn.Parameter(torch.ones(2, 8)),
        "layers.0.self_attn.prefix": nn.Parameter(torch.ones(2, 2, 4, 4)),
    }
    made = make(parameters, chosen(name, weight_decay=0.5))
    for weight in parameters.values():
        weight.grad = torch.zeros_like(weight)
    made.step()
    smaller = {key for key, weight in parameters.items() if (weight < 1).all()}
    assert smaller == {"mlp.lora_A.default.weight", "mlp.experts"}


def test_betas_are_the_optimisers_own_unless_given():
    def betas(name, **given):
        return make(weights(), chosen(name, **given)).param_groups[-1]["betas"]

    assert betas("adamw") == betas("adamw8bit") == betas("muon") == (0.9, 0.999)
    assert betas("lion") == (0.9, 0.99)
    assert betas("adamw", beta2=0.95) == (0.9, 0.95)


def test_muon_takes_hidden_matrices_alone():
    parameters = weights()
    parameters["lm_head.weight"] = nn.Parameter(torch.ones(4, 4))
    made = make(parameters, chosen("muon"))
    train(parameters, made, range(1))
    by_muon = {n for n, w in parameters.items() if "momentum_buffer" in made.state[w]}
    by_adamw = {n for n, w in parameters.items() if "exp_avg" in made.state[w]}
    assert by_muon == {"mlp.weight"}
    assert by_adamw == parameters.keys() - {"mlp.weight", "unused.weight"}


def test_muon_follows_the_rate_and_scaling_like_one_optimiser():
    parameters = weights()
    made = make(parameters, chosen("muon"))
    set_rate(made, 0.0)
    before = bits(parameters)
    train(parameters, made, range(1))
    assert bits(parameters) == before
    fp16 = precision.choose(
        settings.Precision(dtype="fp16", initial_loss_scale=4.0), torch.device("cpu")
    )
    set_rate(made, 0.1)
    sum(fp16.scaler.scale(weight.sum()) for weight in parameters.values()).backward()
    norm = update(made, fp16, 0.0, sound=True)
    assert norm == pytest.approx(math.sqrt(sum(w.numel() for w in parameters.values())))
    assert bits(parameters) != before


def test_muon_goes_on_from_a_state_dict_as_torch_does():
    first, second = weights(), weights()
    one, other = make(first, chosen("muon")), make(second, chosen("muon"))
    train(first, one, range(3))
    train(second, other, range(2))
    third = {name: nn.Parameter(weight.detach().clone()) for name, weight in second.items()}
    fresh = make(third, chosen("muon"))
    fresh.load_state_dict(other.state_dict())
    train(third, fresh, range(2, 3))
    assert bits(third) == bits(first)


def test_muon_without_a_matrix_to_train_is_refused():
    with pytest.raises(UsageError, match="none learns here: use adamw"):
        make({"layers.0.prefix": nn.Parameter(torch.ones(2, 2, 4, 4))}, chosen("muon"))


@pytest.mark.parametrize(
    ("name", "module", "package"),
    [("adamw8bit", "bitsandbytes", "bitsandbytes"), ("lion", "lion_pytorch", "lion-pytorch")],
)
def test_missing_library_is_named_with_the_way_to_get_it(name, module, package, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UsageError, match=f"= {name} needs {package}: pip install {package}"):
        make(weights(), chosen(name))


def test_eight_bit_moments_are_kept_in_eight_bits():
    parameters = weights()
    made = make(parameters, chosen("adamw8bit"))
    train(parameters, made, range(1))
    kept = state_tensors(made, parameters)
    assert kept[f"{PREFIX}state1.mlp.weight"].dtype == torch.uint8
    assert kept[f"{PREFIX}state1.norm.weight"].dtype == torch.float32


def test_adafactor_moves_weights_that_begin_at_zero_by_the_rate():
    weight = nn.Parameter(torch.zeros(8, 8))
    made = make({"lora_B": weight}, chosen("adafactor"))
    weight.grad = torch.ones(8, 8)
    made.step()
    torch.testing.assert_close(weight.detach(), torch.full((8, 8), -0.01))


@given(
    st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=8),
    st.floats(0.01, 100),
)
def test_clipping_keeps_the_direction_and_bounds_the_norm(values, limit):
    weight = nn.Parameter(torch.zeros(len(values)))
    weight.grad = torch.tensor(values)
    before = weight.grad.clone()
    norm = clip([weight], limit)
    assert norm == pytest.approx(float(before.norm()), rel=1e-5)
    assert float(weight.grad.norm()) <= limit * (1 + 1e-4)
    torch.testing.assert_close(weight.grad * max(1.0, norm / limit), before, rtol=1e-3, atol=1e-3)


def test_a_limit_of_zero_leaves_gradients_as_they_are():
    weight = nn.Parameter(torch.zeros(2))
    weight.grad = torch.tensor([3e8, 4e8])
    assert clip([weight], 0.0) == pytest.approx(5e8)
    assert weight.grad.tolist() == [3e8, 4e8]


@pytest.mark.parametrize(("gradient", "sound"), [(1.0, False), (math.nan, True), (math.inf, True)])
def test_an_unsound_step_changes_nothing(gradient, sound):
    parameters = {"mlp.weight": nn.Parameter(torch.ones(4, 4))}
    made = make(parameters, chosen())
    parameters["mlp.weight"].grad = torch.full((4, 4), gradient)
    update(made, PLAIN, 1.0, sound=sound)
    assert torch.equal(parameters["mlp.weight"], torch.ones(4, 4))
    assert parameters["mlp.weight"].grad is None
    assert optimiser.state_tensors(made, parameters).keys() == {COUNT}
