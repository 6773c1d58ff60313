"""Some of the configurations of `bench/memory.py`; all of them are in docs/gpu-memory.md."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

BENCH = Path(__file__).parents[2] / "bench"
LIMIT = 0.1


def module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"bench_{name}", BENCH / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = made
    spec.loader.exec_module(made)
    return made


memory, cases = module("memory"), module("memory_cases")
torch.set_num_threads(1)


def off(**facts: object) -> float:
    return abs(memory.look(memory.Case(**facts)).error)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_layer_of_experts_keeps_them_once_more_with_adapters(checkpointing):
    assert off(**{**cases.MIXTURE, "length": 64}, checkpointing=checkpointing) < LIMIT


def test_experts_in_four_bits_are_kept_unpacked():
    assert off(**{**cases.MIXTURE, **cases.QLORA, "length": 64}) < LIMIT


def test_experts_that_learn_are_counted():
    assert off(**{**cases.MIXTURE, **cases.FULL, "length": 64}) < LIMIT


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_the_naive_loss_keeps_three_copies_of_all_logits(dtype):
    facts = {**cases.HF, **cases.FULL, **cases.WORDS, "rows": 2, "length": 32}
    assert off(**facts, dtype=dtype) < LIMIT / 2


@pytest.mark.parametrize("optimiser", ["adamw8bit", "lion", "adafactor"])
def test_what_each_optimiser_remembers_is_counted(optimiser):
    assert off(method="full", optimiser=optimiser, length=64) < LIMIT


def test_a_pure_run_keeps_everything_in_its_format():
    assert off(method="full", dtype="bf16", pure=True, length=32) < LIMIT


@pytest.mark.parametrize("method", ["lora", "full"])
def test_evaluation_keeps_nothing_for_a_backward_pass(method):
    assert off(phase="evaluation", method=method, length=128) < LIMIT


@pytest.mark.parametrize(("rows", "length"), [(1, 128), (4, 16)])
def test_a_cache_of_keys_and_values_grows_with_the_answer(rows, length):
    assert off(phase="generation", method="full", rows=rows, length=length) < LIMIT


@pytest.mark.parametrize("method", ["lora", "full"])
def test_resuming_holds_the_checkpoint_beside_the_model(method):
    assert off(phase="resume", method=method) < LIMIT


def test_every_configuration_of_the_table_is_one_of_its_own():
    made = [str(case) for case in (memory.Case(**facts) for facts in cases.CASES)]
    assert len(made) == len(set(made)) >= 40
