"""Checkpoints: a folder a time, whole or not there, in safetensors and JSON only.

    OUTPUT/checkpoints/step-000040/
        weights.safetensors    all that learns, by the model's own names
        trainer.safetensors    what the optimiser remembers
        state.json             step, loss scale, what guard and patience remember
        adapter_model.safetensors, adapter_config.json    of an adapter, to try it out

Order of the data, learning rate and random numbers follow from the step, so they need no state of
their own. What is saved is whole, whichever devices share it, so a run may go on with others.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from glmprep.console import file_errors
from glmprep.errors import InputError, UsageError

from glmtrain import methods
from glmtrain.devices import Place
from glmtrain.strategies import Strategy

FOLDER = "checkpoints"
STATE = "state.json"
WEIGHTS = "weights.safetensors"
TRAINER = "trainer.safetensors"


class Remembers(Protocol):
    """Something that changes from step to step, small enough for JSON."""

    def state(self) -> dict[str, Any]:
        """All that changes."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Put back what `state` gave; raises KeyError where something is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """All of a run that changes from step to step. Its methods are joint acts of all processes."""

    place: Place
    strategy: Strategy
    parts: Mapping[str, Remembers]

    def save(self, output: Path, step: int, *, keep: int, best: int | None = None) -> None:
        """Write the checkpoint of `step`, then drop all but the latest `keep` and the `best`."""
        self.write(output / FOLDER / named(step), step)
        if self.place.main:
            for old in listed(output)[:-keep]:
                if step_of(old) != best:
                    shutil.rmtree(old)
        self.place.barrier()

    def write(self, folder: Path, step: int, beside: Mapping[str, str] | None = None) -> None:
        """Write what a run is after `step` into a folder; `beside` are texts of files beside it."""
        weights, memory = self.strategy.weights(), self.strategy.optimiser_state()
        if not self.place.main:
            return
        with file_errors(folder), _whole(folder) as temporary:
            self._write(temporary, step, weights, memory)
            for name, text in (beside or {}).items():
                (temporary / name).write_text(text, encoding="utf-8")

    def restore(self, folder: Path) -> int:
        """Put everything back as it was; returns the step.

        Raises InputError where the checkpoint is damaged or of another run.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        self.restore_weights(folder)
        try:
            state = json.loads((folder / STATE).read_text(encoding="utf-8"))
            self.strategy.load_optimiser_state(load_file(folder / TRAINER))
            self.strategy.load_scaler_state(state["scaler"])
            for name, part in self.parts.items():
                part.restore(state[name])
            return int(state["step"])
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise InputError(f"{folder}: not a whole checkpoint ({error!r}); remove it") from error

    def restore_weights(self, folder: Path) -> None:
        """Put back the weights alone; raises InputError where they are not those of this run."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            self.strategy.load_weights(load_file(folder / WEIGHTS))
        except (OSError, KeyError, RuntimeError, SafetensorError) as error:
            raise InputError(f"{folder}: its weights do not fit the model ({error!r})") from error

    def _write(
        self, folder: Path, step: int, weights: Mapping[str, Any], memory: Mapping[str, Any]
    ) -> None:
        from safetensors.torch import save_file

        learner = self.strategy.learner
        save_file(dict(weights), folder / WEIGHTS)
        if learner.adapter is not None:
            methods.save(learner, folder, weights)
        save_file(dict(memory), folder / TRAINER)
        state: dict[str, Any] = {"step": step, "scaler": self.strategy.scaler_state()}
        state |= {name: part.state() for name, part in self.parts.items()}
        (folder / STATE).write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")


def latest(output: Path) -> Path:
    """The newest checkpoint; raises UsageError where there is none."""
    found = listed(output)
    if not found:
        raise UsageError(f"{output}: no checkpoint to resume from; run again without --resume")
    return found[-1]


def of_step(output: Path, step: int) -> Path | None:
    """The checkpoint of a step, None where it isn't kept."""
    return next((folder for folder in listed(output) if step_of(folder) == step), None)


def until(output: Path, step: int) -> Path | None:
    """The newest checkpoint of a step up to `step`, None without one."""
    return next((folder for folder in reversed(listed(output)) if step_of(folder) <= step), None)


def named(step: int) -> str:
    """The name of a step's folder."""
    return f"step-{step:06d}"


def listed(output: Path, kind: str = FOLDER) -> list[Path]:
    """The folders of steps, earliest first; `kind` is where they lie."""
    return sorted((output / kind).glob("step-*"), key=step_of)


def step_of(folder: Path) -> int:
    """The step that a folder is named by."""
    return int(folder.name.removeprefix("step-"))


@contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """A folder to write in, which gets its name once all of it is on the disk."""
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    yield temporary
    for path in temporary.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)
