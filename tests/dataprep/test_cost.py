"""What a limit costs, against sums done by hand."""

from __future__ import annotations

import numpy as np
import pytest
from glmprep.cost import costs
from glmprep.memory import lora_bytes
from glmprep.shape import GLM4_9B, Shape, attention_flops, linear_flops
from hypothesis import given
from hypothesis import strategies as st

TINY = Shape(name="tiny", hidden=8, layers=2, kv=4, feed_forward=16, vocabulary=100)


def test_parameters_are_those_of_the_published_model() -> None:
    assert GLM4_9B.parameters == pytest.approx(9.4e9, rel=0.01)
    # 2 layers of 8 × 16, 8 × 8, 8 × 32 and 16 × 8, and two embeddings of 100 × 8.
    assert TINY.block_parameters == 2 * (128 + 64 + 256 + 128)
    assert TINY.parameters == 2 * (128 + 64 + 256 + 128) + 1600
    # Queries (8 to 8), keys and values (8 to 4), output (8 to 8), gate and up (8 to 32), and down.
    assert TINY.adapter_parameters(rank=3) == 2 * 3 * (16 + 2 * 12 + 16 + 40 + 24)


def test_attention_grows_with_the_square_and_the_rest_with_the_length() -> None:
    assert attention_flops(TINY, 200) == 4 * attention_flops(TINY, 100)
    assert linear_flops(TINY, 200) == 2 * linear_flops(TINY, 100)


def test_memory_is_mostly_weights_and_grows_with_the_batch() -> None:
    short, long = lora_bytes(GLM4_9B, 1024), lora_bytes(GLM4_9B, 8192)
    assert 2 * GLM4_9B.parameters < short < long < 40e9


def test_what_is_longer_than_the_limit_is_split_and_nothing_of_it_is_lost() -> None:
    cost = costs(np.array([64, 64, 300]), [128], TINY)[0]
    # 300 = 128 + 128 + 44: rows of 64, 64, 128, 128 and 44 tokens, padded to 64 and 128.
    assert cost.whole == pytest.approx(2 / 3)
    assert cost.padding == pytest.approx(1 - 428 / (3 * 64 + 2 * 128))
    attention = attention_flops(TINY, 1) * (3 * 64**2 + 2 * 128**2)
    assert cost.attention == pytest.approx(attention / cost.flops)
    assert costs(np.array([], np.int64), [128]) == []


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=40))
def test_a_longer_limit_keeps_more_whole_and_needs_more_memory(lengths: list[int]) -> None:
    found = costs(np.array(lengths), [256, 1024, 4096])
    assert [c.whole for c in found] == sorted(c.whole for c in found)
    assert [c.memory for c in found] == sorted(c.memory for c in found)
    assert all(0 <= cost.padding < 1 and 0 < cost.attention < 1 for cost in found)
