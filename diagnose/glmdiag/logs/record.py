"""A training log as it was read: its steps in columns, and notes on what it does not show."""

from __future__ import annotations

import math
import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, repeat
from pathlib import Path
from typing import Any, Literal, TypeAlias, overload

from glmreport.text import Text
from glmtrain.detectors import Step

Kind: TypeAlias = Literal[
    "metrics", "trainer_state", "llamafactory", "swift", "console", "tensorboard"
]
MISSING = -sys.float_info.max  # in a column of numbers; NaN is a value that logs do hold
WORDS = ("nonfinite", "event", "detail", "during")  # few steps have any
WHOLE = ("planned",)
RESUMES_TOLD = 5  # a log that goes back at every step is damaged, and one note says so


class Steps(Sequence[Step]):
    """Steps in columns of numbers: a million of them take some 100 MB, not a gigabyte."""

    def __init__(self, steps: Iterable[Step] = ()) -> None:
        self.numbers = array("q")
        self._columns: dict[str, array[float]] = {}
        self._words: dict[int, dict[str, str]] = {}
        for step in steps:
            self.append(step)

    def append(self, step: Step) -> None:
        """Add a step at the end."""
        self.numbers.append(step.step)
        held = 1 + step.count(None)
        for name, column in self._columns.items():
            value = getattr(step, name)
            held += value is not None
            column.append(MISSING if value is None else value)
        if held < len(step):
            self._widen(step)

    def _widen(self, step: Step) -> None:
        """Columns for what no step had so far, and words."""
        index = len(self.numbers) - 1
        told = zip(Step._fields[1:], step[1:], strict=True)
        given: dict[str, Any] = {name: value for name, value in told if value is not None}
        words = {name: given.pop(name) for name in WORDS if name in given}
        if words:
            self._words[index] = words
        for name in given.keys() - self._columns.keys():
            self._columns[name] = array("d", [MISSING]) * index + array("d", [given[name]])

    def replace_last(self, step: Step) -> None:
        """Put a step in the place of the last one."""
        index = len(self.numbers) - 1
        self.numbers.pop()
        for column in self._columns.values():
            column.pop()
        self._words.pop(index, None)
        self.append(step)

    def column(self, name: str) -> Sequence[float] | None:
        """A field of all steps, MISSING where a step has none; None where none has it."""
        return self._columns.get(name)

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, index: int) -> Step: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Step]: ...
    def __getitem__(self, index: int | slice) -> Step | Sequence[Step]:
        if isinstance(index, slice):
            return [self._at(i) for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return self._at(index % len(self))

    def __iter__(self) -> Iterator[Step]:
        columns = [self._values(name) for name in Step._fields[1:]]
        steps = map(Step._make, zip(self.numbers, *columns, strict=False))
        if not self._words:
            return steps
        none: dict[str, str] = {}
        words = self._words
        return (
            step._replace(**words.get(i, none)) if i in words else step  # type: ignore[arg-type]
            for i, step in enumerate(steps)
        )

    def _values(self, name: str) -> Iterator[Any]:
        """A column as steps have it."""
        column = self._columns.get(name)
        if column is None:
            return repeat(None)
        if name in WHOLE:
            return (None if value == MISSING else int(value) for value in column)
        if MISSING not in column:
            return iter(column)
        return (None if value == MISSING else value for value in column)

    def _at(self, index: int) -> Step:
        values: dict[str, Any] = dict(self._words.get(index, {}))
        for name, column in self._columns.items():
            if (value := column[index]) != MISSING:
                values[name] = int(value) if name in WHOLE else value
        return Step(step=self.numbers[index], **values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """The steps of a training log, and notes about what it does not show."""

    path: Path
    kind: Kind
    steps: Steps
    notes: Sequence[Text]
    pieces: Sequence[Path] = ()

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

    def points(self, name: str) -> list[tuple[int, float]]:
        """Steps with a field that they have."""
        column = self.steps.column(name)
        if column is None:
            return []
        pairs = zip(self.steps.numbers, column, strict=True)
        return [(step, value) for step, value in pairs if value != MISSING]

    def as_json(self) -> dict[str, Any]:
        """The log in sums as plain JSON values."""
        finite = [loss for _, loss in self.losses if math.isfinite(loss)]
        evaluations = [loss for _, loss in self.points("eval_loss") if math.isfinite(loss)]
        planned = self.points("planned")
        return {
            "kind": self.kind,
            "logged_steps": len(self.steps),
            "first_step": self.steps[0].step,
            "last_step": self.steps[-1].step,
            "planned_steps": int(planned[-1][1]) if planned else None,
            "first_loss": finite[0] if finite else None,
            "last_loss": finite[-1] if finite else None,
            "lowest_loss": min(finite, default=None),
            "lowest_eval_loss": min(evaluations, default=None),
        }


def unseen(steps: Steps) -> Iterator[Text]:
    """Notes on fields that no step has, and on steps that go back."""
    for name in ("grad_norm", "learning_rate"):
        if steps.column(name) is None:
            yield Text(f"diag.log.note.no_{name}")
    lacking = [name for name in ("eval_loss", "memory", "epoch") if steps.column(name) is None]
    if len(lacking) == 3:
        yield Text("diag.log.note.bare")
    elif "eval_loss" in lacking:
        yield Text("diag.log.note.no_eval_loss")
    elif "memory" in lacking:
        yield Text("diag.log.note.no_memory")
    back = [(before, after) for before, after in pairwise(steps.numbers) if after < before]
    for before, after in back[:RESUMES_TOLD]:
        yield Text("diag.log.note.resumed", step=after, before=before)
    if len(back) > RESUMES_TOLD:
        yield Text("diag.log.note.resumed_often", count=len(back) - RESUMES_TOLD)
