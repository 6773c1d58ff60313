"""The list of what was left out of prompts that are too long, so that it can be found again."""

from __future__ import annotations

from pathlib import Path

import orjson

from glmprep.collect import EXAMPLES, Hit
from glmprep.findings import Example
from glmprep.rules.lengths import prompt_shortened
from glmprep.shorten import Shortened


class LeftOut:
    """Collects a line for each gap."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self._rows: set[str] = set()
        self._examples: list[Example] = []

    def take(self, shortened: list[Shortened]) -> int:
        """Write down what is left out of one conversation, and clear the list; its tokens."""
        self.lines += [orjson.dumps(one.as_json()) + b"\n" for one in shortened]
        self._examples += [one.example for one in shortened[: EXAMPLES - len(self._examples)]]
        self._rows.update(one.where for one in shortened)
        tokens = sum(one.tokens for one in shortened)
        shortened.clear()
        return tokens

    def hit(self) -> Hit:
        """All of it, for rule DL005; its `dropped_tokens` are left to who adds up."""
        return Hit(
            rule=prompt_shortened,
            count=len(self.lines),
            rows=len(self._rows),
            examples=self._examples,
        )


def shortened_path(output: Path) -> Path:
    """Where it is listed what was left out of the prompts of an output file."""
    return output.with_name(f"{output.name}.shortened.jsonl")
