"""Token by token, what this suite trains beside what other trainers would train.

Each trainer's input and labels are made by its own rules (`glmprep.peers`) and laid over this
suite's tokens of the same rows, so that every difference has a place and a name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from typing import Any, Literal, NamedTuple

import numpy as np

from glmprep.errors import InputError, UsageError
from glmprep.families import Family
from glmprep.findings import Finding
from glmprep.intake import Intake
from glmprep.labels import tokenize
from glmprep.peers import IGNORED, TRAINERS, Rows
from glmprep.peers.differences import DIFFERENCES, count_differences
from glmprep.peers.overlay import Overlay, lay_over
from glmprep.peers.rows import Int64
from glmprep.records import Conversation, Rejection
from glmprep.seen import by_rule
from glmprep.sized import require_room
from glmprep.source import Source
from glmprep.tokenizer import Tokenizer

MAX_LENGTH = 1024
"""What TRL and the official script take where nothing is said."""
OURS = "glmprep"
Kind = Literal["trained", "context", "absent"]


class State(NamedTuple):
    """What a trainer does with a token; `label` is what it trains there, where that is another."""

    kind: Kind
    label: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Tokens that every trainer treats alike, from place `at` of the row on.

    `states` has one entry per trainer, this suite first.
    """

    at: int
    ids: Sequence[int]
    text: str
    states: tuple[State, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownRow:
    """One row, and for each trainer how often each difference is found in it."""

    row: int
    where: str
    tokens: int
    runs: Sequence[Run]
    differences: Mapping[str, Mapping[str, int]]


@dataclass(slots=True, kw_only=True)
class Sums:
    """What one trainer makes of all rows.

    `tokens` reach the model and `labels` of them are trained; `targets` of these are trained as
    this suite trains them. `places` and `rows` count each difference.
    """

    trainer: str
    tokens: int = 0
    labels: int = 0
    targets: int = 0
    places: dict[str, int] = field(default_factory=lambda: dict.fromkeys(DIFFERENCES, 0))
    rows: dict[str, int] = field(default_factory=lambda: dict.fromkeys(DIFFERENCES, 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The sums over all rows that can be trained on, and the rows that were asked for."""

    rows_read: int
    rows: int
    answers: int
    tokens: int
    targets: int
    max_length: int
    trainers: Sequence[Sums]
    shown: Sequence[ShownRow]
    rejections: Sequence[Rejection]
    findings: Sequence[Finding]

    def as_json(self) -> Mapping[str, Any]:
        """The sums and rows as plain JSON values."""
        return {
            "rows_read": self.rows_read,
            "rows": self.rows,
            "answers": self.answers,
            "tokens": self.tokens,
            "supervised_tokens": self.targets,
            "max_length": self.max_length,
            "rejected": by_rule(self.rejections),
            "trainers": [asdict(sums) for sums in self.trainers],
            "shown": [_row_as_json(row) for row in self.shown],
        }


def diff_labels(
    source: Source,
    *,
    family: Family,
    tokenizer: Tokenizer,
    max_length: int = MAX_LENGTH,
    wanted: Sequence[int] = (),
    limit: int = 3,
) -> Result:
    """Count the differences in all rows of `source`, and show some rows.

    `wanted` are numbers of rows, from 0 among those that can be trained on; without any, the first
    `limit` are shown. Raises InputError when there is no row, UsageError for a number past the end.
    """
    require_room(max_length, family)
    intake = Intake(source, family=family, special_tokens=list(tokenizer.added))
    shown = frozenset(wanted) if wanted else frozenset(range(limit))
    run = _Run(family=family, tokenizer=tokenizer, max_length=max_length, wanted=shown)
    for batch in intake.batches():
        if batch.rows:
            run.add(batch.rows)
    if not run.rows:
        raise InputError(intake.nothing_left())
    if wanted and not 0 <= (worst := max(wanted, key=abs)) < run.rows:
        raise UsageError(f"--row {worst}: there is no such row; rows are 0 to {run.rows - 1}")
    return Result(
        rows_read=intake.rows,
        rows=run.rows,
        answers=run.answers,
        tokens=run.tokens,
        targets=run.targets,
        max_length=max_length,
        trainers=list(run.sums.values()),
        shown=run.shown,
        rejections=intake.rejections,
        findings=intake.findings(),
    )


@dataclass(slots=True, kw_only=True)
class _Run:
    """One pass over the data, batch by batch."""

    family: Family
    tokenizer: Tokenizer
    max_length: int
    wanted: frozenset[int]
    rows: int = 0
    answers: int = 0
    tokens: int = 0
    targets: int = 0
    sums: dict[str, Sums] = field(
        default_factory=lambda: {t.name: Sums(trainer=t.name) for t in TRAINERS}
    )
    shown: list[ShownRow] = field(default_factory=list)

    def add(self, conversations: Sequence[Conversation]) -> None:
        """Compare a batch."""
        tokens = tokenize(conversations, self.family, self.tokenizer)
        rows = Rows.of(conversations, tokens, self.family, self.tokenizer)
        overlays = {
            trainer.name: lay_over(trainer, rows, self.max_length, self.family, self.tokenizer)
            for trainer in TRAINERS
        }
        found = {name: count_differences(rows, overlay) for name, overlay in overlays.items()}
        for name, overlay in overlays.items():
            _sum_up(self.sums[name], rows, overlay, found[name])
        for number in sorted(self.wanted):
            row = number - self.rows
            if 0 <= row < len(rows):
                differences = {
                    name: {d: int(counts[row]) for d, counts in of.items() if counts[row]}
                    for name, of in found.items()
                }
                self.shown.append(
                    _shown(rows, list(overlays.values()), row, number, differences, self.tokenizer)
                )
        self.rows += len(rows)
        self.answers += len(rows.answers.row)
        self.tokens += len(tokens.ids)
        self.targets += len(rows.answers.targets)


def _sum_up(sums: Sums, rows: Rows, overlay: Overlay, found: Mapping[str, Int64]) -> None:
    own = overlay.own
    # A piece in other words counts with its own tokens, not with ours that stand for it.
    same = ~overlay.reworded
    sums.tokens += int((overlay.present & same).sum()) + len(own.ids)
    sums.labels += int((overlay.labelled & same).sum()) + int((own.labels != IGNORED).sum())
    equal = overlay.labels == rows.tokens.ids
    sums.targets += int((equal & rows.trained).sum())
    for name, counts in found.items():
        sums.places[name] += int(counts.sum())
        sums.rows[name] += int(np.count_nonzero(counts))


def _shown(
    rows: Rows,
    overlays: Sequence[Overlay],
    row: int,
    number: int,
    differences: Mapping[str, Mapping[str, int]],
    tokenizer: Tokenizer,
) -> ShownRow:
    begin, end = int(rows.tokens.offsets[row]), int(rows.tokens.offsets[row + 1])
    entries = sorted(
        [*_shared(rows, overlays, begin, end, tokenizer), *_added(overlays, row, tokenizer)],
        key=lambda entry: entry[0],
    )
    runs = []
    for states, group in groupby(entries, key=lambda entry: entry[2]):
        tokens = list(group)
        ids = [token for _, token, _ in tokens]
        at = int(tokens[0][0]) - begin
        runs.append(Run(at=at, ids=ids, text=tokenizer.decode(ids), states=states))
    return ShownRow(
        row=number,
        where=str(rows.conversations[row].origin),
        tokens=end - begin,
        runs=runs,
        differences=differences,
    )


_Entry = tuple[float, int, tuple[State, ...]]
ABSENT, CONTEXT, TRAINED = State("absent"), State("context"), State("trained")


def _shared(
    rows: Rows, overlays: Sequence[Overlay], begin: int, end: int, tokenizer: Tokenizer
) -> Iterator[_Entry]:
    """Our tokens of one row, with what each trainer does with them."""
    ids = rows.tokens.ids
    for at in range(begin, end):
        ours = TRAINED if rows.trained[at] else CONTEXT
        theirs = (
            _state(int(ids[at]), int(overlay.labels[at]), tokenizer)
            if overlay.present[at] and not overlay.reworded[at]
            else ABSENT
            for overlay in overlays
        )
        yield at, int(ids[at]), (ours, *theirs)


def _added(overlays: Sequence[Overlay], row: int, tokenizer: Tokenizer) -> Iterator[_Entry]:
    """Tokens of one row that only one trainer has; they stand before the place of ours."""
    for number, overlay in enumerate(overlays):
        own = overlay.own
        for entry in np.flatnonzero(own.row == row):
            token = int(own.ids[entry])
            states = [ABSENT] * (len(overlays) + 1)
            states[number + 1] = _state(token, int(own.labels[entry]), tokenizer)
            yield own.before[entry] - 0.5, token, tuple(states)


def _state(token: int, label: int, tokenizer: Tokenizer) -> State:
    if label == IGNORED:
        return CONTEXT
    return TRAINED if label == token else State("trained", tokenizer.decode([label]))


def _row_as_json(row: ShownRow) -> dict[str, Any]:
    names = [OURS, *(trainer.name for trainer in TRAINERS)]
    return {
        "row": row.row,
        "where": row.where,
        "tokens": row.tokens,
        "differences": row.differences,
        "runs": [
            {
                "at": run.at,
                "text": run.text,
                "input_ids": run.ids,
                "trainers": {
                    name: {"state": state.kind, **({"label": state.label} if state.label else {})}
                    for name, state in zip(names, run.states, strict=True)
                },
            }
            for run in row.runs
        ],
    }
