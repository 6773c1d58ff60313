"""Read, parse and check in batches: what every data command does first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import orjson
import polars as pl

from glmprep.findings import RULES, Example, Finding, Rule, Severity
from glmprep.parse import parse
from glmprep.read import find, read
from glmprep.records import Conversation, Rejection
from glmprep.rules.format import FORMAT_RULES, special_token_text
from glmprep.table import message_table

BATCH = 1024
EXAMPLES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Sound conversations, and their message table (see `glmprep.table`)."""

    conversations: Sequence[Conversation]
    messages: pl.DataFrame


class Intake:
    """One pass over the data; counts what came in, what was rejected and which rules fired.

    `rows` counts rows read; each ends as a conversation of a batch or as one rejection. `files`
    are what the paths name; InputError is raised at once where one of them names nothing. With
    `keep_flags`, `flags` collects for each message where it is, its measures, and for each rule on
    the form whether it fired.
    """

    def __init__(
        self,
        paths: Sequence[str],
        *,
        special_tokens: Sequence[str],
        roles: Mapping[str, str] | None = None,
        keep_flags: bool = False,
    ) -> None:
        self.paths = paths
        self.files = find(paths)
        self.rows = 0
        self.messages = 0
        self.rejections: list[Rejection] = []
        self.flags: list[pl.DataFrame] | None = [] if keep_flags else None
        self._roles = roles
        self._special_tokens = special_tokens
        self._messages_hit: Counter[str] = Counter()
        self._rows_hit: Counter[str] = Counter()
        self._examples: dict[str, list[Example]] = {}

    def batches(self) -> Iterator[Batch]:
        """The sound conversations in order."""
        stream = parse(read(self.files), self._roles)
        while chunk := list(islice(stream, BATCH)):
            self.rows += len(chunk)
            parsed = []
            for item in chunk:
                if isinstance(item, Rejection):
                    self.reject(item)
                else:
                    parsed.append(item)
            if parsed:
                yield self._check(parsed)

    def reject(self, rejection: Rejection) -> None:
        """Take a row out, here or in a later stage, with its rule and reason."""
        self.rejections.append(rejection)
        example = Example(where=str(rejection.origin), excerpt=rejection.reason)
        self.hit(RULES[rejection.rule], 1, 1, [example])

    def hit(self, rule: Rule[Any], count: int, rows: int, examples: Sequence[Example]) -> None:
        """Note that a rule fired `count` times in `rows` conversations."""
        self._messages_hit[rule.id] += count
        self._rows_hit[rule.id] += rows
        kept = self._examples.setdefault(rule.id, [])
        kept += examples[: EXAMPLES - len(kept)]

    def findings(self, **data: Any) -> list[Finding]:
        """One finding per rule that fired; `data` is what the texts name beside the counts."""
        where = ", ".join(self.paths)
        return [
            RULES[rule_id].finding(
                where,
                examples=tuple(self._examples[rule_id]),
                count=self._messages_hit[rule_id],
                rows=self._rows_hit[rule_id],
                **data,
            )
            for rule_id in sorted(self._messages_hit)
        ]

    def nothing_left(self, **data: Any) -> str:
        """Why no row is left, from the first that was rejected; for an error of one line."""
        names = ", ".join(self.paths)
        if not self.rejections:
            return f"{names}: no rows"
        first = self.rejections[0]
        fix = RULES[first.rule].finding(str(first.origin), count=1, rows=1, **data).fix
        return (
            f"{names}: no row can be trained on, of {self.rows}; "
            f"the first: {first.origin}: {first.reason}; {fix}"
        )

    def _check(self, parsed: list[Conversation]) -> Batch:
        messages = message_table(parsed)
        self.messages += messages.height
        flags = messages.select("row", "turn", "content", **self._flags())
        if self.flags is not None:
            self.flags.append(_measures(parsed, messages, flags))
        rejected: dict[int, Rejection] = {}
        for rule in FORMAT_RULES:
            hits = flags.filter(pl.col(rule.id)).select("row", "turn", "content")
            if hits.is_empty():
                continue
            if rule.severity is Severity.ERROR:
                for row, turn, _ in hits.rows():
                    rejected.setdefault(row, _rejection(parsed[row], turn, rule))
            examples = [
                _example(parsed[r], turn, text) for r, turn, text in hits.head(EXAMPLES).rows()
            ]
            self.hit(rule, hits.height, hits["row"].n_unique(), examples)
        self.rejections += [rejected[row] for row in sorted(rejected)]
        sound = [one for row, one in enumerate(parsed) if row not in rejected]
        return Batch(
            conversations=sound, messages=messages.filter(~pl.col("row").is_in(list(rejected)))
        )

    def _flags(self) -> dict[str, pl.Expr]:
        return {
            rule.id: rule(self._special_tokens) if rule is special_token_text else rule()
            for rule in FORMAT_RULES
        }


def by_rule(rejections: Sequence[Rejection]) -> dict[str, int]:
    """How many rejections each rule made, by rule id."""
    return dict(sorted(Counter(rejection.rule for rejection in rejections).items()))


def reject_lines(rejections: Sequence[Rejection]) -> bytes:
    """Rejections as JSON Lines, in the order of the files' names and their lines."""
    ordered = sorted(
        rejections, key=lambda rejection: (rejection.origin.path, rejection.origin.line)
    )
    return b"".join(orjson.dumps(rejection.as_json()) + b"\n" for rejection in ordered)


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
    return measured.hstack(flags.drop("row", "turn", "content"))


def _example(conversation: Conversation, turn: int, text: str) -> Example:
    return Example(where=f"{conversation.origin} message {turn + 1}", excerpt=text[:200])


def _rejection(conversation: Conversation, turn: int, rule: Rule[Any]) -> Rejection:
    message = f"message {turn + 1}, {conversation.messages[turn].role}"
    return Rejection(
        rule=rule.id,
        reason=f"{rule.title.rstrip('.')} ({message})",
        origin=conversation.origin,
        conversation=conversation.id,
    )
