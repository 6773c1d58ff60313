"""Who trains in bench/train.py, and one run of each.

The first step of a run is not measured. Real tokens are those of the conversations, supervised ones
those of them that have a label, both divided by the same seconds.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import train_setup
from measure import measure
from train_setup import Data

BENCH = Path(__file__).resolve().parent
RANK, ALPHA, RATE, SEED = 16, 32, 1e-4, 1
QUIET = {
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "WANDB_MODE": "disabled",
    "PYTHONWARNINGS": "ignore",
}
HUGGING_FACE = ("transformers", "accelerate", "peft")
TRL = (*HUGGING_FACE, "datasets", "trl")


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One that trains. `key` names it in train_peers.py; None for glmtrain.

    `reads` is which of the files it gets, `needs` what its environment has to hold.
    """

    name: str
    key: str | None
    reads: str
    needs: tuple[str, ...] = ()


CONTENDERS = (
    # Batches of as many rows as the tokens of a step allow.
    Contender(name="glmtrain, packed", key=None, reads="packed"),
    Contender(name="glmtrain, buckets", key=None, reads="buckets"),
    # Always the same number of rows, such that padded batches have the tokens of a step on average.
    Contender(name="HF Trainer, padded", key="padded", reads="rows", needs=HUGGING_FACE),
    Contender(name="HF Trainer, by length", key="by-length", reads="rows", needs=HUGGING_FACE),
    # The very batches of `glmtrain, packed`.
    Contender(
        name="HF Trainer, rows of glmprep", key="our-rows", reads="packed_rows", needs=HUGGING_FACE
    ),
    Contender(name="TRL", key="trl", reads="rows", needs=TRL),
    # Rows packed by TRL to the tokens of a step, one row a step.
    Contender(name="TRL, packing", key="trl-packing", reads="rows", needs=TRL),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What is trained in one round: a model with its data, by all contenders."""

    model: str
    folder: Path
    data: Data
    tokens: int
    steps: int
    dtype: str
    attention: str
    checkpointing: bool


def python_with(modules: tuple[str, ...], environments: Path) -> str | None:
    """The interpreter of TRL's environment, or this one, if it has the modules."""
    asked = "import importlib.util as u, sys; sys.exit(not all(map(u.find_spec, sys.argv[1:])))"
    for python in (str(environments / "trl/bin/python"), sys.executable):
        if Path(python).exists():
            told = subprocess.run([python, "-c", asked, *modules], check=False)
            if not told.returncode:
                return python
    return None


def runners(environments: Path, only: list[str] | None) -> dict[Contender, str]:
    """All that can run here, each with its interpreter."""
    found = {}
    for one in CONTENDERS:
        if only and one.name not in only:
            continue
        python = python_with(one.needs, environments) if one.needs else sys.executable
        if python is None:
            needed = ", ".join(one.needs)
            print(f"{one.name} is left out: it needs {needed}; run bench/peers.sh")
        else:
            found[one] = python
    return found


def specification(one: Contender, this: Round, work: Path) -> dict[str, Any]:
    """What a contender's process is told."""
    data = this.data
    path = data.shards(one.reads) if one.key is None else getattr(data, one.reads)
    return {
        "contender": one.key,
        "model": str(this.folder),
        "data": str(path),
        "output": str(work / "output"),
        "batch": train_setup.rows_per_batch(data.lengths, this.tokens),
        "pad_id": data.pad_id,
        "tokens": this.tokens,
        "steps": this.steps,
        "dtype": this.dtype,
        "attention": this.attention,
        "checkpointing": this.checkpointing,
        "rank": RANK,
        "alpha": ALPHA,
        "rate": RATE,
        "seed": SEED,
    }


def run(one: Contender, python: str, this: Round, costs: Any) -> dict[str, Any]:
    """One run; raises Failed."""
    with tempfile.TemporaryDirectory(prefix="glmtrain-bench-") as folder:
        work = Path(folder)
        spec, result, log = work / "spec.json", work / "result.json", work / "log.txt"
        spec.write_text(json.dumps(specification(one, this, work)))
        script = "train_ours.py" if one.key is None else "train_peers.py"
        command = [python, str(BENCH / script), str(spec), str(result)]
        taken = measure(command, {**QUIET, "HF_HOME": str(work / "cache")}, log)
        found = json.loads(result.read_bytes())
    return {**figures(found, this, costs), "wall": taken.wall, "process": taken.resident}


def figures(found: dict[str, Any], this: Round, costs: Any) -> dict[str, Any]:
    """Rates over all steps but the first, and what they are a share of."""
    seconds = sum(found["seconds"])
    tokens, supervised, computed, squares = (
        sum(found[name][1:]) for name in ("tokens", "supervised", "computed", "squares")
    )
    share = None
    if found["device"] is not None:
        import torch
        from glmtrain import flops

        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[this.dtype]
        peak = flops.peak_of(found["device"], dtype)
        done = costs.step(tokens=tokens, labelled=supervised, squares=squares).model
        share = flops.mfu(done, seconds, peak)
    return {
        "tokens_per_second": tokens / seconds,
        "supervised_per_second": supervised / seconds,
        "padding": 1 - tokens / computed,
        "tokens_per_step": tokens / len(found["seconds"]),
        "resident": found["resident"],
        "cuda": found["cuda"],
        "mfu": share,
        "first_loss": found["first_loss"],
        "device": found["device"],
    }
