"""Small real runs with one planted fault each, for the tests of replay and of verify-fix."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from glmprep.errors import SuiteError
from glmtrain import config, devices
from glmtrain.model import quiet_libraries
from glmtrain.progress import Silent
from glmtrain.run import Mode, train

from tests.train.conftest import PAD, USER, VOCABULARY, conversation, to_rows, write_shards

torch.set_num_threads(1)
RARE = 299
"""A token that conversations do not hold unless one is planted."""
CHANNEL = 3


def shards(folder: Path, planted: int | None = 7, count: int = 12) -> Path:
    """Conversations of a few turns; in the row `planted` the question holds the rare token."""
    random = np.random.default_rng(1)
    made = [conversation(random, turns) for turns in (1, 2) * (count // 2)]
    if planted is not None:
        made[planted][0][2] = RARE
    return write_shards(folder, to_rows([[one] for one in made], [64] * count))


def model(folder: Path, *, gain: float | None = None) -> Path:
    """A random GLM; with `gain`, a channel that the rare token alone uses is made as much larger
    by the first layer's gate, beyond what fp16 holds where it is some hundred."""
    with quiet_libraries():
        from transformers import GlmConfig, GlmForCausalLM

        torch.manual_seed(0)
        made = GlmForCausalLM(
            GlmConfig(
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
        )
        if gain is not None:
            _plant(made, gain)
        made.save_pretrained(folder)
    return folder


def _plant(made: Any, gain: float) -> None:
    layer, table = made.model.layers[0], made.model.embed_tokens.weight
    with torch.no_grad():
        table[:, CHANNEL] = 0
        table[RARE] = 0
        table[RARE, CHANNEL] = 1
        layer.self_attn.o_proj.weight[CHANNEL] = 0
        layer.mlp.gate_up_proj.weight[:, CHANNEL] = gain


def run(
    output: Path, base: Path, rows: Path, /, *, start: Path | None = None, **changes: Any
) -> Path:
    """A run of an epoch, two rows a step; one that breaks off leaves what it has."""
    settings: dict[str, dict[str, Any]] = {
        "model": {"path": str(base)},
        "data": {"shards": [str(rows)], "tokens_per_batch": 128},
        "optimiser": {"learning_rate": 0.01},
        "precision": {"dtype": "fp32"},
        "run": {"output": str(output), "max_steps": 6, "sample_tokens": 16},
    }
    for section, values in changes.items():
        settings[section] = {**settings.get(section, {}), **values}
    chosen = config.build([("test", settings)])
    with devices.join(chosen.devices) as place:
        try:
            mode = Mode(overwrite=True, force=True, start=start)
            train(chosen, place, given=(), shown=Silent(), mode=mode)
        except SuiteError as error:
            (output / "said.txt").write_text(str(error))
    return output


def lines(output: Path) -> list[dict[str, Any]]:
    """The log."""
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
