"""Logs with a JSON object on each line: ours, LLaMA-Factory's and ms-swift's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import orjson
from glmreport.text import Text
from glmtrain.detectors import Step

from glmdiag.logs.entries import Entry, to_step
from glmdiag.logs.lines import Lines
from glmdiag.logs.record import Kind


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


def steps(lines: Lines, notes: list[Text]) -> Iterator[Step]:
    """The steps of the lines; notes say how many lines were none, and whether the last was cut."""
    damaged, last_line, whole = 0, 0, True
    for place, line in enumerate(lines, 1):
        if not line.strip():
            continue
        entry = parsed(line)
        last_line, whole = place, isinstance(entry, dict)
        damaged += not whole
        if isinstance(entry, dict) and (step := to_step(entry)) is not None:
            yield step
    if not whole and damaged:
        notes.append(Text("diag.log.note.cut_off", line=last_line))
        damaged -= 1
    if damaged:
        notes.append(Text("diag.log.note.damaged", count=damaged))
