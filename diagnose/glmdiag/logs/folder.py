"""Which log to read in a run's folder."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from glmprep.console import file_errors
from glmprep.errors import InputError

from glmdiag.logs.tensorboard import EVENTS

HINT = (
    "give a metrics.jsonl, trainer_state.json, trainer_log.jsonl, logging.jsonl, "
    "a console text or TensorBoard events"
)
NAMED = ("metrics.jsonl", "trainer_log.jsonl", "logging.jsonl", "trainer_state.json")
STATE = re.compile(r"checkpoint-(\d+)")
BELOW = ("", "runs", "v*", "logs", "runs/*", "*/runs/*")  # where trainers put events and logs


def logs_in(folder: Path) -> Sequence[Path]:
    """The best log of a folder, more than one only for TensorBoard; raises InputError for none."""
    with file_errors(folder):
        for name in NAMED:
            if (folder / name).is_file():
                return [folder / name]
        if newest := _newest_state(folder):
            return [newest]
        for below in ("v*", "*"):
            for name in NAMED[:3]:
                if found := sorted(folder.glob(f"{below}/{name}")):
                    return [found[-1]]
        for below in BELOW:
            pattern = f"{below}/{EVENTS}*" if below else f"{EVENTS}*"
            if found := sorted(folder.glob(pattern)):
                return found
        if texts := [path for p in ("*.log", "*.out", "*.txt") for path in sorted(folder.glob(p))]:
            return [max(texts, key=lambda path: path.stat().st_size)]
    raise InputError(f"{folder}: is a folder without a training log; {HINT}")


def _newest_state(folder: Path) -> Path | None:
    """The state of the checkpoint with the highest step, which holds all steps before it."""
    found = [
        (int(match[1]), path)
        for path in folder.glob("checkpoint-*/trainer_state.json")
        if (match := STATE.fullmatch(path.parent.name)) and len(match[1]) < 16
    ]
    return max(found)[1] if found else None
