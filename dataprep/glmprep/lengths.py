"""Token lengths of conversations and turns, and what a maximum length would cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import polars as pl

from glmprep.families.piece import NO_TURN
from glmprep.labels import TokenBatch
from glmprep.languages import LANGUAGES, languages
from glmprep.records import ROLES, Conversation, Role

Int64 = npt.NDArray[np.int64]
ROWS = pl.Schema(
    {"tokens": pl.Int64(), "supervised": pl.Int64(), "language": pl.Int8(), "tools": pl.Boolean()}
)
TURNS = pl.Schema(
    {
        "role": pl.Enum(sorted(ROLES)),
        "tokens": pl.Int32(),
        "targets": pl.Int32(),
        "language": pl.Int8(),
        "tools": pl.Boolean(),
    }
)
PERCENTILES = (50, 75, 90, 95, 99, 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """What cutting everything after `max_length` tokens would lose.

    `rows` are longer; `without_labels` of these keep no training target at all;
    `answers_cut` answers would end in their middle, so that no stop token is trained there.
    """

    max_length: int
    rows: int
    without_labels: int
    answers_cut: int
    supervised_lost: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Conversations that have something in common: a language, or tools; their lengths."""

    name: str
    conversations: Int64
    supervised: int
    prompts: Int64
    answers: Int64


@dataclass(slots=True)
class Lengths:
    """Collects the lengths of batches; all lengths are tokens.

    `conversations` counts prefix and closing stop; `prompts` are user turns and `answers` trained
    turns with their stop token, both per turn.
    """

    limits: Sequence[int]
    _rows: list[pl.DataFrame] = field(default_factory=list)
    _turns: list[pl.DataFrame] = field(default_factory=list)
    _cuts: dict[int, Cut] = field(default_factory=dict)

    def add(self, conversations: Sequence[Conversation], tokens: TokenBatch) -> None:
        """Take in a batch."""
        counts = np.fromiter((len(c.messages) for c in conversations), np.int64, len(conversations))
        turn_of = (np.cumsum(counts) - counts)[tokens.row] + tokens.turn
        named = tokens.turn != NO_TURN
        total = int(counts.sum())
        widths = np.bincount(turn_of[named], (tokens.end - tokens.start)[named], total)
        targets = np.bincount(turn_of[named], tokens.targets[named], total)
        language = languages(conversations)
        tools = np.fromiter(map(_uses_tools, conversations), np.bool_, len(conversations))
        row = {"language": language, "tools": tools}
        rows = {"tokens": tokens.lengths, "supervised": tokens.supervised, **row}
        turns = {
            "role": [m.role for c in conversations for m in c.messages],
            "tokens": widths,
            "targets": targets,
            **{name: np.repeat(column, counts) for name, column in row.items()},
        }
        self._rows.append(pl.DataFrame(rows, schema=ROWS))
        self._turns.append(pl.DataFrame(turns, schema=TURNS))
        for limit in self.limits:
            self._cuts[limit] = _add(self._cuts.get(limit), _cut(tokens, limit))

    @property
    def rows(self) -> pl.DataFrame:
        """One line per conversation: tokens, supervised, language (see LANGUAGES), tools."""
        self._rows = [pl.concat([pl.DataFrame(schema=ROWS), *self._rows])]
        return self._rows[0]

    @property
    def turns(self) -> pl.DataFrame:
        """One line per turn: role, tokens, targets, and its conversation's language and tools."""
        self._turns = [pl.concat([pl.DataFrame(schema=TURNS), *self._turns])]
        return self._turns[0]

    @property
    def conversations(self) -> Int64:
        """Tokens of each conversation."""
        return _numbers(self.rows["tokens"])

    @property
    def supervised(self) -> int:
        """Training targets of all conversations."""
        return int(self.rows["supervised"].sum())

    @property
    def prompts(self) -> Int64:
        """Tokens of each turn of the user."""
        return self.of_role("user")

    @property
    def answers(self) -> Int64:
        """Targets of each turn that has any."""
        targets = self.turns["targets"]
        return _numbers(targets.filter(targets > 0))

    def of_role(self, role: Role) -> Int64:
        """Tokens of each turn of a role."""
        return _numbers(self.turns.filter(pl.col("role") == role)["tokens"])

    def groups(self) -> list[Group]:
        """The conversations by language and by their use of tools, each that occurs."""
        by_language = [(name, pl.col("language") == place) for place, name in enumerate(LANGUAGES)]
        by_tools = [("tools", pl.col("tools")), ("no_tools", ~pl.col("tools"))]
        return [
            Group(
                name=name,
                conversations=_numbers(self.rows.filter(inside)["tokens"]),
                supervised=int(self.rows.filter(inside)["supervised"].sum()),
                prompts=_numbers(self.turns.filter(inside & (pl.col("role") == "user"))["tokens"]),
                answers=_numbers(self.turns.filter(inside & (pl.col("targets") > 0))["targets"]),
            )
            for name, inside in [*by_language, *by_tools]
            if self.rows.select(inside.any()).item()
        ]

    def cuts(self) -> list[Cut]:
        """What each limit would cut, shortest limit first."""
        return [self._cuts[limit] for limit in sorted(self._cuts)]

    def covering(self, share: float, multiple: int = 256) -> int:
        """The least multiple of `multiple` in which that share of the conversations fits whole."""
        return covering(self.conversations, share, multiple)


def covering(lengths: Int64, share: float, multiple: int) -> int:
    """The least multiple of `multiple` that is at least so long as that share of the lengths."""
    length = float(np.quantile(lengths, share, method="higher"))
    return int(-(-length // multiple) * multiple)


def percentiles(lengths: Int64) -> dict[str, int]:
    """p50 … p100 of some lengths; empty for none."""
    if not len(lengths):
        return {}
    values = np.percentile(lengths, PERCENTILES, method="higher")
    return {f"p{p}": int(value) for p, value in zip(PERCENTILES, values, strict=True)}


def _numbers(column: pl.Series) -> Int64:
    return column.to_numpy().astype(np.int64)


def _uses_tools(conversation: Conversation) -> bool:
    return bool(conversation.tools) or any(m.tool_calls for m in conversation.messages)


def _cut(tokens: TokenBatch, limit: int) -> Cut:
    row_starts = tokens.offsets[tokens.row]
    trained = tokens.targets > 0
    end = (tokens.end - row_starts + tokens.stopped)[trained]
    begin = end - tokens.targets[trained]
    lost = np.clip(end - np.maximum(begin, limit), 0, None)
    long = tokens.lengths > limit
    first = np.full(len(long), np.iinfo(np.int64).max)
    np.minimum.at(first, tokens.row[trained], begin)
    return Cut(
        max_length=limit,
        rows=int(long.sum()),
        without_labels=int((long & (first >= limit) & (tokens.supervised > 0)).sum()),
        answers_cut=int(((begin < limit) & (end > limit)).sum()),
        supervised_lost=int(lost.sum()),
    )


def _add(one: Cut | None, other: Cut) -> Cut:
    if one is None:
        return other
    return Cut(
        max_length=one.max_length,
        rows=one.rows + other.rows,
        without_labels=one.without_labels + other.without_labels,
        answers_cut=one.answers_cut + other.answers_cut,
        supervised_lost=one.supervised_lost + other.supervised_lost,
    )
