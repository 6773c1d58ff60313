"""One conversation through everything that was asked for: trimmed, turns merged, and checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

from glmprep.merging.key import lost_from
from glmprep.merging.outcomes import kept_for_key, kept_in_order, key_lost, nothing_left
from glmprep.merging.trimming import Trimmer
from glmprep.merging.turns import Near, merge_turns
from glmprep.records import Origin
from glmprep.repair import Change, Turn

Row = dict[str, Any]
State = tuple[str, list[Turn]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """A row as it came and as it was left.

    `states` are the messages after each rule that changed any. `gone` is the rule by which nothing
    is left of the row. `held` counts what was not done, by the rule that says why, and `notes` are
    that rule's words.
    """

    origin: Origin
    row: Row
    messages: Sequence[Turn]
    changes: Sequence[Change] = ()
    states: Sequence[State] = ()
    gone: str | None = None
    held: Mapping[str, int] = field(default_factory=dict)
    note: str = ""

    @property
    def left(self) -> Row:
        """The row as it was left."""
        return {**self.row, "messages": list(self.messages)}

    def steps(self) -> Iterator[tuple[Change, Sequence[Turn], Sequence[Turn]]]:
        """Each change, the last first, with the messages before and after it."""
        messages = list(self.messages)
        for change in reversed(self.changes):
            after = list(messages)
            change.take_back(messages)
            yield change, messages, after

    def untouched(self, rule: str, note: str) -> Merged:
        """The row as it came, since a rule would not have it otherwise."""
        return Merged(
            origin=self.origin,
            row=self.row,
            messages=self.row["messages"],
            held={rule: 1},
            note=note,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Merger:
    """What is done within conversations; both parts are left out where nobody asked for them."""

    trimmer: Trimmer | None = None
    near: Near | None = None

    def __call__(self, row: Row, origin: Origin) -> Merged:
        """A canonical row, merged; one that would lose key information comes back as it is."""
        messages: list[Turn] = list(row["messages"])
        changes: list[Change] = []
        states: list[State] = []
        held: Counter[str] = Counter()
        if self.trimmer is not None:
            trimmed = self.trimmer(messages)
            messages, changes, states = trimmed.messages, trimmed.changes, trimmed.states
            held[kept_for_key.id] = trimmed.key.total()
            held[kept_in_order.id] = trimmed.order.total()
        if self.near is not None:
            messages = self._merge_turns(messages, changes, states, held)
        return self.finished(row, origin, messages, changes, states, +held)

    def finished(
        self,
        row: Row,
        origin: Origin,
        messages: Sequence[Turn],
        changes: Sequence[Change],
        states: Sequence[State] = (),
        held: Mapping[str, int] | None = None,
    ) -> Merged:
        """The row with its changes, if there is something left and nothing key is lost."""
        merged = Merged(
            origin=origin,
            row=row,
            messages=messages,
            changes=changes,
            states=states,
            held=held or {},
        )
        if changes and nothing_left(row["messages"], messages):
            return replace(merged, gone=nothing_left.id)
        if changes and (missing := key_lost(row["messages"], messages)):
            rules = ", ".join(sorted({change.rule for change in changes}))
            return merged.untouched(key_lost.id, f"{', '.join(missing)} by {rules}")
        return merged

    def _merge_turns(
        self,
        messages: list[Turn],
        changes: list[Change],
        states: list[State],
        held: Counter[str],
    ) -> list[Turn]:
        """The messages with close turns merged; changes, states and what was held are added to."""
        assert self.near is not None
        left = list(messages)
        edits = list(merge_turns(messages, near=self.near))
        for rule, group in groupby(edits, key=lambda edit: edit.rule):
            for edit in group:
                if lost_from(edit.before, edit.after):
                    # Later edits build on this one: none of them is made.
                    held[kept_for_key.id] += 1
                    return left
                left[edit.at : edit.at + len(edit.before)] = edit.after
                changes.append(edit)
            states.append((rule, list(left)))
        return left
