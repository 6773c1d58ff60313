"""What data is like, from a look at some of it: roles, dirt, lengths, languages, tools, thought."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from glmprep import read
from glmprep.errors import InputError
from glmprep.families import Family
from glmprep.glimpse import Glimpse, glimpse
from glmprep.intake import Intake
from glmprep.labels import tokenize
from glmprep.lengths import Group, Lengths, percentiles
from glmprep.records import RawRow, Role
from glmprep.schemas.context import ROLE_NAMES
from glmprep.schemas.rules import preference_row
from glmprep.seen import by_rule
from glmprep.source import Source
from glmprep.tokenizer import Tokenizer

SPEAKERS: Mapping[str, Role] = {
    **dict.fromkeys(("client", "customer", "patient", "student", "visitor", "usr"), "user"),
    **dict.fromkeys(("counselor", "counsellor", "therapist", "doctor", "teacher"), "assistant"),
    **dict.fromkeys(("agent", "ai", "model", "sys_agent", "chatbot", "llm"), "assistant"),
}
"""What roles in published data stand for that no known form has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What a look found.

    `source` is how the data is best read. `guessed` are those of its roles that were told from who
    speaks first, `unknown` roles that stay so. `unmended` and `rejected` are rejections by rule
    without repair and as read, `repaired` rows by the repair that mends them. `preferred` counts
    rows of preference data. Lengths are of conversations, in tokens.
    """

    source: Source
    seen: Glimpse
    guessed: frozenset[str]
    unknown: Sequence[str]
    preferred: int
    unmended: Mapping[str, int]
    rejected: Mapping[str, int]
    repaired: Mapping[str, int]
    mended: int
    lengths: npt.NDArray[np.int64]
    supervised: int
    reasoning: int
    groups: Sequence[Group]

    @property
    def conversations(self) -> int:
        """How many of the rows that were looked at can be trained on."""
        return len(self.lengths)

    def longer(self, limit: int) -> float:
        """The share of conversations that are longer than so many tokens."""
        return float((self.lengths > limit).mean())

    def as_json(self) -> dict[str, Any]:
        """What was found as plain JSON values."""
        return {
            "files": self.seen.files,
            "bytes": self.seen.size,
            "rows_looked_at": len(self.seen.rows),
            "rows_in_all": self.seen.total,
            "looked_at_all": self.seen.whole,
            "roles": dict(self.source.roles),
            "guessed_roles": sorted(self.guessed),
            "unknown_roles": list(self.unknown),
            "preference_rows": self.preferred,
            "rejected": dict(self.rejected),
            "rejected_without_repair": dict(self.unmended),
            "repaired": dict(self.repaired),
            "conversations": self.conversations,
            "percentiles": percentiles(self.lengths),
            "supervised_tokens": self.supervised,
            "with_reasoning": self.reasoning,
            "groups": {group.name: len(group.conversations) for group in self.groups},
        }


def survey(source: Source, family: Family, tokenizer: Tokenizer) -> Survey:
    """Look at data and find how it is best read; what `source` says already stays.

    Raises InputError where nothing can be trained on.
    """
    seen = glimpse(read.files(source.paths))
    roles, guessed, unknown = _roles(seen, source.roles)
    look = partial(_Look, seen=seen, family=family, tokenizer=tokenizer)
    first = look(replace(source, roles={**roles, **source.roles}))
    preferred = by_rule(first.intake.rejections).get(preference_row.id, 0)
    if preferred and source.take is None:
        first = look(replace(first.source, take="chosen"))
    mended = look(replace(first.source, repair=True))
    best = mended if mended.intake.repaired else first
    lengths = Lengths(())
    for batch in best.batches:
        lengths.add(batch.rows, tokenize(batch.rows, family, tokenizer))
    if not lengths.rows.height:
        raise InputError(best.intake.nothing_left())
    conversations = [one for batch in best.batches for one in batch.conversations]
    return Survey(
        source=best.source,
        seen=seen,
        guessed=guessed,
        unknown=unknown,
        preferred=preferred,
        unmended=by_rule(first.intake.rejections),
        rejected=by_rule(best.intake.rejections),
        repaired=dict(best.intake.repaired),
        mended=len(best.intake.mending.rows),
        lengths=lengths.conversations,
        supervised=lengths.supervised,
        reasoning=sum(any(m.reasoning for m in one.messages) for one in conversations),
        groups=lengths.groups(),
    )


class _Look:
    """The rows of a glimpse, read and checked in one way."""

    def __init__(
        self, source: Source, *, seen: Glimpse, family: Family, tokenizer: Tokenizer
    ) -> None:
        self.source = source
        self.intake = Intake(
            source, family=family, special_tokens=list(tokenizer.added), given=seen.rows
        )
        self.batches = [batch for batch in self.intake.batches() if batch.rows]


def _roles(
    seen: Glimpse, given: Mapping[str, str]
) -> tuple[dict[str, str], frozenset[str], list[str]]:
    """What unknown roles stand for, which of these are guesses, and which stay unknown."""
    rows = [list(_speakers(row.value)) for row in seen.rows if isinstance(row, RawRow)]
    counts = Counter(name for row in rows for name in row)
    unknown = [name for name, _ in counts.most_common() if name not in {**ROLE_NAMES, **given}]
    named = {name: {**ROLE_NAMES, **SPEAKERS}.get(name.casefold()) for name in unknown}
    roles: dict[str, str] = {name: role for name, role in named.items() if role is not None}
    left = [name for name in unknown if name not in roles]
    guessed = _by_order(rows, left, {**ROLE_NAMES, **given, **roles})
    return {**roles, **guessed}, frozenset(guessed), [n for n in left if n not in guessed]


def _by_order(
    rows: Sequence[Sequence[str]], left: Sequence[str], known: Mapping[str, str]
) -> dict[str, str]:
    """Two unknown names, where no one else speaks as user or assistant: who begins is the user."""
    taken = {known.get(name) for row in rows for name in row}
    if len(left) != 2 or taken & {"user", "assistant"}:
        return {}
    begins = Counter(next((name for name in row if name in left), "") for row in rows)
    user, assistant = sorted(left, key=lambda name: -begins[name])
    return {user: "user", assistant: "assistant"}


def _speakers(value: Any) -> Iterator[str]:
    """Who speaks in the lists of turns of a row, in order."""
    for turns in value.values() if isinstance(value, dict) else ():
        for turn in turns if isinstance(turns, list) else ():
            if isinstance(turn, dict):
                name = turn.get("role", turn.get("from"))
                if isinstance(name, str):
                    yield name
