"""What arithmetic says of a step's memory, against the tensors that there are."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from glmprep import memory
from glmprep.memory import Training
from glmprep.shape import Experts
from glmtrain import config, data, methods, precision, prefix, quantised, strategies
from glmtrain import settings as sections
from glmtrain.batches import Inputs
from glmtrain.devices import Place
from glmtrain.footprint import DryRun, by_bucket, dry_run, fullest, peak_of, shape_of
from glmtrain.learner import Learner
from glmtrain.loss import Objective
from glmtrain.model import load, quiet_libraries

CPU = torch.device("cpu")
RANK, PREFIX, EDGE = 8, 16, 0.1
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_up_proj", "down_proj"]
SMALL = {
    "hidden_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "intermediate_size": 688,
    "vocab_size": 2048,
}
WIDE = {**SMALL, "hidden_size": 384, "num_hidden_layers": 2, "intermediate_size": 512}
VOCABULARY = {**SMALL, "num_hidden_layers": 2, "vocab_size": 16_384}
# Many CPUs multiply bf16 slowly.
TINY = {**SMALL, "hidden_size": 128, "num_hidden_layers": 2, "intermediate_size": 344}


def build(sizes: dict[str, int], dtype: torch.dtype = torch.float32, kind: str = "Glm") -> Any:
    with quiet_libraries():
        import transformers

        torch.manual_seed(0)
        shape = getattr(transformers, f"{kind}Config")(
            **sizes, attention_bias=True, tie_word_embeddings=False, pad_token_id=0
        )
        model = getattr(transformers, f"{kind}ForCausalLM")(shape).to(dtype)
    model.config.use_cache = False
    return model.train()


def attach(
    model: Any, method: str, dtype: torch.dtype, *, checkpointing: bool, dropout: float = 0.0
) -> Learner:
    with quiet_libraries():
        from peft import LoraConfig, get_peft_model

        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        if method == "qlora":
            quantised.quantise(model, dtype, CPU, LINEAR)
        if method == "ptuning":
            prefix.install(model, sections.Prefix(tokens=PREFIX), seed=0)
        elif method != "full":
            get_peft_model(model, LoraConfig(r=RANK, target_modules=LINEAR, lora_dropout=dropout))
    return Learner(model, objective=Objective(dtype=dtype))


def inputs(rows: int, length: int, *, masked: bool) -> Inputs:
    """A third of the tokens have a label; all rows but the first are a little shorter."""
    ids = torch.randint(3, 2048, (rows, length))
    mask = torch.ones_like(ids)
    mask[1:, -5:] = 0
    labels = torch.where(torch.arange(length) % 3 == 0, ids, -100)
    return Inputs(
        input_ids=ids,
        position_ids=torch.arange(length).repeat(rows, 1),
        attention_mask=mask if masked else None,
        labels=labels,
        tokens=int(mask.sum()),
        supervised=int((labels >= 0).sum()),
    )


def measured(learner: Learner, batch: Inputs, autocast: bool) -> int:
    weights = list(learner.learning().values())
    optimiser = torch.optim.AdamW(weights, lr=1e-4, fused=True)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16) if autocast else nullcontext():
            loss = learner(batch)
        loss.backward()
        del loss
        optimiser.step()
        optimiser.zero_grad()

    step()
    state = [value for each in optimiser.state.values() for value in each.values()]
    return peak_of(step, CPU, [*learner.parameters(), *learner.buffers(), *state])


@pytest.mark.parametrize(
    ("sizes", "method", "dtype", "checkpointing", "rows", "length"),
    [
        (SMALL, "full", "fp32", False, 1, 256),
        (SMALL, "full", "fp32", True, 2, 128),
        (WIDE, "full", "fp32", True, 4, 64),
        (TINY, "full", "bf16", False, 1, 64),
        (TINY, "full", "bf16", True, 2, 32),
        (SMALL, "lora", "fp32", False, 1, 512),
        (SMALL, "lora", "fp32", True, 1, 512),
        (SMALL, "lora", "fp32", False, 4, 64),
        (WIDE, "lora", "fp32", True, 2, 256),
        (VOCABULARY, "lora", "fp32", True, 2, 128),
        (TINY, "lora", "bf16", False, 2, 32),
        (TINY, "lora", "bf16", True, 1, 64),
        (SMALL, "qlora", "fp32", False, 2, 64),
        (SMALL, "qlora", "fp32", True, 1, 256),
        (SMALL, "ptuning", "fp32", False, 1, 256),
        (WIDE, "ptuning", "fp32", True, 2, 128),
    ],
)
def test_the_prediction_is_within_a_tenth_of_what_is_measured(
    sizes, method, dtype, checkpointing, rows, length
):
    half = dtype == "bf16"
    kept = torch.bfloat16 if half and method != "full" else torch.float32
    model = build(sizes, kept)
    shape = shape_of(model)
    learner = attach(
        model, method, torch.bfloat16 if half else torch.float32, checkpointing=checkpointing
    )
    batch = inputs(rows, length, masked=rows > 1)
    found = measured(learner, batch, half)
    predicted = memory.footprint(
        shape,
        Training(
            method=method,
            rank=RANK,
            prefix=PREFIX,
            width=2 if half else 4,
            checkpointing=checkpointing,
        ),
        memory.Batch(rows=rows, length=length, labelled=batch.supervised, masked=rows > 1),
    )
    assert predicted.peak == pytest.approx(found, rel=EDGE)


def test_the_second_norms_of_glm4_are_counted():
    model = build(SMALL, kind="Glm4")
    shape = shape_of(model)
    assert (shape_of(build(SMALL)).norms, shape.norms) == (2, 4)
    batch = inputs(1, 128, masked=False)
    found = measured(attach(model, "lora", torch.float32, checkpointing=False), batch, False)
    training = Training(rank=RANK, width=4, checkpointing=False)
    facts = memory.Batch(rows=1, length=128, labelled=batch.supervised)
    assert memory.footprint(shape, training, facts).peak == pytest.approx(found, rel=EDGE)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_dropout_keeps_an_input_and_its_noise_for_each_adapter(checkpointing):
    batch, model = inputs(1, 256, masked=False), build(SMALL)
    shape = shape_of(model)
    learner = attach(model, "lora", torch.float32, checkpointing=checkpointing, dropout=0.1)
    training = Training(rank=RANK, width=4, checkpointing=checkpointing, noise=4)
    facts = memory.Batch(rows=1, length=256, labelled=batch.supervised)
    found = measured(learner, batch, False)
    assert memory.footprint(shape, training, facts).peak == pytest.approx(found, rel=EDGE)


def test_the_experts_of_a_mixture_are_in_its_shape():
    sizes = {"n_routed_experts": 4, "moe_intermediate_size": 32, "num_experts_per_tok": 2}
    model = build({**TINY, **sizes}, kind="Glm4Moe")
    shape = shape_of(model)
    assert shape.experts == Experts(count=4, chosen=2, inner=32, shared=32, dense=1)
    matrices = sum(weight.numel() for weight in model.parameters() if weight.ndim > 1)
    assert shape.parameters == matrices


@pytest.fixture
def run(small_model, bucketed):
    """A strategy with its data and settings, as `run` makes them."""

    def make(**changes):
        chosen = {
            "model": {"path": str(small_model)},
            "data": {"shards": [str(bucketed)], "tokens_per_batch": 128},
            "optimiser": {"learning_rate": 0.02, "weight_decay": 0.1},
            "precision": {"dtype": "fp32"},
            "lora": {"rank": 4, "alpha": 8.0, "dropout": 0.1, "target_modules": LINEAR},
        }
        merged = {name: {**facts, **changes.get(name, {})} for name, facts in chosen.items()}
        settings = config.build([("test", {**changes, **merged})])
        in_dtype = precision.choose(settings.precision, CPU)
        place = Place(rank=0, ranks=1, local_rank=0, local_ranks=1, device=CPU, strategy="single")
        with quiet_libraries():
            causal = load(str(small_model), in_dtype.frozen_dtype(settings.model.method))
            learner = methods.prepare(causal, settings, in_dtype.dtype)
            strategy = strategies.make(place, learner, settings, in_dtype)
        return strategy, data.load([str(bucketed)]), settings, place

    return make


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_dry_run_predicts_what_it_measures_and_leaves_no_trace(run, method):
    strategy, rows, settings, place = run(model={"method": method})
    before = {name: weight.detach().clone() for name, weight in strategy.learning.items()}
    torch.manual_seed(7)
    drawn = torch.rand(1)
    torch.manual_seed(7)
    found = dry_run(strategy, rows, settings, place)
    assert torch.rand(1) == drawn
    assert all(torch.equal(weight, before[name]) for name, weight in strategy.learning.items())
    assert not strategy.optimiser.state
    assert {group["lr"] for group in strategy.optimiser.param_groups} == {0.02}
    assert (found.by, found.available) == ("tensors", None)
    assert found.length == rows.rows.lengths.max()
    assert found.error == pytest.approx(0, abs=0.15)  # of a model of 32 numbers a token
    assert f"{found.rows} rows of {found.length}" in str(found)
    assert found.as_json()["predicted"]["peak"] == found.predicted.peak


def test_more_batches_in_a_step_need_the_gradients_of_the_first_besides(run):
    one = dry_run(*run(model={"method": "full"}))
    several = dry_run(*run(model={"method": "full"}, data={"accumulate": 4}))
    assert several.measured > one.measured
    assert several.predicted.peak > one.predicted.peak


def test_the_fullest_batches_are_the_longest_rows_of_each_bucket(bucketed):
    rows = data.load([str(bucketed)])
    lengths = rows.rows.lengths
    for batch in fullest(rows, 128):
        own = lengths[rows.rows.bucket == batch.bucket]
        assert len(batch.rows) == min(len(own), 128 // batch.bucket)
        assert lengths[batch.rows].min() >= sorted(own)[-len(batch.rows)]


def test_the_peak_of_each_bucket_is_the_largest_of_its_steps():
    lines = [(64, 5), (32, 3), (64, 9), (32, 1)]
    assert by_bucket([{"bucket": b, "peak_memory": m} for b, m in lines]) == {32: 3, 64: 9}


def test_a_dry_run_is_told_in_one_line():
    told = DryRun(
        bucket=4096,
        rows=2,
        length=4000,
        labelled=100,
        measured=3 << 30,
        by="allocator",
        predicted=None,
        available=8 << 30,
    )
    assert str(told) == (
        "a step with 2 rows of 4,000 tokens (bucket 4,096) takes 3.00 GiB, of 8.0 GiB"
    )
