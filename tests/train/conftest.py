"""A small GLM and small shards, so that a whole run takes a second."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from glmprep.ledger import Ledger
from glmprep.shards import Manifest, Rows, ShardWriter, write_rows
from glmprep.store import Folder

torch.set_num_threads(1)

VOCABULARY = 320
PAD, START, USER, ASSISTANT = 300, 301, 302, 303
Conversation = tuple[list[int], list[int]]


def conversation(random: np.random.Generator, turns: int) -> Conversation:
    """Questions of random words, answered by counting up: something that can be learned."""
    ids, mask = [START], [0]
    for _ in range(turns):
        question = random.integers(0, 250, size=int(random.integers(2, 6))).tolist()
        answer = list(range(20, 20 + int(random.integers(3, 8))))
        ids += [USER, *question, ASSISTANT, *answer]
        mask += [0] * (len(question) + 2) + [1] * len(answer)
    return [*ids, USER], [*mask, 1]


def to_rows(rows: Sequence[Sequence[Conversation]], buckets: Sequence[int]) -> Rows:
    """Rows of one or more conversations each, in columns."""

    def column(values: Callable[[int, Conversation], Sequence[int]], dtype: type) -> Any:
        made = [values(place, one) for row in rows for place, one in enumerate(row)]
        return np.fromiter(itertools.chain.from_iterable(made), dtype=dtype)

    lengths = [sum(len(ids) for ids, _ in row) for row in rows]
    return Rows(
        input_ids=column(lambda _, one: one[0], np.int32),
        loss_mask=column(lambda _, one: one[1], np.uint8),
        position_ids=column(lambda _, one: range(len(one[0])), np.int32),
        segment_ids=column(lambda place, one: [place] * len(one[0]), np.int32),
        offsets=np.concatenate(([0], np.cumsum(lengths))).astype(np.int64),
        bucket=np.array(buckets, dtype=np.int32),
        conversation_ids=[[f"c{r}-{s}" for s in range(len(row))] for r, row in enumerate(rows)],
    )


def write_shards(folder: Path, rows: Rows, **manifest: Any) -> Path:
    """A complete shard folder; `manifest` replaces parts of its manifest."""
    store = Folder(folder)
    facts = {
        "tokenizer": {"name": "test", "sha256": "0" * 64},
        "family": "glm4",
        "layout": "buckets",
        "max_length": 128,
        "tokens_per_batch": 128,
        "vocab_size": VOCABULARY,
        "pad_id": PAD,
        "stop_ids": [USER],
        "added_tokens": [],
        "buckets": [],
        "seed": 0,
        "config": {},
        "ledger": Ledger().as_json(),
    }
    files = [write_rows(store, "shard-00000.parquet", rows)]
    ShardWriter(store, overwrite=True).finish(Manifest(files=files, **{**facts, **manifest}))
    return folder


class Tools:
    """The functions above, for tests that need shards of their own."""

    conversation = staticmethod(conversation)
    to_rows = staticmethod(to_rows)
    write_shards = staticmethod(write_shards)


@pytest.fixture(scope="session")
def tools() -> type[Tools]:
    return Tools


@pytest.fixture(scope="session")
def bucketed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 conversations in buckets of 32, 64 and 128 tokens."""
    random = np.random.default_rng(1)
    made = [conversation(random, turns) for turns in (1, 2, 3, 5) * 6]
    buckets = [next(b for b in (32, 64, 128) if b >= len(ids)) for ids, _ in made]
    rows = to_rows([[one] for one in made], buckets)
    return write_shards(tmp_path_factory.mktemp("bucketed") / "shards", rows)


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """8 rows of three conversations each."""
    random = np.random.default_rng(2)
    rows = to_rows([[conversation(random, 2) for _ in range(3)] for _ in range(8)], [128] * 8)
    folder = tmp_path_factory.mktemp("packed") / "shards"
    return write_shards(folder, rows, layout="packed")


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random two-layer GLM of width 32 in a model folder."""
    from glmtrain.model import quiet_libraries

    with quiet_libraries():
        from transformers import GlmConfig, GlmForCausalLM

        torch.manual_seed(0)
        config = GlmConfig(
            vocab_size=VOCABULARY,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=16,
            max_position_embeddings=512,
            initializer_range=0.2,
            pad_token_id=PAD,
            eos_token_id=[USER],
        )
        folder = tmp_path_factory.mktemp("model")
        GlmForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture
def settings(small_model: Path, bucketed: Path, tmp_path: Path) -> dict[str, dict[str, Any]]:
    """The settings of a short run."""
    return {
        "model": {"path": str(small_model)},
        "data": {"shards": [str(bucketed)]},
        "optimiser": {"learning_rate": 0.02},
        "precision": {"dtype": "fp32"},
        "run": {"output": str(tmp_path / "run"), "max_steps": 6, "sample_tokens": 64},
    }
