"""Training logs: our `metrics.jsonl` and the Hugging Face Trainer's `trainer_state.json`.

A log is read as it is found: cut off in its last line, with bare NaN and Infinity (which JSON does
not have, but Python writes), without this or that field, with steps that go back after a resume.
What could not be seen is said in `Log.notes`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, TypeAlias

from glmprep.console import file_errors
from glmprep.errors import InputError
from glmreport.text import Text
from glmtrain.detectors import Step

Entry: TypeAlias = Mapping[str, Any]
Kind: TypeAlias = Literal["metrics", "trainer_state"]
LONGEST_LINE = 1 << 24  # characters; a step takes some hundred
LARGEST_STATE = 1 << 28  # bytes; a trainer_state.json of a million steps takes a half of it
HINT = "give a metrics.jsonl or a trainer_state.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """The steps of a training log, and notes about what it does not show."""

    path: Path
    kind: Kind
    steps: Sequence[Step]
    notes: Sequence[Text]

    @property
    def losses(self) -> list[tuple[int, float]]:
        """Steps with their loss, NaN where it is not finite."""
        found = []
        for step in self.steps:
            if step.broken or step.hidden:
                found.append((step.step, math.nan))
            elif step.loss is not None:
                found.append((step.step, step.loss))
        return found

    def as_json(self) -> dict[str, Any]:
        """The log in sums as plain JSON values."""
        finite = [loss for _, loss in self.losses if math.isfinite(loss)]
        return {
            "kind": self.kind,
            "logged_steps": len(self.steps),
            "first_step": self.steps[0].step,
            "last_step": self.steps[-1].step,
            "first_loss": finite[0] if finite else None,
            "last_loss": finite[-1] if finite else None,
            "lowest_loss": min(finite, default=None),
        }


def read(path: Path) -> Log:
    """Read a training log; raises InputError for a file that is none."""
    with file_errors(path):
        if path.is_dir():
            raise InputError(f"{path}: is a folder; {HINT}")
        if path.stat().st_size == 0:
            raise InputError(f"{path}: is empty; {HINT}")
        try:
            with path.open(encoding="utf-8") as file:
                kind, entries, notes = _entries(path, file)
                steps = _steps(entries)
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: is not text (byte {error.start}); {HINT}") from error
    if not any(step.loss is not None or step.broken for step in steps):
        raise InputError(f"{path}: has no step with a loss, so it is no training log; {HINT}")
    return Log(path=path, kind=kind, steps=steps, notes=[*notes, *_unseen(steps)])


def _entries(path: Path, file: Any) -> tuple[Kind, Iterable[Entry], list[Text]]:
    """The entries of either kind of file, told apart by what its first line is."""
    notes: list[Text] = []
    first = next((line for line in _lines(path, file) if line.strip()), "")
    entry = _parsed(first)
    if isinstance(entry, dict) and "log_history" not in entry:
        file.seek(0)
        return "metrics", _each_line(path, file, notes), notes
    file.seek(0)
    text = file.read(LARGEST_STATE)
    if len(text) == LARGEST_STATE:
        raise InputError(f"{path}: is larger than {LARGEST_STATE >> 20} MiB; {HINT}")
    state = _parsed(text)
    if state is None:
        raise InputError(f"{path}: is not JSON, or was cut off; {HINT}")
    history = state.get("log_history") if isinstance(state, dict) else None
    if not isinstance(history, list):
        raise InputError(f"{path}: is JSON, but no training log; {HINT}")
    return "trainer_state", [each for each in history if isinstance(each, dict)], notes


def _each_line(path: Path, file: Any, notes: list[Text]) -> Iterator[Entry]:
    """The object on each line; notes say how many lines were none, and whether the last was cut."""
    damaged, last_line, whole = 0, 0, True
    for number, line in enumerate(_lines(path, file), 1):
        if not line.strip():
            continue
        entry = _parsed(line)
        last_line, whole = number, isinstance(entry, dict)
        damaged += not whole
        if isinstance(entry, dict):
            yield entry
    if not whole and damaged:
        notes.append(Text("diag.log.note.cut_off", line=last_line))
        damaged -= 1
    if damaged:
        notes.append(Text("diag.log.note.damaged", count=damaged))


def _lines(path: Path, file: Any) -> Iterator[str]:
    while line := file.readline(LONGEST_LINE):
        if len(line) == LONGEST_LINE:
            raise InputError(f"{path}: a line is longer than 16 million characters; {HINT}")
        yield line


def _parsed(text: str) -> Any:
    """A JSON value, None for what is not JSON (or nested beyond reason)."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _steps(entries: Iterable[Entry]) -> list[Step]:
    """The training steps among the entries; evaluations and summaries have no `loss`."""
    steps = []
    for entry in entries:
        number = entry.get("step")
        if not isinstance(number, int) or isinstance(number, bool):
            continue
        loss = _number(entry, "loss", "nonfinite")
        if loss is None and "loss" not in entry:
            continue
        nonfinite = None if loss is None or math.isfinite(loss) else str(loss)
        event = entry.get("event")
        steps.append(
            Step(
                step=number,
                loss=None if nonfinite else loss,
                grad_norm=_number(entry, "grad_norm", "nonfinite_grad_norm"),
                learning_rate=_number(entry, "learning_rate"),
                nonfinite=nonfinite,
                event=event if isinstance(event, str) else None,
            )
        )
    return steps


def _number(entry: Entry, name: str, beside: str = "") -> float | None:
    """A number; where it is null, the name of a number that JSON does not have stands beside it."""
    value = entry.get(name)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:  # an integer of hundreds of digits
            return math.inf
    return float(entry[beside]) if entry.get(beside) in ("nan", "inf", "-inf") else None


def _unseen(steps: Sequence[Step]) -> Iterator[Text]:
    """Notes on fields that no step has, and on steps that go back."""
    for name in ("grad_norm", "learning_rate"):
        if all(getattr(step, name) is None for step in steps):
            yield Text(f"diag.log.note.no_{name}")
    for before, after in pairwise(steps):
        if after.step < before.step:
            yield Text("diag.log.note.resumed", step=after.step, before=before.step)
