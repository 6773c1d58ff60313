"""One optimiser step after the other: glmtrain beside Hugging Face's Trainer and TRL.

    bash bench/peers.sh                                # once: installs TRL, in its own environment
    python bench/train.py --checkpointing              # all of it
    python bench/train.py --models tiny --tokens 1024 --steps 6 --repeats 1     # quick
    python bench/train.py --models stack               # on a GPU; no network is needed

The same models, conversations, ids and labels for all, LoRA of one rank on all linear layers, the
same number of steps. Each runs in turn in a process of its own, N times over, so that a change in
the machine's speed meets all. A step may take so many tokens, as far as each can be told so: see
train_contenders.py. The stack (layers of GLM-4-9B's size, random weights, bf16, 8,192 tokens) is
left out where there is no CUDA. A trainer without an environment of its own is looked for in this
one.

Prints tables in Markdown and writes bench/results/train.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import train_setup
import train_table
from measure import Failed
from train_contenders import BENCH, RANK, SEED, Contender, Round, run, runners

RESULTS = BENCH / "results/train.json"
ENVIRONMENTS = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "glmprep-bench"


def turns(this: Round, taking_part: dict[Contender, str], repeats: int) -> dict[str, Any]:
    """All contenders in turn, again and again; who fails is told, and takes part no more."""
    costs = None  # MFU is told on CUDA alone
    if torch.cuda.is_available():
        costs = train_setup.costs(this.folder, rank=RANK, checkpointing=this.checkpointing)
    going, failed = dict(taking_part), {}
    made: list[dict[str, Any]] = []
    for turn in range(1, repeats + 1):
        made.append({})
        for one, python in list(going.items()):
            try:
                found = made[-1][one.name] = run(one, python, this, costs)
            except Failed as error:
                out = "out of memory" in str(error).lower()
                failed[one.name] = "out of memory" if out else "failed"
                print(f"{one.name} is left out: {error}", file=sys.stderr)
                del going[one]
                continue
            rate = f"{found['supervised_per_second']:10,.1f} supervised tokens/s"
            print(f"{turn}  {this.model:6} {one.name:28}{rate}{found['wall']:7.1f} s", flush=True)
    stays = {one.name for one in going}
    return {
        "model": this.model,
        "shape": train_setup.described(this.folder),
        "tokens": this.tokens,
        "steps": this.steps,
        "dtype": this.dtype,
        "checkpointing": this.checkpointing,
        "failed": failed,
        "turns": [{name: turn[name] for name in turn if name in stays} for turn in made],
    }


def rounds(options: argparse.Namespace, work: Path) -> list[Round]:
    """What there is to train here; models and data are made unless `--work` has them."""
    found = []
    for name in options.models:
        on_gpu = name == "stack"
        if on_gpu and not torch.cuda.is_available():
            print("stack is left out: there is no CUDA device here")
            continue
        tokens = options.long if on_gpu else options.tokens
        folder = work / name
        if not (folder / "config.json").exists():
            command = [sys.executable, str(BENCH / "train_setup.py"), name, str(folder)]
            subprocess.run([*command, str(options.layers)], check=True)
        data = train_setup.prepare(
            work / f"data-{tokens}", tokens=tokens, steps=options.steps, seed=SEED
        )
        for checkpointing in (False, True) if options.checkpointing else (False,):
            found.append(
                Round(
                    model=name,
                    folder=folder,
                    data=data,
                    tokens=tokens,
                    steps=options.steps,
                    dtype="bf16" if on_gpu else "fp32",
                    attention=options.attention,
                    checkpointing=checkpointing,
                )
            )
    return found


def versions(pythons: set[str]) -> dict[str, str]:
    """What is installed beside each interpreter."""
    asked = (
        "import importlib.metadata as m\n"
        "known = {d.name.lower() for d in m.distributions()}\n"
        "names = ('torch', 'transformers', 'peft', 'accelerate', 'trl')\n"
        "print(*(f'{n} {m.version(n)}' for n in names if n in known), sep=', ')"
    )
    return {
        "glmtrain" if python == sys.executable else "the others": subprocess.run(
            [python, "-c", asked], check=True, capture_output=True, text=True
        ).stdout.strip()
        for python in sorted(pythons)
    }


def main() -> None:
    """Measure, print the tables, write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    kinds = ("tiny", "small", "stack")
    parser.add_argument("--models", nargs="*", choices=kinds, default=list(kinds))
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=2048, help="of a step of tiny and small")
    parser.add_argument("--long", type=int, default=8192, help="tokens of a step of the stack")
    parser.add_argument("--checkpointing", action="store_true", help="one more turn, with it")
    parser.add_argument("--layers", type=int, default=0, help="of the stack; 0: as many as fit")
    parser.add_argument("--attention", default="sdpa", help="of all, as transformers calls it")
    parser.add_argument("--only", nargs="*", help="names of those to run")
    parser.add_argument("--work", type=Path, help="a folder to keep models and data in")
    parser.add_argument("--environments", type=Path, default=ENVIRONMENTS)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    if options.steps < 2:
        parser.error("--steps is at least 2: the first is not measured")
    taking_part = runners(options.environments, options.only)
    with tempfile.TemporaryDirectory(prefix="glmtrain-bench-") as folder:
        results = {
            "date": time.strftime("%Y-%m-%d"),
            "machine": f"{os.cpu_count()} cores, Python {platform.python_version()}",
            "versions": versions({sys.executable, *taking_part.values()}),
            "rounds": [
                turns(this, taking_part, 1 if this.checkpointing else options.repeats)
                for this in rounds(options, options.work or Path(folder))
            ],
        }
    options.results.parent.mkdir(exist_ok=True)
    options.results.write_text(json.dumps(results, indent=1) + "\n")
    print(train_table.tables(results))


if __name__ == "__main__":
    main()
