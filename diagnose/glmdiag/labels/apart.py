"""A set of tokens and labels taken apart: blocks, trained runs, coverage.

The tokens alone are looked at, not how they were made, so faults of any writer show. Ids and labels
are taken apart twice: in *blocks*, a role token with the text up to the next one, which say whose
words they are; and in *runs*, stretches of trained tokens, which say where training begins and
ends. All of it is numpy over whole columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from glmprep.families.roles import ASSISTANT, OBSERVATION, SYSTEM, USER
from glmprep.findings import Example
from glmprep.shards import Rows
from glmprep.tokenizer import Tokenizer
from glmreport.text import Catalogue, Text

from glmdiag.labels.contract import Served

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

SHARDS = "shards"
EXAMPLES = 5
AROUND = 12  # tokens shown on each side of a place
PROMPTS = ("<think>", "</think>", "<think></think>")
"""What generation prompts write behind `<|assistant|>`, white space around it left out."""
LONGEST_PROMPT = 12
"""Tokens of the longest of these, where its tags are plain text."""
OPEN, CLOSE = "⟦", "⟧"  # put around what is trained in an example


@dataclass(frozen=True, slots=True, kw_only=True)
class Roles:
    """Ids of the role tokens."""

    system: int
    user: int
    assistant: int
    observation: int

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Roles:
        """The ids in a vocabulary; raises InputError for one without them."""
        token = tokenizer.added_id
        return cls(
            system=token(SYSTEM),
            user=token(USER),
            assistant=token(ASSISTANT),
            observation=token(OBSERVATION),
        )

    @property
    def ids(self) -> list[int]:
        """All of them."""
        return [self.system, self.user, self.assistant, self.observation]


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """What one bucket holds; `length` is what its rows are padded to."""

    length: int
    rows: int
    tokens: int
    supervised: int
    without_labels: int

    @property
    def supervised_share(self) -> float:
        """Share of the tokens that are training targets."""
        return self.supervised / max(1, self.tokens)

    @property
    def padding(self) -> float:
        """Share of the computed tokens that are padding."""
        return 1 - self.tokens / max(1, self.rows * self.length)


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """Who made the labels, and what is known of how.

    `by` is SHARDS for this suite's shards, else `dataset` or the trainer whose rules were followed.
    `stop_ids` are the template's, `template_stops` those that the family named there has now, None
    where that is not known. `end_of_text` ends whole texts and may pad. `max_length` is the limit
    as told, None where it was not. `open_ends` counts trained runs that rightly end without a stop,
    as the ledger says. `shares` has the part of the labels that equal the token before, at and
    behind their place; labels were put on that place (`shift`) before anything else was looked at.
    `padded` labels stood on padding, `outside` ids have no row in the vocabulary, `marked` says
    whether the set tells where packed conversations begin. `left_out` rows never got so far.
    `notes` say what was not seen.
    """

    by: str
    layout: str
    stop_ids: Sequence[int]
    end_of_text: int
    prefix: Sequence[int] = ()
    template_stops: Sequence[int] | None = None
    max_length: int | None = None
    open_ends: int = 0
    shares: Mapping[int, float] = field(default_factory=lambda: {0: 1.0})
    shift: int = 0
    padded: int = 0
    outside: int = 0
    marked: bool = True
    left_out: int = 0
    notes: Sequence[Text] = ()


@dataclass(frozen=True, kw_only=True)
class Labels:
    """Rows taken apart; positions count over the tokens of all rows.

    `targets` is what is learned at each place, where that may be another token than stands there;
    None where it is always the same. `served` says at which tokens generation ends, where known.
    `blocks` are the positions where a block begins: each role token, and each segment's start.
    """

    made: Made
    rows: Rows
    roles: Roles
    tokenizer: Tokenizer
    targets: Int32 | None = None
    served: Served | None = None

    @property
    def from_shards(self) -> bool:
        """Whether these are this suite's own shards, which a ledger accounts for."""
        return self.made.by == SHARDS

    @cached_property
    def trained(self) -> Bool:
        """Whether a token is a training target."""
        return np.asarray(self.rows.loss_mask == 1)

    @cached_property
    def said(self) -> Int32:
        """What is learned at each place; the token itself where nothing is."""
        ids = self.rows.input_ids
        return ids if self.targets is None else np.where(self.trained, self.targets, ids)

    @cached_property
    def segments(self) -> Int64:
        """Positions at which a segment begins; a row's start is one too."""
        new = np.diff(self.rows.segment_ids, prepend=-1) != 0
        new[self.rows.offsets[:-1]] = True
        return np.flatnonzero(new)

    @cached_property
    def segment_ends(self) -> Int64:
        """Positions of the last token of each segment."""
        return np.append(self.segments[1:], len(self.trained)) - 1

    @cached_property
    def headers(self) -> Int64:
        """Positions of the role tokens."""
        ids = self.rows.input_ids
        near = np.flatnonzero((ids >= min(self.roles.ids)) & (ids <= max(self.roles.ids)))
        return near[np.isin(ids[near], self.roles.ids)]

    @cached_property
    def blocks(self) -> Int64:
        """Positions at which a block begins."""
        return np.union1d(self.segments, self.headers)

    @cached_property
    def block_roles(self) -> Int32:
        """The first token of each block: its role, or the prefix of a segment."""
        return self.rows.input_ids[self.blocks]

    def role_at(self, places: Int64) -> Int32:
        """Whose words stand at these positions: the first token of the block around each."""
        return self.block_roles[np.searchsorted(self.blocks, places, "right") - 1]

    @cached_property
    def trained_text(self) -> Int64:
        """Training targets of each block, its first token left out."""
        sums = np.add.reduceat(self.rows.loss_mask, self.blocks, dtype=np.int64)
        return np.asarray(sums - self.trained[self.blocks])

    @cached_property
    def run_starts(self) -> Int64:
        """Positions at which a trained run begins; runs do not cross segments."""
        begins = self.trained.copy()
        begins[1:] &= ~self.trained[:-1]
        begins[self.segments] = self.trained[self.segments]
        return np.flatnonzero(begins)

    @cached_property
    def run_ends(self) -> Int64:
        """Positions of the last token of each trained run."""
        ends = self.trained.copy()
        ends[:-1] &= ~self.trained[1:]
        ends[self.segment_ends] = self.trained[self.segment_ends]
        return np.flatnonzero(ends)

    @cached_property
    def closers(self) -> list[int]:
        """Tokens that end an answer: the template's stops, and the end of the text."""
        return sorted({*self.made.stop_ids, self.made.end_of_text})

    @cached_property
    def open_ends(self) -> Int64:
        """Last tokens of the runs in an answer that do not end in a stop token."""
        ends = self.run_ends
        ends = ends[~np.isin(self.said[ends], self.closers)]
        return np.asarray(ends[self.role_at(ends) == self.roles.assistant])

    @cached_property
    def untrained_stops(self) -> Int64:
        """Stop tokens that follow a trained run at once and are not trained."""
        return self.open_ends[self.followed_by_stop(self.open_ends)] + 1

    @property
    def allowed_open_ends(self) -> int:
        """Runs that rightly end without a stop, as the ledger counts: pieces of long turns."""
        return self.made.open_ends

    def followed_by_stop(self, places: Int64) -> Bool:
        """Whether a stop token of the same segment follows."""
        following = np.append(self.rows.input_ids, -1)[places + 1]
        inside = ~np.isin(places, self.segment_ends)
        return np.asarray(inside & np.isin(following, self.closers))

    def behind_prompt(self, places: Int64) -> Bool:
        """Whether all that stands between the role token and each of these places is a prompt.

        Templates of models that reason write `<think>`, `</think>` or both behind `<|assistant|>`.
        """
        begins = self.blocks[np.searchsorted(self.blocks, places, "right") - 1] + 1
        ids = self.rows.input_ids
        return np.fromiter(
            (
                place - begin <= LONGEST_PROMPT
                and self._is_prompt(tuple(ids[begin:place].tolist()))
                for begin, place in zip(begins.tolist(), places.tolist(), strict=True)
            ),
            np.bool_,
            len(places),
        )

    def _is_prompt(self, ids: tuple[int, ...]) -> bool:
        if ids not in self._prompts:
            self._prompts[ids] = self.tokenizer.decode(ids).strip() in PROMPTS
        return self._prompts[ids]

    @cached_property
    def _prompts(self) -> dict[tuple[int, ...], bool]:
        """What was found to be a prompt, and what not."""
        return {}

    @cached_property
    def coverage(self) -> Sequence[Coverage]:
        """The buckets, shortest first."""
        lengths, index = np.unique(self.rows.bucket, return_inverse=True)
        rows = np.bincount(index)
        tokens = np.bincount(index, self.rows.lengths)
        supervised = np.bincount(index, self.rows.supervised)
        bare = np.bincount(index, self.rows.supervised == 0)
        return [
            Coverage(
                length=int(length),
                rows=int(rows[i]),
                tokens=int(tokens[i]),
                supervised=int(supervised[i]),
                without_labels=int(bare[i]),
            )
            for i, length in enumerate(lengths)
        ]

    @property
    def total(self) -> Coverage:
        """All buckets as one, its length the mean one."""
        counts = {
            name: sum(getattr(each, name) for each in self.coverage)
            for name in ("rows", "tokens", "supervised", "without_labels")
        }
        padded = sum(each.rows * each.length for each in self.coverage)
        return Coverage(length=round(padded / max(1, counts["rows"])), **counts)

    def stop_counts(self) -> dict[str, int]:
        """How often each stop token is a training target, by its name."""
        learned = self.said[self.trained]
        eot = self.made.end_of_text
        counts = {stop: int((learned == stop).sum()) for stop in self.closers}
        if eot not in self.made.stop_ids and not counts[eot]:
            del counts[eot]
        return {self.tokenizer.decode([stop]): count for stop, count in counts.items()}

    def examples(self, places: Int64) -> tuple[Example, ...]:
        """Some of the places in words: the row, and the text around with what is trained marked."""
        return tuple(self._example(int(place)) for place in places[:EXAMPLES])

    def _example(self, place: int) -> Example:
        row = int(np.searchsorted(self.rows.offsets, place, "right")) - 1
        segment = int(self.rows.segment_ids[place])
        begin, end = int(self.rows.offsets[row]), int(self.rows.offsets[row + 1])
        ids = self.rows.conversation_ids[row]
        name = f" ({ids[segment]})" if segment < len(ids) else ""
        around = slice(max(begin, place - AROUND), min(end, place + AROUND + 1))
        return Example(where=f"row {row}{name}", excerpt=self._marked(around))

    def _marked(self, around: slice) -> str:
        """Decoded tokens, trained stretches in brackets."""
        ids, trained = self.rows.input_ids[around], self.trained[around]
        turns = np.flatnonzero(np.diff(trained)) + 1
        parts = np.split(ids, turns)
        inside = [bool(trained[at]) for at in (0, *turns)]
        texts = [self.tokenizer.decode(part.tolist()) for part in parts]
        marked = [f"{OPEN}{t}{CLOSE}" if yes else t for t, yes in zip(texts, inside, strict=True)]
        return "".join(marked)

    def as_json(self) -> dict[str, Any]:
        """The sums as plain JSON values."""
        from glmdiag.labels.turns import turns

        return {
            "made_by": self.made.by,
            "layout": self.made.layout,
            "total": _coverage_json(self.total),
            "buckets": [_coverage_json(each) for each in self.coverage],
            "turns": [each.as_json() for each in turns(self)],
            "trained_runs": len(self.run_starts),
            "runs_with_stop": len(self.run_ends) - len(self.open_ends),
            "trained_stops": self.stop_counts(),
            "served_stops": None if self.served is None else list(self.served.ids),
            "label_shift": self.made.shift,
            "max_length": self.made.max_length,
            "left_out": self.made.left_out,
            "notes": [Catalogue.load("en").say(note) for note in self.made.notes],
        }


def _coverage_json(coverage: Coverage) -> dict[str, Any]:
    return {
        "length": coverage.length,
        "rows": coverage.rows,
        "tokens": coverage.tokens,
        "supervised_tokens": coverage.supervised,
        "supervised_share": coverage.supervised_share,
        "padding": coverage.padding,
        "rows_without_labels": coverage.without_labels,
    }
