"""The Hugging Face Trainer's `trainer_state.json`, also one that was cut off."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from glmprep.console import file_errors
from glmprep.errors import InputError
from glmreport.text import Text
from glmtrain.detectors import Step

from glmdiag.logs.entries import number, to_step
from glmdiag.logs.jsonlines import parsed
from glmdiag.logs.lines import encoding_of

LARGEST_STATE = 1 << 28  # bytes; a trainer_state.json of a million steps takes a half of it
HISTORY = re.compile(r'"log_history"\s*:\s*\[')


def steps(path: Path, notes: list[Text]) -> Iterator[Step]:
    """The steps of the history; raises InputError for a file that has none."""
    with file_errors(path), path.open("rb") as file:
        data = file.read(LARGEST_STATE + 1)
    if len(data) > LARGEST_STATE:
        raise InputError(f"{path}: is larger than {LARGEST_STATE >> 20} MiB; give its newest part")
    text = data.decode(encoding_of(data[:4096]) or "utf-8", errors="replace").replace("\0", "")
    state = parsed(text)
    if isinstance(state, dict):
        history, planned = state.get("log_history"), number(state.get("max_steps"))
    else:
        history, planned = _salvaged(text), None
        if history:
            notes.append(Text("diag.log.note.state_cut_off", count=len(history)))
    if not isinstance(history, list):
        raise InputError(f"{path}: is JSON, but no training log; give a trainer_state.json")
    for entry in history:
        if isinstance(entry, dict):
            found = entry if planned is None or planned <= 0 else {"max_steps": planned, **entry}
            if (step := to_step(found)) is not None:
                yield step


def _salvaged(text: str) -> list[Any]:
    """The whole entries of a history whose file ends too early."""
    begin = HISTORY.search(text)
    found: list[Any] = []
    if begin is None:
        return found
    decoder, place = json.JSONDecoder(), begin.end()
    while (start := text.find("{", place)) >= 0:
        try:
            entry, place = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            break
        found.append(entry)
    return found
