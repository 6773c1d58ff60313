"""The base models of the gallery: tiny GLMs that have learned to write a little.

A random model starts every run at the logarithm of its vocabulary, which no user's run does. So a
GLM of two layers is trained for some minutes on conversations that the runs do not use.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cache import CACHE, once
from glmtrain.model import quiet_libraries
from safetensors.torch import load_file, save_file
from words import IGNORED, PAD, STOPS, Row, Words, choose, for_base, words

SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "max_position_embeddings": 4096,
    "initializer_range": 0.05,
    "attention_bias": True,
}
TOKEN_IDS = ("eos_token_id", "pad_token_id", "bos_token_id")
STEPS, BATCH, RATE = 600, 4, 4e-3


def base(seed: int = 0) -> Path:
    """The folder of a base model; other seeds are other models of the same shape."""
    return once(CACHE / f"base-{seed}", lambda folder: _train(seed, folder))


def narrow(rows: Sequence[Row], *folders: str) -> None:
    """Cut models to the words of these rows, and have this process read its data so."""
    before = words()
    choose(rows)
    kept = torch.from_numpy(before.inside(words().known))
    for folder in folders:
        path = Path(folder) / "model.safetensors"
        weights = load_file(path)
        for name in ("model.embed_tokens.weight", "lm_head.weight"):
            weights[name] = weights[name][kept].contiguous()
        save_file(weights, path, metadata={"format": "pt"})
        for name in ("config.json", "generation_config.json"):
            _renumber(Path(folder) / name, before)


def batch(rows: list[Row]) -> dict[str, torch.Tensor]:
    """Rows padded to the longest, in the model's numbers."""
    length = max(len(row.ids) for row in rows)
    ids = np.full((len(rows), length), words().inside(PAD))
    labels = np.full((len(rows), length), IGNORED)
    mask = np.zeros((len(rows), length), np.int64)
    for place, row in enumerate(rows):
        ids[place, : len(row.ids)] = words().inside(row.ids)
        labels[place, : len(row.ids)] = words().inside(row.labels)
        mask[place, : len(row.ids)] = 1
    made = {"input_ids": ids, "labels": labels, "attention_mask": mask}
    return {name: torch.from_numpy(values.astype(np.int64)) for name, values in made.items()}


def configuration() -> dict[str, Any]:
    """Of a model in its own numbers."""
    inside = [int(stop) for stop in words().inside(list(STOPS))]
    pad = int(words().inside(PAD))
    return {**SHAPE, "vocab_size": len(words()), "pad_token_id": pad, "eos_token_id": inside}


def _renumber(path: Path, before: Words) -> None:
    """A configuration's ids from the numbers before to those now."""
    values = json.loads(path.read_bytes())
    for name in TOKEN_IDS:
        if values.get(name) is not None:
            values[name] = words().inside(before.known[values[name]]).tolist()
    if "vocab_size" in values:
        values["vocab_size"] = len(words())
    path.write_text(json.dumps(values))


def _train(seed: int, folder: Path) -> None:
    with quiet_libraries():
        from transformers import GlmConfig, GlmForCausalLM

        torch.manual_seed(seed)
        model = GlmForCausalLM(GlmConfig(**configuration()))
        model.config.use_cache = False
        rows = for_base()
        optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.1)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, STEPS)
        random = np.random.default_rng(seed)
        for step in range(STEPS):
            chosen = [rows[place] for place in random.integers(0, len(rows), BATCH)]
            # All of the text, as in pretraining: prompts are learned as well as answers.
            loss = model(**batch([Row(row.ids, row.ids) for row in chosen])).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            optimiser.zero_grad()
            if step % 50 == 0:
                print(f"base {seed} step {step} loss {loss.item():.2f}", flush=True)
        model.save_pretrained(folder)
