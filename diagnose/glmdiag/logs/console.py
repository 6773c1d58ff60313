"""Console output of trainers: the Hugging Face Trainer, axolotl, DeepSpeed, Megatron-like lines.

Numbers are found by pattern, nothing of the text is evaluated. The Trainer prints no step beside
its losses, so the step is read off its progress bar; without one, entries are counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from glmreport.text import Text
from glmtrain.detectors import Step

from glmdiag.logs.entries import LARGEST_STEP, NAMES, number, to_step

MOST_LINE = 20_000  # characters of a line that are looked at
DETAIL = 300  # characters of an error that are kept
VALUE = r"""['"]?([-+]?(?:nan|inf(?:inity)?|\d[\d,]*\.?\d*(?:e[-+]?\d+)?))['"]?"""
PAIR = re.compile(rf"""['"]([\w/()%. -]{{1,60}})['"]\s*:\s*(?:tensor\()?{VALUE}""", re.IGNORECASE)
DICT = re.compile(r"\{[^{}]*['\"](?:eval_)?loss['\"]\s*:[^{}]*\}")
BAR = re.compile(r"^\s*(\d{1,3})%\|[^|]{0,400}\|\s*(\d+)/(\d+)\s*\[")
PLAIN = re.compile(
    r"(?<![\w'\"])(global_step|iteration|steps?|lm loss|loss scale|loss|grad[ _]norm|lr|"
    r"learning[ _]rate|iter time \(s\)|samples/sec|skipped|CurrSamplesPerSec|MaxMemAllocated)"
    rf"\s*[:=]\s*\[?{VALUE}\s*(GB|MB|/\s*\d+)?",
    re.IGNORECASE,
)
OVERFLOW = re.compile(r"OVERFLOW!.{0,200}?reducing (?:loss scale )?to ([\d.e+]+)", re.IGNORECASE)
OOM = re.compile(
    r"out of memory|OutOfMemoryError|can't allocate memory|Cannot allocate memory|"
    r"CUBLAS_STATUS_ALLOC_FAILED|^MemoryError|std::bad_alloc|exit(?:code| code)?:? *-9\b|^Killed\b",
    re.IGNORECASE,
)
EVALUATING = re.compile(
    r'File ".*", line \d+, in '
    r"(?:_?evaluate\w*|evaluation_loop|prediction_(?:loop|step)|validat\w+)$"
)
TRACEBACK = re.compile(r"(?:^|\]:? ?)Traceback \(most recent call last\)")
ERROR = re.compile(r"^(?:\[rank\d+\]:? ?)?((?:\w+\.)*\w*(?:Error|Exception|Interrupt|Exit)\b.*)")
FAILING = ("rror", "xception", "memory", "Killed", "bad_alloc")
UNITS = {"GB": float(1 << 30), "MB": float(1 << 20)}
SPELLED = {"steps": "step", "iteration": "step", "global_step": "step"}


class Console:
    """Takes lines one after the other and gives the steps that they tell of."""

    def __init__(self) -> None:
        self.counted = False
        self._step = 0
        self._bar: tuple[int, int] | None = None
        self._skipped = 0
        self._failing = False
        self._during: str | None = None
        self._scale: float | None = None

    def feed(self, line: str) -> Iterator[Step]:
        """What a line tells: mostly nothing, seldom more than a step."""
        for part in line[:MOST_LINE].split("\r"):
            yield from self._part(part)

    def _part(self, part: str) -> Iterator[Step]:
        if (bar := BAR.match(part)) is not None:
            self._see_bar(int(bar[2]), int(bar[3]))
        if "loss" in part or "step" in part or "OVERFLOW" in part:
            for found in DICT.finditer(part):
                yield from self._entry(dict(PAIR.findall(found[0])))
            if "{" not in part:
                yield from self._line(part)
        if self._failing or any(word in part for word in FAILING):
            yield from self._failure(part.strip())
        if TRACEBACK.search(part):
            self._failing, self._during = True, None
        elif self._failing and EVALUATING.search(part.rstrip()):
            self._during = "evaluation"

    def _see_bar(self, done: int, total: int) -> None:
        """The first bar that is not of one go is training's; evaluations have other totals."""
        if self._bar is None or self._bar[1] == total:
            self._bar = done, total

    def _entry(self, values: dict[str, str]) -> Iterator[Step]:
        """A dictionary as the Trainer prints it."""
        entry: dict[str, object] = dict(values)
        if not any(name in values for name in ("step", "global_step", "current_steps")):
            entry["step"] = self._place("loss" in values)
        if self._bar is not None and "planned" not in entry:
            entry["planned"] = float(self._bar[1])
        if (step := to_step(_with_number(entry))) is not None:
            self._step = step.step
            yield step

    def _place(self, training: bool) -> float:
        """The step of an entry that has none."""
        if self._bar is not None and self._bar[0] >= self._step:
            return self._bar[0] if self._bar[0] > 0 else 1
        self.counted = self.counted or training
        return self._step + (1 if training else 0)

    def _line(self, part: str) -> Iterator[Step]:
        """`name: value` and `name=value`, as DeepSpeed and Megatron print them."""
        if (overflow := OVERFLOW.search(part)) is not None:
            scale = number(overflow[1])
            yield Step(step=self._step, event="overflow", loss_scale=scale)
            return
        found: dict[str, object] = {}
        for name, value, unit in PLAIN.findall(part):
            key = name if name in ("CurrSamplesPerSec", "MaxMemAllocated") else name.lower()
            amount = number(value.replace(",", ""))
            key = SPELLED.get(key, key)
            if amount is not None and key not in found:
                found[key] = amount * UNITS.get(unit.upper(), 1.0)
        step = found.get("step")
        if not isinstance(step, float) or not 0 <= step < LARGEST_STEP:
            return
        self._step = int(step)
        lost = found.pop("skipped", None)
        event = None
        if isinstance(lost, float):
            event = "overflow" if lost > self._skipped else None
            self._skipped = int(min(lost, LARGEST_STEP))
        known = to_step(found) or _without_loss(found)
        if known is not None or event:
            yield from ([known] if known is not None else [])
            if event:
                yield Step(step=self._step, event=event)

    def _failure(self, part: str) -> Iterator[Step]:
        """Memory that ran out, or the last line of a traceback."""
        error = ERROR.match(part)
        if OOM.search(part) and (error or part.startswith("Killed") or "rror" in part):
            self._failing = False
            yield self._end("oom", part)
        elif self._failing and error is not None:
            self._failing = False
            yield self._end("crash", error[1])

    def _end(self, event: str, message: str) -> Step:
        during, self._during = self._during, None
        return Step(step=self._step, event=event, detail=_shown(message), during=during)


def steps(lines: Iterable[str], notes: list[Text]) -> Iterator[Step]:
    """The steps of a whole console text."""
    console = Console()
    for line in lines:
        yield from console.feed(line)
    if console.counted:
        notes.append(Text("diag.log.note.counted"))


def _with_number(entry: dict[str, object]) -> dict[str, object]:
    """Steps are written as text in a dictionary of texts."""
    for name in ("step", "global_step", "current_steps"):
        if isinstance(entry.get(name), str):
            entry[name] = number(entry[name])
    return entry


def _without_loss(found: dict[str, object]) -> Step | None:
    """A line with a step and a learning rate, but no loss."""
    values = {n: v for n in NAMES for w, _ in NAMES[n] if isinstance(v := found.get(w), float)}
    step = found["step"]
    assert isinstance(step, float)
    values.pop("planned", None)
    return Step(step=int(step), **values) if values else None  # type: ignore[arg-type]


def _shown(text: str) -> str:
    """An error in one line, without what a terminal would obey."""
    from glmprep.console import printable

    return printable(text[:DETAIL])
