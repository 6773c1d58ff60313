"""What becomes of the reasoning in the data, in a family and its mode."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from glmprep.collect import EXAMPLES, Hit
from glmprep.families.piece import Reasoning
from glmprep.findings import Example, Rule
from glmprep.labels import TokenBatch
from glmprep.records import Conversation
from glmprep.rules.reasoning import (
    no_reasoning,
    reasoning_as_text,
    reasoning_left_out,
    rows_for_reasoning,
)

AnswerRule = Rule[Any]
RULES_OF: dict[Reasoning, tuple[AnswerRule, ...]] = {
    "untrained": (reasoning_left_out, reasoning_as_text),
    "optional": (),
    "expected": (no_reasoning,),
}
"""The rules on answers that can fire, by what the family makes of reasoning."""


class ReasoningUse:
    """Counts trained answers whose reasoning is left out, or missed, and the rows it makes."""

    def __init__(self, use: Reasoning) -> None:
        self._use = use
        self._answers: Counter[str] = Counter()
        self._rows: Counter[str] = Counter()
        self._examples: dict[str, list[Example]] = {}
        self._divided = self._made = 0
        self._first_divided: list[Example] = []

    def add(self, conversations: Sequence[Conversation], tokens: TokenBatch) -> None:
        """Take in a batch of rows; those of one conversation stand in one batch."""
        for rule in RULES_OF[self._use]:
            for conversation in conversations:
                self._check(rule, conversation)
        for origin, rows in Counter(str(c.origin) for c in conversations).items():
            if rows_for_reasoning(rows):
                self._divided += 1
                self._made += rows
                if len(self._first_divided) < EXAMPLES:
                    self._first_divided.append(Example(where=origin, excerpt=f"{rows} rows"))

    def hits(self) -> Iterator[Hit]:
        """What was found in all rows."""
        for rule in RULES_OF[self._use]:
            if self._answers[rule.id]:
                yield Hit(
                    rule=rule,
                    count=self._answers[rule.id],
                    rows=self._rows[rule.id],
                    examples=self._examples[rule.id],
                )
        if self._divided:
            yield Hit(
                rule=rows_for_reasoning,
                count=self._divided,
                rows=self._divided,
                examples=self._first_divided,
                data={"rows_made": self._made},
            )

    def _check(self, rule: AnswerRule, conversation: Conversation) -> None:
        turns = [
            turn
            for turn, message in enumerate(conversation.messages)
            if message.role == "assistant" and message.trained and rule(message, self._use)
        ]
        if not turns:
            return
        self._answers[rule.id] += len(turns)
        self._rows[rule.id] += 1
        kept = self._examples.setdefault(rule.id, [])
        for turn in turns[: EXAMPLES - len(kept)]:
            where = f"{conversation.origin} message {turn + 1}"
            kept.append(Example(where=where, excerpt=conversation.messages[turn].content[:200]))
