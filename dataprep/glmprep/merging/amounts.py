"""How much conversations hold, counted anew from their canonical rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from glmprep.families import Family
from glmprep.labels import tokenize
from glmprep.parse import parse
from glmprep.records import Conversation, Origin, RawRow, Rejection
from glmprep.rules.template import unrenderable
from glmprep.tokenizer import Tokenizer

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """Rows, their turns, the characters of their texts, and their tokens, trained and not."""

    rows: int = 0
    turns: int = 0
    characters: int = 0
    trained: int = 0
    context: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(**{n: getattr(self, n) + getattr(other, n) for n in NUMBERS})

    def __sub__(self, other: Amount) -> Amount:
        return Amount(**{n: getattr(self, n) - getattr(other, n) for n in NUMBERS})

    @property
    def tokens(self) -> int:
        """All tokens."""
        return self.trained + self.context

    def as_json(self) -> dict[str, int]:
        """The numbers by name."""
        return {name: getattr(self, name) for name in NUMBERS}


NUMBERS = tuple(Amount.__dataclass_fields__)


def conversations(rows: Iterable[Row], origin: Origin) -> Iterator[Conversation | Rejection]:
    """The conversations of canonical rows."""
    yield from parse(RawRow(value=row, origin=origin) for row in rows)


def amounts(
    chats: Sequence[Conversation | Rejection], family: Family, tokenizer: Tokenizer
) -> list[Amount | None]:
    """What each conversation holds, in the rows that the family trains; None where it has none."""
    made = [chat if isinstance(chat, Rejection) else unrenderable(family, chat) for chat in chats]
    trained_rows = [() if isinstance(rows, Rejection) else rows for rows in made]
    tokens = tokenize([row for rows in trained_rows for row in rows], family, tokenizer)
    ends = np.cumsum([0, *map(len, trained_rows)])
    total = np.concatenate(([0], np.cumsum(tokens.lengths)))[ends]
    trained = np.concatenate(([0], np.cumsum(tokens.supervised)))[ends]
    sums = zip(np.diff(total).tolist(), np.diff(trained).tolist(), strict=True)
    return [
        None if isinstance(rows, Rejection) else _amount(chat, length, supervised)
        for chat, rows, (length, supervised) in zip(chats, made, sums, strict=True)
    ]


def _amount(chat: Conversation | Rejection, tokens: int, trained: int) -> Amount:
    assert isinstance(chat, Conversation)
    return Amount(
        rows=1,
        turns=len(chat.messages),
        characters=sum(len(message.content) for message in chat.messages),
        trained=trained,
        context=tokens - trained,
    )
