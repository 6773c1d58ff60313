"""From files to one log: which format each has, and how several become one run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from glmprep.console import file_errors
from glmprep.errors import InputError
from glmreport.text import Text
from glmtrain.detectors import Step

from glmdiag.logs import console, jsonlines, state, tensorboard
from glmdiag.logs.entries import merged, step_number
from glmdiag.logs.folder import HINT, logs_in
from glmdiag.logs.lines import Lines, encoding_of
from glmdiag.logs.record import Kind, Log, Steps, unseen

LOOKED_AT = 200  # lines from which the format is told; the first ones may be damaged
JSON_OBJECT = re.compile(r'\s*\{\s*"')  # Python prints dictionaries with single quotes
RESOLVED = "config.resolved.toml"
ENDS = ("oom", "crash")
"""What says enough of a run that ended before its first step."""


def read(path: Path, *more: Path) -> Log:
    """Read a training log, or several that are pieces of one; raises InputError for what is none.

    Of a folder the best log is read. Several files are pieces of a resumed run or the logs of its
    ranks: they are joined by step, and what a later one says of a step replaces what was said.
    """
    pieces = [_piece(each) for each in (path, *more)]
    kind, steps, notes = pieces[0]
    if len(pieces) > 1:
        steps, joined = _joined([piece for _, piece, _ in pieces if len(piece)])
        notes = [note for _, _, noted in pieces for note in noted] + joined
    if not any(step.loss is not None or step.broken or step.event in ENDS for step in steps):
        raise InputError(f"{path}: has no step with a loss, so it is no training log; {HINT}")
    notes = [*notes, *unseen(steps)]
    return Log(path=path, kind=kind, steps=steps, notes=notes, pieces=(path, *more))


def kind_of(path: Path) -> Kind:
    """The format of a file, told from its begin; raises InputError where it is no text."""
    if path.name.startswith(tensorboard.EVENTS):
        return "tensorboard"
    with path.open("rb") as file:
        start = file.read(1 << 16)
    if not start.strip():
        raise InputError(f"{path}: is empty; {HINT}")
    if encoding_of(start) is None:
        raise InputError(f"{path}: is not text; {HINT}")
    for count, line in enumerate(Lines(path)):
        if count == LOOKED_AT:
            break
        entry = jsonlines.parsed(line) if line.lstrip().startswith("{") else None
        if isinstance(entry, dict) and "log_history" not in entry:
            if step_number(entry)[0] is not None:
                return jsonlines.kind_of(entry)
        elif '"log_history"' in _text(start) or entry is not None:
            return "trainer_state"
    return "trainer_state" if JSON_OBJECT.match(_text(start)) else "console"


def steps_of(path: Path, kind: Kind, notes: list[Text]) -> Iterator[Step]:
    """The steps of a file of a known format; notes are complete when all steps are taken."""
    if kind == "trainer_state":
        yield from state.steps(path, notes)
        return
    if kind == "tensorboard":
        yield from tensorboard.steps([path], notes)
        return
    lines = Lines(path)
    yield from (console if kind == "console" else jsonlines).steps(lines, notes)
    if lines.long:
        notes.append(Text("diag.log.note.long", count=lines.long))
    if lines.nuls:
        notes.append(Text("diag.log.note.nuls"))


def evaluations_joined(steps: Iterable[Step]) -> Steps:
    """Steps in columns; an evaluation of its own entry goes to the step that it came after."""
    found = Steps()
    last: Step | None = None
    for step in steps:
        if last is not None and step.step == last.step and _belongs(last, step):
            last = merged(last, step)
            found.replace_last(last)
            continue
        found.append(step)
        last = step
    return found


def _belongs(last: Step, step: Step) -> bool:
    """Whether both tell of one step: not where both have a loss, or the later one an event."""
    return (last.loss is None or step.loss is None) and step.event is None and last.event is None


def _piece(path: Path) -> tuple[Kind, Steps, list[Text]]:
    notes: list[Text] = []
    with file_errors(path):
        files: Sequence[Path] = logs_in(path) if path.is_dir() else [path]
        kind = kind_of(files[0])
        if kind == "tensorboard":
            steps = tensorboard.steps(list(files), notes)
        else:
            steps = _with_limit(steps_of(files[0], kind, notes), files[0].parent)
        return kind, evaluations_joined(steps), notes


def _with_limit(steps: Iterator[Step], folder: Path) -> Iterator[Step]:
    """Steps of a run of ours with what its settings say gradients are clipped at."""
    from glmtrain.config import read_toml

    limit: object = None
    if (folder / RESOLVED).is_file():
        try:
            limit = read_toml(folder / RESOLVED).get("optimiser", {}).get("max_grad_norm")
        except Exception:  # settings that cannot be read are no fault of the log
            limit = None
    if not isinstance(limit, (int, float)) or isinstance(limit, bool) or limit <= 0:
        return steps
    return (step._replace(max_grad_norm=float(limit)) for step in steps)


def _joined(pieces: Sequence[Sequence[Step]]) -> tuple[Steps, list[Text]]:
    """One run of several logs, by step."""
    found: dict[int, Step] = {}
    notes = []
    for number, piece in enumerate(pieces):
        both = 0
        if found and all(step.loss is None and step.event in ENDS for step in piece):
            piece = [step._replace(step=max(found)) for step in piece]  # only how it ended
        begins = number > 0 and piece[0].step > min(found, default=0)
        for index, step in enumerate(piece):
            if begins and index == 0 and step.event is None:
                step = step._replace(event="resumed")
            before = found.get(step.step)
            both += before is not None and number > 0
            found[step.step] = step if before is None else merged(before, step)
        if both:
            notes.append(Text("diag.log.note.joined", count=both, piece=number + 1))
    return Steps(found[step] for step in sorted(found)), notes


def _text(start: bytes) -> str:
    return start.decode(encoding_of(start) or "utf-8", errors="replace").lstrip("\ufeff")
