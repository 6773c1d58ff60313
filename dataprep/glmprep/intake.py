"""Read, parse and check in batches: what every data command does first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import orjson
import polars as pl

from glmprep import policy
from glmprep.collect import Hit
from glmprep.families import Family
from glmprep.findings import RULES, Example, Finding, Number, Rule, Severity
from glmprep.mending import Mending
from glmprep.parse import parse
from glmprep.read import find, read
from glmprep.records import Conversation, Rejection
from glmprep.rules.format import FORMAT_RULES, MessageRule, special_token_text
from glmprep.rules.template import unrenderable
from glmprep.rules.text import FINDS
from glmprep.schemas.tally import Tally
from glmprep.source import Source
from glmprep.table import message_table, said
from glmprep.text.spots import excerpt

BATCH = 1024
EXAMPLES = 5


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


class Intake:
    """One pass over the data; counts what came in, what was rejected and which rules fired.

    `rows` counts rows read; each ends as a conversation of a batch or as one rejection. `files`
    are what the paths name; InputError is raised at once where one of them names nothing. `tally`
    counts forms and fields that nobody reads, `mending` keeps repairs. `rules`
    are checked on every message. With `keep_flags`, `flags` collects for each message where it is,
    its measures, and for each rule whether it fired.
    """

    def __init__(
        self,
        source: Source,
        *,
        family: Family,
        special_tokens: Sequence[str],
        rules: Sequence[MessageRule] = FORMAT_RULES,
        keep_flags: bool = False,
    ) -> None:
        self.paths = source.paths
        self.files = find(source.paths)
        self.rows = 0
        self.messages = 0
        self.rejections: list[Rejection] = []
        self.tally = Tally()
        self.mending = Mending()
        self.flags: list[pl.DataFrame] | None = [] if keep_flags else None
        self._source = source
        self._family = family
        self._rules = rules
        self._special_tokens = special_tokens
        self._messages_hit: Counter[str] = Counter()
        self._rows_hit: Counter[str] = Counter()
        self._examples: dict[str, list[Example]] = {}
        self._data: dict[str, dict[str, str | Number]] = {}

    def batches(self) -> Iterator[Batch]:
        """The sound conversations in order."""
        source = self._source
        stream = parse(
            read(source.paths),
            source.roles,
            take=source.take,
            mend=self.mending if source.repair else None,
            tally=self.tally,
        )
        while chunk := list(islice(stream, BATCH)):
            self.rows += len(chunk)
            parsed = []
            for item in chunk:
                if isinstance(item, Rejection):
                    self.reject(item)
                else:
                    parsed.append(policy.apply(item, source.train_on))
            if parsed:
                yield self._check(parsed)
        for hit in (*self.tally.hits(), *self.mending.hits()):
            self.hit(hit)

    def reject(self, rejection: Rejection) -> None:
        """Take a row out, here or in a later stage, with its rule and reason."""
        self.rejections.append(rejection)
        example = Example(where=str(rejection.origin), excerpt=rejection.reason)
        self.hit(Hit(rule=RULES[rejection.rule], count=1, rows=1, examples=[example]))

    def hit(self, hit: Hit) -> None:
        """Note that a rule fired."""
        rule = hit.rule.id
        self._messages_hit[rule] += hit.count
        self._rows_hit[rule] += hit.rows
        self._data.setdefault(rule, {}).update(hit.data)
        kept = self._examples.setdefault(rule, [])
        kept += hit.examples[: EXAMPLES - len(kept)]

    def findings(self, **data: Any) -> list[Finding]:
        """One finding per rule that fired; `data` is what the texts name beside the counts."""
        where = ", ".join(self.paths)
        return [
            RULES[rule_id].finding(
                where,
                examples=tuple(self._examples[rule_id]),
                count=self._messages_hit[rule_id],
                rows=self._rows_hit[rule_id],
                **{**data, **self._data[rule_id]},
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
        # Lazily, since rules share expressions, which are worked out once that way.
        flags = messages.lazy().select("row", "turn", text=said(), **self._flags()).collect()
        if self.flags is not None:
            self.flags.append(_measures(parsed, messages, flags))
        rejected: dict[int, Rejection] = {}
        for rule in (rule for rule in self._rules if flags[rule.id].any()):
            hits = flags.filter(pl.col(rule.id)).select("row", "turn", "text")
            if rule.severity is Severity.ERROR:
                for row, turn, _ in hits.rows():
                    rejected.setdefault(row, _rejection(parsed[row], turn, rule))
            wanted = EXAMPLES - len(self._examples.get(rule.id, ()))
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
        return Batch(
            conversations=sound,
            messages=messages.filter(~pl.col("row").is_in(list(rejected))),
            rows=[row for group in grown for row in group],
            row_of=[place for place, group in enumerate(grown) for _ in group],
        )

    def _flags(self) -> dict[str, pl.Expr]:
        return {
            rule.id: rule(self._special_tokens) if rule is special_token_text else rule()
            for rule in self._rules
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
