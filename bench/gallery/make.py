"""Make the gallery: run what is planned, keep the records, pack them.

    python bench/gallery/make.py                    # all that is not there yet, then pack
    python bench/gallery/make.py rc001 healthy      # kinds whose names begin so
    python bench/gallery/make.py rc001 --seed 1 --again --no-pack

Records are kept in ~/.cache/glmprep-bench/gallery, archives go to tests/gallery. All of it takes
about half an hour on one core; a run that was broken off is made again.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
import traceback
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.update({"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"})

import base
import faults_data
import faults_formats
import faults_memory
import faults_rates
import faults_weights
import healthy
import record
import torch
from cache import CACHE, DRAW, RECORDS
from glmtrain.model import quiet_libraries
from plans import REGISTRY, Plan
from words import words

ARCHIVES = Path(__file__).resolve().parents[2] / "tests/gallery"
LISTS = (faults_data, faults_formats, faults_rates, faults_memory, faults_weights, healthy)
"""The modules that register plans when they are imported."""
LONGEST = 300  # seconds that a run may take


def main() -> None:
    """Make what was asked for."""
    asked = _arguments()
    torch.set_num_threads(1)
    base.base()
    _get_ready()
    plans = [plan for plan in REGISTRY if _wanted(plan, asked)]
    failed = [plan.name for plan in plans if _due(plan, asked.again) and not _made(plan)]
    if failed:
        print("failed:", *failed)
    if asked.pack:
        if DRAW:
            sys.exit("only draw 0 is packed; pass --no-pack")
        made = record.pack(list(REGISTRY), ARCHIVES)
        size = sum(path.stat().st_size for path in made)
        print(f"{len(made)} archives, {size / 1e6:.2f} MB")
    sys.exit(bool(failed))


def _get_ready() -> None:
    """Import once what every run needs; the processes of the runs are forked from this one."""
    with quiet_libraries():
        import peft  # noqa: F401
        from glmtrain import run  # noqa: F401
        from transformers import GlmForCausalLM, Trainer  # noqa: F401
    words()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("kinds", nargs="*", help="kinds whose names begin so; all by default")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--again", action="store_true", help="also those that are there")
    parser.add_argument("--no-pack", dest="pack", action="store_false")
    return parser.parse_args()


def _wanted(plan: Plan, asked: argparse.Namespace) -> bool:
    named = not asked.kinds or any(plan.kind.startswith(kind) for kind in asked.kinds)
    return named and asked.seed in (None, plan.seed)


def _due(plan: Plan, again: bool) -> bool:
    return again or not (RECORDS / plan.name / "truth.json").exists()


def _made(plan: Plan) -> bool:
    """Run a plan in a process and folder of its own; says how long it took."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="gallery-") as name:
        folder, log = Path(name) / "work", CACHE / "logs" / f"{plan.name}.txt"
        log.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir()
        record.begin(folder)
        child = multiprocessing.get_context("fork").Process(target=_run, args=(plan, folder, log))
        child.start()
        child.join(LONGEST)
        if child.is_alive():
            child.kill()
            child.join()
        done = child.exitcode == 0
    print(f"{plan.name}  {'' if done else 'FAILED '}{time.monotonic() - started:.1f} s", flush=True)
    return done


def _run(plan: Plan, folder: Path, log: Path) -> None:
    """In the child: what the run prints goes to a log of ours, which is no part of the record."""
    os.chdir(folder)
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            plan.work(plan.seed)
            record.finish(plan, Path())
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
