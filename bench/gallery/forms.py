"""Logs as other trainers write them, written while Hugging Face's Trainer trains.

LLaMA-Factory and ms-swift train with a Trainer of their own making on top of Hugging Face's, and
log what it logs under names of their own. These callbacks write the same fields from the same run;
axolotl's and the plain Trainer's console is what the Trainer prints.
"""

from __future__ import annotations

import json
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
from transformers import TrainerCallback

GIB = 1 << 30
HF, LLAMAFACTORY, SWIFT, CONSOLE = "hf", "llamafactory", "swift", "console"


def callbacks_of(form: str) -> list[Any]:
    """What writes the log of this form; none for trainer_state.json, which the Trainer saves."""
    made = {LLAMAFACTORY: LlamaFactoryLog, SWIFT: SwiftLog, CONSOLE: ConsoleLog}.get(form)
    return [] if made is None else [made()]


class Written(TrainerCallback):  # type: ignore[misc]
    """A log file in the output folder, a line each time the Trainer logs."""

    name: str

    def __init__(self) -> None:
        self._began = time.time()

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Time counts from here."""
        self._began = time.time()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """One line."""
        line = self.line(state, logs or {})
        if line is not None:
            path = Path(args.output_dir) / self.name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")

    def line(self, state: Any, logs: dict[str, Any]) -> str | None:
        """The line for what was logged; None for none."""
        raise NotImplementedError

    def times(self, state: Any) -> tuple[float, float]:
        """Seconds since the start, and those left at this pace."""
        taken = time.time() - self._began
        return taken, taken / max(1, state.global_step) * (state.max_steps - state.global_step)


class LlamaFactoryLog(Written):
    """trainer_log.jsonl."""

    name = "trainer_log.jsonl"

    def line(self, state: Any, logs: dict[str, Any]) -> str | None:
        """Those of its fields that have a value."""
        if not logs.keys() & {"loss", "eval_loss"}:
            return None
        taken, left = self.times(state)
        fields = {
            "current_steps": state.global_step,
            "total_steps": state.max_steps,
            "loss": logs.get("loss"),
            "eval_loss": logs.get("eval_loss"),
            "lr": logs.get("learning_rate"),
            "epoch": logs.get("epoch"),
            "percentage": round(state.global_step / state.max_steps * 100, 2),
            "elapsed_time": str(timedelta(seconds=int(taken))),
            "remaining_time": str(timedelta(seconds=int(left))),
        }
        return json.dumps({name: value for name, value in fields.items() if value is not None})


class SwiftLog(Written):
    """logging.jsonl; memory is the most that the process held so far, as there is no card."""

    name = "logging.jsonl"

    def __init__(self) -> None:
        super().__init__()
        self._peak = 0.0

    def line(self, state: Any, logs: dict[str, Any]) -> str | None:
        """What the Trainer logged, rounded, with progress, memory and speed behind it."""
        if not logs.keys() & {"loss", "eval_loss"}:
            return None
        taken, left = self.times(state)
        self._peak = max(self._peak, psutil.Process().memory_info().rss / GIB)
        fields = {name: _rounded(value) for name, value in logs.items() if name != "epoch"}
        fields |= {
            "memory(GiB)": round(self._peak, 2),
            "train_speed(iter/s)": round(state.global_step / taken, 6),
            "epoch": _rounded(logs.get("epoch", 0.0)),
            "global_step/max_steps": f"{state.global_step}/{state.max_steps}",
            "percentage": f"{state.global_step / state.max_steps * 100:.2f}%",
            "elapsed_time": _words(taken),
            "remaining_time": _words(left),
        }
        return json.dumps(fields)


class ConsoleLog(Written):
    """What the Trainer prints, kept in a file as `2>&1 | tee train.log` does."""

    name = "train.log"

    def line(self, state: Any, logs: dict[str, Any]) -> str | None:
        """The printed dictionary."""
        return str({name: _short(value) for name, value in logs.items()})


def _rounded(value: Any) -> Any:
    return round(value, 8) if isinstance(value, float) else value


def _short(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _words(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}m {rest}s" if minutes else f"{rest}s"
