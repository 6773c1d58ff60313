"""What is trained in a shard folder, seen from the outside: turns, trained runs, coverage.

The shards alone are looked at, not how they were made, so faults of any writer show. Ids and mask
are taken apart twice: in *blocks*, a role token with the text up to the next one, which say whose
words they are; and in *runs*, stretches of trained tokens, which say where training begins and
ends. All of it is numpy over whole columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from glmprep import shards, tokenizer
from glmprep.errors import InputError, UsageError
from glmprep.families.roles import ASSISTANT, OBSERVATION, SYSTEM, USER
from glmprep.findings import Example
from glmprep.ledger import Ledger
from glmprep.shards import Manifest, Rows
from glmprep.tokenizer import EMBEDDED, Tokenizer

Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

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


@dataclass(frozen=True, kw_only=True)
class Labels:
    """A shard folder taken apart; positions count over the tokens of all rows.

    `blocks` are the positions where a block begins: each role token, and each segment's start.
    """

    manifest: Manifest
    rows: Rows
    roles: Roles
    tokenizer: Tokenizer

    @cached_property
    def trained(self) -> Bool:
        """Whether a token is a training target."""
        return np.asarray(self.rows.loss_mask == 1)

    @cached_property
    def segments(self) -> Int64:
        """Positions at which a segment begins; a row's start is one too."""
        new = np.diff(self.rows.segment_ids, prepend=-1) != 0
        new[self.rows.offsets[:-1]] = True
        return np.flatnonzero(new)

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
    def block_roles(self) -> npt.NDArray[np.int32]:
        """The first token of each block: its role, or the prefix of a segment."""
        return self.rows.input_ids[self.blocks]

    def role_at(self, places: Int64) -> npt.NDArray[np.int32]:
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
    def run_ends(self) -> Int64:
        """Positions of the last token of each trained run."""
        last = np.append(self.segments[1:], len(self.trained)) - 1
        ends = self.trained.copy()
        ends[:-1] &= ~self.trained[1:]
        ends[last] = self.trained[last]
        return np.flatnonzero(ends)

    @cached_property
    def open_ends(self) -> Int64:
        """Last tokens of the runs in an answer that do not end in a stop token."""
        ends = self.run_ends
        ends = ends[~np.isin(self.rows.input_ids[ends], self.manifest.stop_ids)]
        return np.asarray(ends[self.role_at(ends) == self.roles.assistant])

    @cached_property
    def untrained_stops(self) -> Int64:
        """Stop tokens that follow a trained run at once and are not trained."""
        return self.open_ends[self.followed_by_stop(self.open_ends)] + 1

    @property
    def allowed_open_ends(self) -> int:
        """Runs that rightly end without a stop, as the ledger counts: pieces of long turns."""
        return Ledger.from_json(self.manifest.ledger).open_ends

    def followed_by_stop(self, places: Int64) -> Bool:
        """Whether a stop token of the same segment follows."""
        inside = np.searchsorted(self.segments, places, "right")
        ends = np.append(self.segments, len(self.trained))[inside]
        following = np.append(self.rows.input_ids, -1)[places + 1]
        return (places + 1 < ends) & np.isin(following, self.manifest.stop_ids)

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
        return {
            "layout": self.manifest.layout,
            "total": _coverage_json(self.total),
            "buckets": [_coverage_json(each) for each in self.coverage],
            "trained_runs": len(self.run_starts),
            "runs_with_stop": len(self.run_ends) - len(self.open_ends),
            "trained_stops": self.stop_counts(),
        }

    def stop_counts(self) -> dict[str, int]:
        """How often each stop token is a training target, by its name."""
        ids = self.rows.input_ids[self.headers][self.trained[self.headers]]
        return {
            self.tokenizer.decode([stop]): int((ids == stop).sum())
            for stop in self.manifest.stop_ids
        }


def read(folder: Path, tokenizer_spec: str | None = None) -> Labels:
    """Read a shard folder whole.

    Raises InputError for a folder that is none, UsageError for a vocabulary that did not make it.
    """
    manifest, rows = shards.read(folder)
    if not len(rows):
        raise InputError(f"{folder}: shards without rows")
    vocabulary = tokenizer.load(tokenizer_spec or EMBEDDED).adding(manifest.added)
    if manifest.tokenizer.get("sha256") != vocabulary.fingerprint:
        made_with = manifest.tokenizer.get("name")
        raise UsageError(f"{folder}: made with the tokenizer {made_with}; pass it as --tokenizer")
    return Labels(manifest=manifest, rows=rows, roles=Roles.of(vocabulary), tokenizer=vocabulary)


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
