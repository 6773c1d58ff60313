"""What an optimiser remembers: ours in safetensors, transformers' in a pickle of tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from glmprep.errors import first_line
from safetensors import SafetensorError, safe_open
from torch import Tensor

from glmdiag.checkpoints.tensors import REFUSED, Measured, load_pickle, measure, why_unread

OURS, THEIRS = "trainer.safetensors", "optimizer.pt"
FIRST, SECOND = ("exp_avg", "state1"), ("exp_avg_sq", "state2")
STEP = "step"


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimiser:
    """An optimiser's memory: its step counts, its moments by weight, and its groups.

    `bad` tensors hold what is no number. `second` is the largest second moment of each weight, and
    `first` the largest first one.
    """

    file: str
    weights: int
    steps: Sequence[int]
    bad: Sequence[str]
    first: Mapping[str, float]
    second: Mapping[str, float]
    groups: Sequence[Mapping[str, Any]] = ()

    @property
    def never_moved(self) -> list[str]:
        """Weights whose moments are all zero though steps were made: no gradient came there."""
        if not any(self.steps):
            return []
        return [name for name, value in self.second.items() if value == 0]

    def as_json(self) -> dict[str, Any]:
        """The sums as JSON values."""
        return {
            "file": self.file,
            "weights": self.weights,
            "steps": sorted(set(self.steps)),
            "not_finite": list(self.bad),
            "without_gradient": self.never_moved,
        }


def read_optimiser(folder: Path) -> tuple[Optimiser | None, dict[str, str], dict[str, str]]:
    """The optimiser's memory, None where there is none, and what is damaged or was not read."""
    if (folder / OURS).is_file():
        return _ours(folder / OURS)
    if (folder / THEIRS).is_file():
        return _theirs(folder / THEIRS)
    return None, {}, {}


def _ours(path: Path) -> tuple[Optimiser | None, dict[str, str], dict[str, str]]:
    found = measure([path])
    if found.damaged or found.unread:
        return None, dict(found.damaged), dict(found.unread)
    first, second = dict(_largest(found.tensors, FIRST)), dict(_largest(found.tensors, SECOND))
    try:
        steps = _steps(path, [name for name in found.tensors if f".{STEP}." in name])
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        return None, {path.name: first_line(error)}, {}
    made = Optimiser(
        file=path.name,
        weights=len(second) or len(first),
        steps=steps,
        bad=[name for name, tensor in found.tensors.items() if tensor.bad],
        first=first,
        second=second,
    )
    return made, {}, {}


def _largest(tensors: Mapping[str, Measured], keys: Sequence[str]) -> Iterator[tuple[str, float]]:
    """The largest value of each weight's moment, `optimiser.KEY.WEIGHT`."""
    for name, tensor in tensors.items():
        key, _, weight = name.partition(".")[2].partition(".")
        if key in keys:
            yield weight, tensor.largest


def _steps(path: Path, names: Sequence[str]) -> list[int]:
    with safe_open(path, framework="pt") as file:
        return [int(file.get_tensor(name)) for name in names]


def _theirs(path: Path) -> tuple[Optimiser | None, dict[str, str], dict[str, str]]:
    try:
        held = load_pickle(path)
        return _of_pickle(path.name, held["state"], held["param_groups"]), {}, {}
    except REFUSED as error:
        return None, {}, {path.name: why_unread(error)}
    except AttributeError:
        return None, {}, {path.name: "not the state of an optimiser"}


def _of_pickle(file: str, state: Any, groups: Any) -> Optimiser:
    first, second, steps, bad = {}, {}, [], []
    for weight, kept in state.items():
        for key, value in kept.items():
            if key == STEP:
                steps.append(int(value))
            if not isinstance(value, Tensor) or not value.is_floating_point() or not value.numel():
                continue
            least, most = (float(x) for x in torch.aminmax(value.float()))
            if not (abs(least) < float("inf") and abs(most) < float("inf")):
                bad.append(f"{key} of weight {weight}")
            name, largest = str(weight), max(abs(least), abs(most))
            if key in FIRST:
                first[name] = largest
            if key in SECOND:
                second[name] = largest
    plain = [
        {k: v for k, v in group.items() if isinstance(v, bool | int | float | tuple | list)}
        for group in groups
    ]
    return Optimiser(
        file=file,
        weights=len(state),
        steps=steps,
        bad=bad,
        first=first,
        second=second,
        groups=[{k: v for k, v in group.items() if k != "params"} for group in plain],
    )
