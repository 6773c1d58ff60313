"""Checkpoints: a folder a time, whole or not there, in safetensors and JSON only.

    OUTPUT/checkpoints/step-000040/
        adapter_model.safetensors, adapter_config.json    (or a whole model)
        trainer.safetensors    AdamW's moments, random generators' states
        state.json             step, loss scale

Order of the data and the learning rate follow from the step, so they need no state of their own.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from glmprep.console import file_errors
from glmprep.errors import InputError, UsageError
from torch import Tensor

from glmtrain import methods
from glmtrain.learner import Learner
from glmtrain.optimiser import load_state_tensors, state_tensors
from glmtrain.precision import Precision

FOLDER = "checkpoints"
STATE = "state.json"
TRAINER = "trainer.safetensors"
CPU_GENERATOR, CUDA_GENERATOR = "generator.cpu", "generator.cuda"


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """All of a run that changes from step to step."""

    model: Learner
    optimiser: torch.optim.AdamW
    precision: Precision

    def save(self, output: Path, step: int, keep: int) -> Path:
        """Write the checkpoint of `step`, then drop all but the latest `keep`."""
        folder = output / FOLDER / f"step-{step:06d}"
        with file_errors(folder):
            temporary = folder.with_name(f".{folder.name}.tmp")
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            self._write(temporary, step)
            _sync(temporary)
            shutil.rmtree(folder, ignore_errors=True)
            temporary.rename(folder)
            for old in _all(output)[:-keep]:
                shutil.rmtree(old)
        return folder

    def restore(self, folder: Path) -> int:
        """Put everything back as it was; returns the step. Raises InputError if it doesn't fit."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        methods.restore(self.model, folder)
        try:
            state = json.loads((folder / STATE).read_text(encoding="utf-8"))
            tensors = load_file(folder / TRAINER)
            load_state_tensors(self.optimiser, self.model.learning(), tensors)
            _set_generators(tensors)
            if self.precision.scaler is not None and state["scaler"]:
                self.precision.scaler.load_state_dict(state["scaler"])
            return int(state["step"])
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise InputError(f"{folder}: not a whole checkpoint ({error!r}); remove it") from error

    def _write(self, folder: Path, step: int) -> None:
        from safetensors.torch import save_file

        methods.save(self.model, folder)
        moments = state_tensors(self.optimiser, self.model.learning())
        save_file({**moments, **_generators()}, folder / TRAINER)
        scaler = self.precision.scaler
        state: dict[str, Any] = {"step": step, "scaler": scaler.state_dict() if scaler else None}
        (folder / STATE).write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")


def latest(output: Path) -> Path:
    """The newest checkpoint; raises UsageError where there is none."""
    found = _all(output)
    if not found:
        raise UsageError(f"{output}: no checkpoint to resume from; run again without --resume")
    return found[-1]


def _all(output: Path) -> list[Path]:
    return sorted((output / FOLDER).glob("step-*"), key=lambda path: int(path.name[5:]))


def _generators() -> dict[str, Tensor]:
    states = {CPU_GENERATOR: torch.get_rng_state()}
    if torch.cuda.is_available():
        states[CUDA_GENERATOR] = torch.cuda.get_rng_state()
    return states


def _set_generators(tensors: Mapping[str, Tensor]) -> None:
    torch.set_rng_state(tensors[CPU_GENERATOR])
    if CUDA_GENERATOR in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors[CUDA_GENERATOR])


def _sync(folder: Path) -> None:
    """Have the files on the disk before the folder gets its name."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
