"""What each of two processes does for the tests of strategies; see `test_strategies`.

Run as a script, with the environment that torchrun gives.
"""

from __future__ import annotations

import json
import math
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from glmprep.errors import SuiteError
from glmtrain import data, devices, methods, model, precision, settings, strategies
from glmtrain.batches import Batch, collate
from safetensors.torch import load_file, save_file

LINEAR = ("down_proj", "gate_up_proj", "k_proj", "o_proj", "q_proj", "v_proj")
PARTS, STEPS, LIMIT, RATE = 2, 4, 0.5, 0.02
SMALL = settings.Devices(bucket_mb=1)


def build(place, model_folder, method):
    chosen = settings.Config(
        model=settings.Model(path=str(model_folder), method=method),
        optimiser=settings.Optimiser(learning_rate=RATE, weight_decay=0.1),
        lora=settings.Lora(rank=3, alpha=6.0, dropout=0.0, target_modules=LINEAR),
        devices=replace(SMALL, strategy=place.strategy),
    )
    how = precision.choose(settings.Precision(dtype="fp32"), place.device)
    with place.turn():
        base = model.load(str(model_folder), how.frozen_dtype(method))
        learner = methods.prepare(base, chosen, how.dtype)
        return strategies.make(place, learner, chosen, how)


def parts_of(place, rows, step):
    """Two rows a part, dealt out to the ranks; one part has one row, so that a rank has none."""
    for part in range(PARTS):
        first = (step * PARTS + part) * 2
        all_rows = np.arange(first, first + (1 if (step, part) == (1, 1) else 2))
        mine = Batch(rows=all_rows[place.rank :: place.ranks], bucket=0, packed=False)
        yield collate(rows.rows, mine, rows.pad_id, place.device)


def train_step(place, strategy, rows, step, *, spoil=1.0, **how):
    """The loss and the norm of one step; this rank's losses are multiplied with `spoil`."""
    parts = list(parts_of(place, rows, step))
    (labelled,) = place.total([sum(part.supervised for part in parts)])
    mean = 0.0
    for part in parts:
        with strategy.accumulating(last=part is parts[-1]):
            loss = strategy.model(part) / labelled * spoil
            strategy.backward(loss)
        mean += float(loss.detach())
    strategy.set_rate(RATE)
    norm = strategy.clip_and_step(LIMIT, **{"sound": math.isfinite(mean), **how})
    return place.total([mean])[0], norm


def course(place, strategy, rows, reference=None):
    """Train, and whatever else is asked of a strategy; returns numbers and named tensors."""
    found = {"steps": [train_step(place, strategy, rows, step) for step in range(STEPS // 2)]}
    tensors = {"half": kept(strategy)}
    found["steps"] += [train_step(place, strategy, rows, s) for s in range(STEPS // 2, STEPS)]
    tensors["end"] = kept(strategy)
    with strategy.whole() as learner, torch.no_grad():
        found["logits"] = learner.causal(torch.arange(8)[None]).logits.double().abs().sum().item()

    refused = {
        "unsound": {"sound": not place.main if place.ranks > 1 else False},
        "not a number": {"spoil": float("nan") if place.rank == place.ranks - 1 else 1.0},
        "not accepted": {"accept": lambda norm: norm < 0},
    }
    for name, how in refused.items():
        train_step(place, strategy, rows, 0, **how)
        tensors[name] = kept(strategy)

    if reference is not None:
        strategy.load_weights(load_file(reference / "weights.half.safetensors"))
        strategy.load_optimiser_state(load_file(reference / "state.half.safetensors"))
        again = range(STEPS // 2, STEPS)
        found["again"] = [train_step(place, strategy, rows, step) for step in again]
    return found, tensors


def kept(strategy):
    return {"weights": strategy.weights(), "state": strategy.optimiser_state()}


def write(folder, found, tensors):
    folder.mkdir(parents=True)
    (folder / "found.json").write_text(json.dumps(found))
    for when, both in tensors.items():
        for kind, values in both.items():
            save_file(values, folder / f"{kind}.{when}.safetensors")


def talk(place):
    """What the processes tell one another, and what becomes of one whose partner is gone."""
    return {
        "total": place.total([place.rank + 1, 0.5]),
        "any": [place.any(not place.main), place.any(False)],
        "share": place.share({"from": place.rank, "文": [1]}),
    }


def main(model_folder, shards, output, names):
    torch.set_num_threads(1)
    with model.quiet_libraries(), devices.join(SMALL) as joined:
        rows = data.load((str(shards),))
        talked = talk(joined)
        for name, method in (each.split(":") for each in names):
            place = replace(joined, strategy=name)
            strategy = build(place, model_folder, method)
            found = course(place, strategy, rows, output / "single" / method)
            if place.main:
                write(output / name / method, *found)
        (output / f"talked.{joined.rank}.json").write_text(json.dumps(talked))


def lonely(output):
    """One process is killed; the other goes on to exchange something."""
    try:
        with devices.join(SMALL) as place:
            if not place.main:
                os._exit(9)
            place.total([1.0])
    except SuiteError as error:
        (output / "lost.txt").write_text(str(error))


if __name__ == "__main__":
    if sys.argv[1] == "lonely":
        lonely(Path(sys.argv[2]))
    else:
        main(*map(Path, sys.argv[1:4]), sys.argv[4:])
