"""TensorBoard's event files, read by the package of that name."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from glmprep.errors import InputError
from glmreport.text import Text
from glmtrain.detectors import Step

from glmdiag.logs.entries import WRITTEN, to_step

EVENTS = "events.out.tfevents."
MOST_EVENTS = 4_000_000  # scalars; a million steps with four fields
PREFIXES = ("train/", "Train/", "Train/Samples/", "training/", "losses/", "")


def steps(files: list[Path], notes: list[Text]) -> Iterator[Step]:
    """The steps of one or more event files, in the order of the steps."""
    if find_spec("tensorboard") is None:
        raise InputError(
            f"{files[0]}: reading TensorBoard's events needs its package; "
            "install it with: pip install tensorboard"
        )
    entries: dict[int, dict[str, Any]] = {}
    for path in files:
        _read(path, entries, notes)
    for number in sorted(entries):
        step = to_step({"step": number, **entries[number]})
        if step is not None:
            yield step


def _read(path: Path, entries: dict[int, dict[str, Any]], notes: list[Text]) -> None:
    from tensorboard.backend.event_processing.event_file_loader import (  # type: ignore[import-untyped]
        LegacyEventFileLoader,
    )
    from tensorboard.util.tensor_util import make_ndarray  # type: ignore[import-untyped]

    seen = 0
    try:
        for event in LegacyEventFileLoader(str(path)).Load():
            for value in event.summary.value if event.HasField("summary") else ():
                name = _name(value.tag)
                seen += 1
                if name is None or seen > MOST_EVENTS:
                    continue
                if value.HasField("simple_value"):
                    number = float(value.simple_value)
                elif value.HasField("tensor") and make_ndarray(value.tensor).size == 1:
                    number = float(make_ndarray(value.tensor).item())
                else:
                    continue
                entries.setdefault(event.step, {})[name] = number
    except Exception as error:  # the package raises what it likes for a broken file
        notes.append(Text("diag.log.note.events_broken", file=path.name, why=str(error)[:120]))
    if seen > MOST_EVENTS:
        notes.append(Text("diag.log.note.events_many", count=seen - MOST_EVENTS))


def _name(tag: str) -> str | None:
    """Our field of a tag; None for what is none of a step."""
    if tag in ("eval/loss", "eval_loss", "validation/loss"):
        return "eval_loss"
    for prefix in PREFIXES:
        bare = tag.removeprefix(prefix) if prefix else tag
        for name in (bare, bare.removeprefix("train_")):
            if name in WRITTEN and (prefix or "/" not in tag):
                return name
    return None
