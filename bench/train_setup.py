"""Conversations and models for bench/train.py: the same files for every contender.

    python train_setup.py MODEL FOLDER LAYERS    # writes a model's folder; 0: as many as fit

Of real conversations with tool calls (SGD of the assets, else the samples inside glmprep) the first
are taken. `glmprep bucket` makes shards of them, packed and in buckets; the other trainers read
Parquet files with the ids and labels of the very same rows.
"""

from __future__ import annotations

import gzip
import itertools
import json
import subprocess
import sys
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from glmprep import shards

IGNORED = -100
CONVERSATIONS = 800
LAYOUTS = ("packed", "buckets")
GIB = 1 << 30
RESERVED, EACH = 30, 4
"""GiB for the output layer with all logits of 8,192 tokens, and for a layer of GLM-4-9B with its
activations, half as much again left for padding."""
SMALL = {
    "hidden_size": 256,
    "intermediate_size": 1024,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
}
NINE_BILLION = {
    "hidden_size": 4096,
    "intermediate_size": 13696,
    "num_attention_heads": 32,
    "num_key_value_heads": 2,
    "head_dim": 128,
}
"""As in glm-4-9b-chat-hf, which has 40 such layers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """Files of the same conversations; `lengths` of each, `order` is that of glmtrain's steps."""

    folder: Path
    lengths: list[int]
    pad_id: int

    def shards(self, layout: str) -> Path:
        """A shard folder."""
        return self.folder / layout

    @property
    def rows(self) -> Path:
        """One conversation a row: ids and labels."""
        return self.folder / "rows.parquet"

    @property
    def packed_rows(self) -> Path:
        """The packed rows, with position ids, in the order in which glmtrain takes them."""
        return self.folder / "packed.parquet"


def prepare(folder: Path, *, tokens: int, steps: int, seed: int) -> Data:
    """Make the files, unless they are there; a packed row holds `tokens`, as does a batch."""
    for layout in LAYOUTS:
        if not (folder / layout / shards.MANIFEST).exists():
            _bucket(_conversations(folder), folder / layout, layout, tokens)
    manifest = shards.read_manifest(folder / "buckets")
    rows = shards.join(list(shards.read_files(folder / "buckets", manifest)))
    data = Data(folder=folder, lengths=rows.lengths.tolist(), pad_id=manifest.pad_id)
    _write(data.rows, rows, list(range(len(rows))), positions=False)
    packed, order = _in_order(data.shards("packed"), tokens, steps, seed)
    _write(data.packed_rows, packed, order, positions=True)
    return data


def rows_per_batch(lengths: list[int], tokens: int) -> int:
    """The largest number of random rows that, padded to the longest, take `tokens` on average."""
    drawn = np.random.default_rng(0).choice(lengths, (200, 256))
    most = np.maximum.accumulate(drawn, axis=1).mean(axis=0)  # by the number of rows, from 1
    fits = np.flatnonzero(most * np.arange(1, 257) <= tokens)
    return int(fits.max(initial=0)) + 1


def _conversations(folder: Path) -> Path:
    """The first real conversations, as JSON Lines."""
    from corpus import assets

    given = assets() / "data/sgd/sgd_toolchat_dev.jsonl.gz"
    inside = resources.files("glmprep") / "assets/samples/toolcalls.jsonl.gz"
    content = given.read_bytes() if given.exists() else inside.read_bytes()
    lines = itertools.islice(gzip.decompress(content).splitlines(), CONVERSATIONS)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "conversations.jsonl"
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def _bucket(source: Path, output: Path, layout: str, tokens: int) -> None:
    start = "from glmprep.cli import main; main()"  # there is no script where it is not installed
    sized = ("--max-length", str(tokens), "--tokens-per-batch", str(tokens), "--max-rejects", "1")
    command = [sys.executable, "-c", start, "bucket", str(source), "--layout", layout, *sized]
    subprocess.run([*command, "--overwrite", "--quiet", "-o", str(output)], check=True)


def _in_order(folder: Path, tokens: int, steps: int, seed: int) -> tuple[shards.Rows, list[int]]:
    """The packed rows, and in which order glmtrain takes them, one a step."""
    from glmtrain import data, settings
    from glmtrain.course import Course

    loaded = data.load([str(folder)])
    course = Course(loaded, settings.Data(tokens_per_batch=tokens), seed=seed)
    work = course.work(0, steps)
    return loaded.rows, [int(row) for one in work for batch in one.batches for row in batch.rows]


def _write(path: Path, rows: shards.Rows, order: list[int], *, positions: bool) -> None:
    made = []
    for row in order:
        part = slice(rows.offsets[row], rows.offsets[row + 1])
        ids = rows.input_ids[part]
        columns: dict[str, Any] = {
            "input_ids": ids,
            "labels": np.where(rows.loss_mask[part] == 1, ids, IGNORED),
        }
        if positions:
            columns["position_ids"] = rows.position_ids[part]
        made.append(columns)
    pq.write_table(pa.Table.from_pylist(made), path)


def write_model(name: str, folder: Path, layers: int) -> None:
    """A random model: the tiny one of glmtrain, a small one, or layers of GLM-4-9B's size."""
    import torch
    from glmtrain import model
    from transformers import GlmConfig, GlmForCausalLM

    with model.quiet_libraries():
        if name == "tiny":
            model.tiny().save_pretrained(folder)
            return
        shape = model.tiny_config() | {"initializer_range": 0.02}
        on_gpu = name == "stack"
        if on_gpu:
            memory = torch.cuda.get_device_properties(0).total_memory / GIB
            fit = int((memory - RESERVED) / EACH)
            shape |= NINE_BILLION | {"num_hidden_layers": layers or min(40, max(1, fit))}
        else:
            shape |= SMALL
        torch.manual_seed(0)
        torch.set_default_dtype(torch.bfloat16 if on_gpu else torch.float32)
        with torch.device("cuda" if on_gpu else "cpu"):
            made = GlmForCausalLM(GlmConfig(**shape))
        made.save_pretrained(folder)


def costs(folder: Path, *, rank: int, checkpointing: bool) -> Any:
    """The operations of a token of a model with LoRA, for MFU; it takes no memory."""
    import torch
    from glmtrain import flops, methods, model
    from glmtrain.config import build
    from transformers import AutoConfig, AutoModelForCausalLM

    with model.quiet_libraries(), torch.device("meta"):
        base = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
        asked: dict[str, dict[str, Any]] = {
            "model": {"gradient_checkpointing": checkpointing},
            "lora": {"rank": rank, "alpha": 1.0, "dropout": 0.0},
        }
        config = build([("bench", asked)])
        asked["lora"]["target_modules"] = list(methods.targets(base, config))
        learner = methods.prepare(base, build([("bench", asked)]), torch.float32)
    return flops.of(learner)


def described(folder: Path) -> str:
    """A model's size in words."""
    config = json.loads((folder / "config.json").read_bytes())
    layers, width = config["num_hidden_layers"], config["hidden_size"]
    return f"{layers} layers, width {width:,}, vocabulary {config['vocab_size']:,}"


if __name__ == "__main__":
    write_model(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
