"""Look at chat data before anything is done with it: format, text, sets, lengths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import polars as pl

from glmprep.checks import checking, collectors
from glmprep.cost import Cost, costs
from glmprep.errors import InputError
from glmprep.families import Family
from glmprep.findings import Finding
from glmprep.labels import tokenize
from glmprep.lengths import Cut, Group, Lengths, percentiles
from glmprep.records import Rejection, Role
from glmprep.rowchecks import RowChecks
from glmprep.seen import by_rule
from glmprep.sets import held_out
from glmprep.sized import require_room
from glmprep.source import Source
from glmprep.tokenizer import Tokenizer

LIMITS = (512, 1024, 2048, 4096, 8192, 16384, 32768)
COVERED = 0.95
"""Share of the conversations that a recommended limit holds whole."""
COSTED = (0.5, 0.9, 0.95, 0.99, 1.0)
ROLES_SHOWN: tuple[Role, ...] = ("system", "user", "assistant", "tool")


@dataclass(frozen=True, slots=True, kw_only=True)
class OfficialLimit:
    """The two limits of the official GLM-4 script, in tokens, with its defaults.

    It cuts what it reads, prompt and answers alike, to their sum and one more, from the right.
    """

    max_input_length: int = 512
    max_output_length: int = 512

    @property
    def total(self) -> int:
        """Tokens after which the script cuts."""
        return self.max_input_length + self.max_output_length + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What an audit saw.

    `schemas` counts conversations by the form they came in; `table` has one line per row that can
    be trained on (see `rowchecks`); `official` are the limits at which the official script would
    cut; `flags` is there on demand: one row per message, sound or not (see `Intake.flags`).
    """

    rows: int
    messages: int
    table: pl.DataFrame
    lengths: Lengths
    schemas: Mapping[str, int]
    max_length: int | None
    official: OfficialLimit
    rejections: Sequence[Rejection]
    findings: Sequence[Finding]
    flags: pl.DataFrame | None = None

    @property
    def conversations(self) -> int:
        """Rows that can be trained on; a family may make several training rows of one."""
        return self.rows - len(self.rejections)

    @property
    def recommended(self) -> int:
        """A limit that holds nearly all conversations whole."""
        return self.lengths.covering(COVERED)

    @property
    def at_limit(self) -> Cut | None:
        """What the limit that was asked about would cut."""
        return next((c for c in self.lengths.cuts() if c.max_length == self.max_length), None)

    @property
    def official_cut(self) -> Cut:
        """What the official script would cut."""
        return next(c for c in self.lengths.cuts() if c.max_length == self.official.total)

    @property
    def cuts(self) -> list[Cut]:
        """What the usual limits would cut, and the one that was asked about."""
        shown = {*LIMITS, self.max_length}
        return [cut for cut in self.lengths.cuts() if cut.max_length in shown]

    @property
    def costs(self) -> list[Cost]:
        """What limits that hold 50, 90, 95, 99 and 100 % of the conversations whole cost."""
        limits = {self.lengths.covering(share) for share in COSTED} | {self.recommended}
        asked = {self.max_length} if self.max_length else set()
        return costs(self.lengths.conversations, sorted(limits | asked))

    def as_json(self) -> Mapping[str, Any]:
        """The sums as plain JSON values."""
        lengths = self.lengths
        return {
            "rows": self.rows,
            "conversations": self.conversations,
            "training_rows": self.table.height,
            "messages": self.messages,
            "schemas": dict(self.schemas),
            "rejected": by_rule(self.rejections),
            "tokens": int(lengths.conversations.sum()),
            "supervised_tokens": lengths.supervised,
            "percentiles": {
                "conversation": percentiles(lengths.conversations),
                "prompt": percentiles(lengths.prompts),
                "answer": percentiles(lengths.answers),
                **{role: percentiles(lengths.of_role(role)) for role in ROLES_SHOWN},
            },
            "recommended_max_length": self.recommended,
            "max_length": self.max_length,
            "cuts": [asdict(cut) for cut in self.cuts],
            "costs": [asdict(cost) for cost in self.costs],
            "official_script": {**asdict(self.official), **asdict(self.official_cut)},
            "groups": {group.name: _summed(group) for group in lengths.groups()},
        }


def audit(
    source: Source,
    *,
    family: Family,
    tokenizer: Tokenizer,
    max_length: int | None = None,
    official: OfficialLimit | None = None,
    evaluation: Source | None = None,
    keep_flags: bool = False,
) -> Result:
    """Check all rows of `source` and measure the sound ones in tokens.

    `evaluation` is data that is held out: what of it occurs in `source` is found too.
    Raises InputError when no row can be measured, UsageError for a limit nothing fits in.
    """
    if max_length is not None:
        require_room(max_length, family)
    official = official or OfficialLimit()
    limits = sorted({*LIMITS, official.total, *([max_length] if max_length else [])})
    intake = checking(source, family, tokenizer, keep_flags=keep_flags)
    unseen = held_out(evaluation, family=family, tokenizer=tokenizer) if evaluation else None
    lengths, rows = Lengths(limits), RowChecks(max_length)
    watching = collectors(rows, family, unseen)
    for batch in intake.batches():
        if not batch.rows:
            continue
        tokens = tokenize(batch.rows, family, tokenizer)
        lengths.add(batch.rows, tokens)
        for collector in watching:
            collector.add(batch.rows, tokens)
    table = rows.table()
    if table.is_empty():
        raise InputError(intake.nothing_left())
    for collector in watching:
        for hit in collector.hits():
            intake.hit(hit)
    return Result(
        rows=intake.rows,
        messages=intake.messages,
        table=table,
        lengths=lengths,
        schemas=dict(intake.tally.schemas.most_common()),
        max_length=max_length,
        official=official,
        rejections=intake.rejections,
        findings=intake.findings(max_length=max_length or 0),
        flags=pl.concat(intake.flags) if intake.flags else None,
    )


def _summed(group: Group) -> dict[str, Any]:
    return {
        "conversations": len(group.conversations),
        "tokens": int(group.conversations.sum()),
        "supervised_tokens": group.supervised,
        "percentiles": {
            "conversation": percentiles(group.conversations),
            "prompt": percentiles(group.prompts),
            "answer": percentiles(group.answers),
        },
    }
