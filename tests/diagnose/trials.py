"""A small GLM and small shards, to try before a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from glmprep.ledger import Ledger
from glmprep.shards import Manifest, Rows, ShardWriter, write_rows
from glmprep.store import Folder
from glmtrain.model import quiet_libraries

VOCABULARY, PAD, START, USER, ASSISTANT = 320, 300, 301, 302, 303
MODEL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,
    "pad_token_id": PAD,
    "eos_token_id": [USER],
}


def save(folder: Path, **changes) -> Path:
    """A random GLM in a folder; `spoil` may change it before."""
    spoil = changes.pop("spoil", lambda model: None)
    with quiet_libraries():
        from transformers import GlmConfig, GlmForCausalLM

        torch.manual_seed(0)
        model = GlmForCausalLM(GlmConfig(**{**MODEL, **changes}))
        with torch.no_grad():
            spoil(model)
        model.save_pretrained(folder)
    return folder


def conversation(random, turns):
    ids, mask = [START], [0]
    for _ in range(turns):
        question = random.integers(0, 250, size=int(random.integers(2, 6))).tolist()
        answer = random.integers(0, 250, size=int(random.integers(3, 8))).tolist()
        ids += [USER, *question, ASSISTANT, *answer]
        mask += [0] * (len(question) + 2) + [1] * len(answer)
    return [*ids, USER], [*mask, 1]


def write_shards(folder: Path, *, packed: bool = False, **manifest) -> Path:
    """24 conversations, alone or three in a row."""
    random = np.random.default_rng(1)
    made = [conversation(random, turns) for turns in (1, 2, 3, 5) * 6]
    size = 3 if packed else 1
    groups = [made[start : start + size] for start in range(0, len(made), size)]
    lengths = [sum(len(ids) for ids, _ in group) for group in groups]
    flat = [(place, one) for group in groups for place, one in enumerate(group)]
    rows = Rows(
        input_ids=np.concatenate([ids for _, (ids, _) in flat]).astype(np.int32),
        loss_mask=np.concatenate([mask for _, (_, mask) in flat]).astype(np.uint8),
        position_ids=np.concatenate([np.arange(len(ids)) for _, (ids, _) in flat]).astype(np.int32),
        segment_ids=np.concatenate([[p] * len(ids) for p, (ids, _) in flat]).astype(np.int32),
        offsets=np.concatenate(([0], np.cumsum(lengths))).astype(np.int64),
        bucket=np.full(len(groups), 256 if packed else 128, dtype=np.int32),
        conversation_ids=[[f"c{r}"] * len(group) for r, group in enumerate(groups)],
    )
    facts = {
        "tokenizer": {"name": "test", "sha256": "0" * 64},
        "family": "glm4",
        "layout": "packed" if packed else "buckets",
        "max_length": 256,
        "tokens_per_batch": 256,
        "vocab_size": VOCABULARY,
        "pad_id": PAD,
        "stop_ids": [USER],
        "added_tokens": [],
        "buckets": [],
        "seed": 0,
        "config": {},
        "ledger": Ledger().as_json(),
    }
    store = Folder(folder)
    files = [write_rows(store, "shard-00000.parquet", rows)]
    ShardWriter(store, overwrite=True).finish(Manifest(files=files, **{**facts, **manifest}))
    return folder
