"""Merging one block: a stage of a run (see `glmprep.texts`).

Beside the lines and the facts of a block stand in the store:

    NAME.merges    the block's part of the map (see `restoring`), lines counted from 1
    NAME.sketches  where rows that are alike are looked for: the sketches of the lines, where each
                   line starts and how much it holds
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import orjson

from glmprep import canonical, units
from glmprep.blocks import Block
from glmprep.families import Family
from glmprep.intake import Intake
from glmprep.labels import tokenize
from glmprep.merging.amounts import NUMBERS, Amount, amounts, conversations
from glmprep.merging.merger import Merged
from glmprep.merging.outcomes import kept_in_order
from glmprep.merging.restoring import digest, entry, gone
from glmprep.merging.settings import Merging
from glmprep.merging.sketches import Sketches, joined, nothing, sketched
from glmprep.merging.tally import Tally
from glmprep.records import Conversation, Origin, Rejection
from glmprep.source import Source
from glmprep.store import Store
from glmprep.texts import Text, made_once
from glmprep.tokenizer import Tokenizer
from glmprep.tokenizing import Tokenizing

FORMAT = "glmprep-merge/1"
CHUNK = 64
"""Conversations that are measured at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeBlocks:
    """The work of merging: call it with a block.

    `stamp` stands for all beside the block that decides what is made, `output` is the file that the
    lines will be part of.
    """

    source: Source
    tokenizing: Tokenizing
    merging: Merging
    store: Store
    stamp: str
    output: str

    def __call__(self, block: Block) -> tuple[Text, Block]:
        """What is left of the block, made or found, and its lines as a block for the next stage."""
        text, lines = self._once(block)
        if any(self.store.size(f"{text.name}.{n}") != s for n, s in text.facts["beside"].items()):
            self.store.delete(f"{text.name}.json")
            text, lines = self._once(block)
        return text, lines

    def text(self, block: Block) -> Text:
        """What is left of the block, where no stage follows."""
        return self(block)[0]

    def _once(self, block: Block) -> tuple[Text, Block]:
        name = units.digest_of(FORMAT, self.stamp, *block.named())
        return made_once(self.store, name, block, self.output, lambda: self._make(block, name))

    def _make(self, block: Block, name: str) -> tuple[Sequence[bytes], dict[str, Any]]:
        tokenizer, family = self.tokenizing.load()
        # The names of what was read are those of the whole run, which its parent knows.
        source = replace(self.source, paths=())
        special = list(tokenizer.added)
        intake = Intake(source, family=family, special_tokens=special, given=block.rows())
        made = _Making(intake=intake, merging=self.merging, family=family, tokenizer=tokenizer)
        made.read()
        beside = made.beside()
        for kind, data in beside.items():
            self.store.write(f"{name}.{kind}", [data])
        sizes = {kind: len(data) for kind, data in beside.items()}
        return made.lines, {**made.facts(block.file.path), "beside": sizes}


def stamp(source: Source, tokenizing: Tokenizing, merging: Merging) -> str:
    """What stands for the settings that decide what is made of a block."""
    return units.digest_of(units.stamp(source, tokenizing), merging.settings())


class _Making:
    """One pass over a block: its rows are merged, measured, and `lines` made of what is left."""

    def __init__(
        self, *, intake: Intake, merging: Merging, family: Family, tokenizer: Tokenizer
    ) -> None:
        self.lines: list[bytes] = []
        self._intake, self._merger = intake, merging.merger()
        self._groups, self._embedder = merging.groups is not None, merging.embedder()
        self._family, self._tokenizer = family, tokenizer
        self._tally = Tally()
        self._amounts: list[Amount] = []
        self._source: list[bytes] = []
        self._entries: list[bytes] = []
        self._sketches: list[Sketches] = []

    def read(self) -> None:
        """The pass."""
        for batch in self._intake.batches():
            chats = iter(batch.conversations)
            while chunk := list(islice(chats, CHUNK)):
                self._merge(chunk)

    def facts(self, path: str) -> dict[str, Any]:
        """What the pass saw and did, of rows of the file `path`, as plain JSON values."""
        return {
            "seen": self._intake.as_json(path),
            "mended": self._intake.mending.ledger().decode(),
            "tally": self._tally.as_json(),
            "after": sum(self._amounts, Amount()).as_json(),
            "source": b"".join(self._source).hex(),
        }

    def beside(self) -> dict[str, bytes]:
        """The other files, by the ends of their names."""
        files = {"merges": b"".join(self._entries)}
        if self._groups:
            starts = np.cumsum([0, *map(len, self.lines)])
            held = [[getattr(one, name) for name in NUMBERS] for one in self._amounts]
            table = np.array(held, np.int32).reshape(-1, len(NUMBERS))
            sketches = joined([nothing(self._embedder), *self._sketches])
            files["sketches"] = sketches.as_bytes(starts=starts, amounts=table)
        return files

    def _merge(self, chats: Sequence[Conversation]) -> None:
        rows = [self._merger(canonical.row(chat), chat.origin) for chat in chats]
        left: list[Origin] = []
        for row, sizes in zip(rows, self._measured(rows), strict=True):
            if None in sizes:
                row = row.untouched(kept_in_order.id, "the template cannot render it")
            self._settle(row, [size for size in sizes[: len(row.states) + 1] if size is not None])
            if row.gone is None:
                left.append(row.origin)
        self._count(left)

    def _measured(self, rows: Sequence[Merged]) -> Iterator[list[Amount | None]]:
        """What each row holds as it came and in each of its states."""
        states = [[row.row["messages"], *(state for _, state in row.states)] for row in rows]
        told = [
            _conversation({**row.row, "messages": messages}, row.origin)
            for row, many in zip(rows, states, strict=True)
            for messages in many
            if messages
        ]
        found = iter(amounts(told, self._family, self._tokenizer))
        for many in states:
            yield [next(found) if messages else Amount(rows=1) for messages in many]

    def _settle(self, row: Merged, sizes: Sequence[Amount]) -> None:
        """Count a row, and make its line, or reject it, and its entry in the map."""
        self._tally.add(row, sizes)
        self._source.append(digest(orjson.dumps(row.row) + b"\n"))
        changes = [change.as_json() for change in row.changes]
        told = entry(str(row.origin), len(self.lines) + 1, changes)
        if row.gone is not None:
            told |= gone(row.gone, row.left, None)
            self._tally.drop(row.gone, row.origin, row.messages, sizes[-1])
            self._intake.reject(
                Rejection(
                    rule=row.gone,
                    reason="nothing to train is left of it",
                    origin=row.origin,
                    conversation=row.row["id"],
                )
            )
        else:
            self.lines.append(orjson.dumps(row.left) + b"\n")
        if row.gone is not None or changes:
            self._entries.append(orjson.dumps(told) + b"\n")

    def _count(self, origins: Sequence[Origin]) -> None:
        """Count anew what the last lines hold, which came from these rows, and sketch them."""
        first = len(self.lines) - len(origins)
        chats = [
            _conversation(orjson.loads(line), origin)
            for line, origin in zip(self.lines[first:], origins, strict=True)
        ]
        for size in amounts(chats, self._family, self._tokenizer):
            assert size is not None, "a line that was measured before cannot be rendered"
            self._amounts.append(size)
        if self._groups and chats:
            tokens = tokenize(chats, self._family, self._tokenizer)
            made = sketched(chats, tokens, self._embedder)
            self._sketches.append(replace(made, row=made.row + first))


def _conversation(row: Any, origin: Origin) -> Conversation:
    made = next(conversations([row], origin))
    assert isinstance(made, Conversation), f"{origin}: a merged row is no conversation: {made}"
    return made
