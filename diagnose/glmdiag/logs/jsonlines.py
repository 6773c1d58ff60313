"""Logs with a JSON object on each line: ours, LLaMA-Factory's and ms-swift's."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import orjson
from glmreport.text import Text
from glmtrain.detectors import Step

from glmdiag.logs.entries import Entry, to_step
from glmdiag.logs.lines import Lines
from glmdiag.logs.record import Kind

ELAPSED = re.compile(r"(?:(\d{1,4}) days?, )?(\d{1,4}):(\d\d):(\d\d)")  # as LLaMA-Factory writes it


def parsed(text: str) -> Any:
    """A JSON value, None for what is not JSON (or nested beyond reason); NaN may stand bare."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        pass
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def kind_of(entry: Entry) -> Kind:
    """Which trainer writes such an entry."""
    if "current_steps" in entry:
        return "llamafactory"
    return "swift" if "global_step/max_steps" in entry else "metrics"


class Clock:
    """Seconds of a step, where a log has the time since its begin in whole seconds alone.

    Between two steps at which the time has moved on, each step takes the same part of it; steps
    after the last of them are taken to go on like that.
    """

    def __init__(self) -> None:
        self._seen: tuple[int, int] | None = None
        self._seconds: float | None = None

    def feed(self, step: Step, elapsed: object) -> Step:
        """The step with its seconds, if it has none and they can be told by now."""
        match = ELAPSED.fullmatch(elapsed) if isinstance(elapsed, str) else None
        if match is None or step.seconds is not None:
            return step
        days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
        now = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
        if self._seen is None or now < self._seen[1] or step.step <= self._seen[0]:
            self._seen, self._seconds = (step.step, now), None
        elif now > self._seen[1]:
            self._seconds = (now - self._seen[1]) / (step.step - self._seen[0])
            self._seen = step.step, now
        return step._replace(seconds=self._seconds)


def steps(lines: Lines, notes: list[Text]) -> Iterator[Step]:
    """The steps of the lines; notes say how many lines were none, and whether the last was cut."""
    damaged, last_line, whole = 0, 0, True
    clock = Clock()
    for place, line in enumerate(lines, 1):
        if not line.strip():
            continue
        entry = parsed(line)
        last_line, whole = place, isinstance(entry, dict)
        damaged += not whole
        if isinstance(entry, dict) and (step := to_step(entry)) is not None:
            yield clock.feed(step, entry.get("elapsed_time"))
    if not whole and damaged:
        notes.append(Text("diag.log.note.cut_off", line=last_line))
        damaged -= 1
    if damaged:
        notes.append(Text("diag.log.note.damaged", count=damaged))
