"""Conversations checked in batches: what every command does first that makes tokens of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from glmprep.collect import Hit
from glmprep.families import Family
from glmprep.findings import Example, Rule, Severity
from glmprep.records import Conversation, RawRow, Rejection
from glmprep.rules.format import FORMAT_RULES, MessageRule, special_token_text
from glmprep.rules.template import unrenderable
from glmprep.rules.text import FINDS
from glmprep.source import Source
from glmprep.stream import Stream
from glmprep.table import message_table, said
from glmprep.text.spots import excerpt

BATCH, CHARACTERS = 1024, 4 << 20
"""A batch ends with so many conversations, or with the one that brings it to so much text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Sound conversations with their message table (see `glmprep.table`), and what is trained.

    `rows` are the conversations as the family trains them, mostly themselves (see `Family.rows`);
    `row_of` holds for each of them the place of its conversation in `conversations`.
    """

    conversations: Sequence[Conversation]
    messages: pl.DataFrame
    rows: Sequence[Conversation]
    row_of: Sequence[int]


class Intake(Stream):
    """A stream whose conversations are checked, in batches.

    `rules` are checked on every message; a conversation in which one that is an error fires is
    rejected. With `keep_flags`, `flags` collects for each message where it is, its measures, and
    for each rule whether it fired.
    """

    def __init__(
        self,
        source: Source,
        *,
        family: Family,
        special_tokens: Sequence[str],
        given: Iterable[RawRow | Rejection] | None = None,
        rules: Sequence[MessageRule] = FORMAT_RULES,
        keep_flags: bool = False,
    ) -> None:
        super().__init__(source, given=given)
        self.flags: list[pl.DataFrame] | None = [] if keep_flags else None
        self._family = family
        self._rules = rules
        self._fires = {
            rule.id: rule(special_tokens) if rule is special_token_text else rule()
            for rule in rules
        }

    def batches(self) -> Iterator[Batch]:
        """The sound conversations in order."""
        parsed: list[Conversation] = []
        characters = 0
        for item in self.items():
            if isinstance(item, Rejection):
                continue
            parsed.append(item)
            characters += sum([len(m.content) + len(m.reasoning) for m in item.messages])
            if len(parsed) == BATCH or characters >= CHARACTERS:
                yield self._check(parsed)
                parsed, characters = [], 0
        if parsed:
            yield self._check(parsed)

    def _check(self, parsed: list[Conversation]) -> Batch:
        messages = message_table(parsed)
        self.messages += messages.height
        # Lazily, since rules share expressions, which are worked out once that way.
        flags = messages.lazy().select("row", "turn", text=said(), **self._fires).collect()
        if self.flags is not None:
            self.flags.append(_measures(parsed, messages, flags))
        rejected: dict[int, Rejection] = {}
        for rule in (rule for rule in self._rules if flags[rule.id].any()):
            hits = flags.filter(pl.col(rule.id)).select("row", "turn", "text")
            if rule.severity is Severity.ERROR:
                for row, turn, _ in hits.rows():
                    rejected.setdefault(row, _rejection(parsed[row], turn, rule))
            wanted = self.lacking(rule.id)
            examples = [
                _example(parsed[r], turn, excerpt(text, FINDS.get(rule.id)))
                for r, turn, text in hits.head(wanted).rows()
            ]
            rows = hits["row"].n_unique()
            self.hit(Hit(rule=rule, count=hits.height, rows=rows, examples=examples))
        self.rejections += [rejected[row] for row in sorted(rejected)]
        grown: list[Sequence[Conversation]] = []
        for row, conversation in enumerate(parsed):
            if row in rejected:
                continue
            made = unrenderable(self._family, conversation)
            if isinstance(made, Rejection):
                rejected[row] = made
                self.reject(made)
            else:
                grown.append(made)
        sound = [one for row, one in enumerate(parsed) if row not in rejected]
        if rejected:
            messages = messages.filter(~pl.col("row").is_in(list(rejected)))
        return Batch(
            conversations=sound,
            messages=messages,
            rows=[row for group in grown for row in group],
            row_of=[place for place, group in enumerate(grown) for _ in group],
        )


def _measures(
    parsed: Sequence[Conversation], messages: pl.DataFrame, flags: pl.DataFrame
) -> pl.DataFrame:
    """One row per message: numbers and flags only, no text."""
    where = pl.Series("where", [str(conversation.origin) for conversation in parsed])
    measured = messages.select(
        where=where.gather(messages["row"]),
        message=pl.col("turn") + 1,
        role="role",
        characters=pl.col("content").str.len_chars(),
        calls="calls",
    )
    return measured.hstack(flags.drop("row", "turn", "text"))


def _example(conversation: Conversation, turn: int, shown: str) -> Example:
    return Example(where=f"{conversation.origin} message {turn + 1}", excerpt=shown)


def _rejection(conversation: Conversation, turn: int, rule: Rule[Any]) -> Rejection:
    message = f"message {turn + 1}, {conversation.messages[turn].role}"
    return Rejection(
        rule=rule.id,
        reason=f"{rule.title.rstrip('.')} ({message})",
        origin=conversation.origin,
        conversation=conversation.id,
    )
