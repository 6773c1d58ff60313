"""The stage that cuts: of one block the rows that fit, each target trained in exactly one of them.

Its facts (see `texts`) are those that `segment.Segmented` adds up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import PurePath
from typing import Any

from glmprep import canonical, units
from glmprep.blocks import Block
from glmprep.contexts import loading as contexts
from glmprep.coverage import COLUMNS, NUMBERS, Counts, context_tokens, entering, held
from glmprep.cutting import Cutting
from glmprep.entries import Entries, places
from glmprep.families import Family
from glmprep.findings import Rule
from glmprep.intake import Batch, Intake
from glmprep.leftout import LeftOut
from glmprep.overflow import OverflowSplitter
from glmprep.plan import Planner, Segment
from glmprep.records import Rejection
from glmprep.rules.lengths import exchange_too_long, header_too_long, no_labels
from glmprep.seams import Seams
from glmprep.segmenters import loading as segmenters
from glmprep.semantics.loading import load as load_embedder
from glmprep.shorten import Shorten
from glmprep.sized import CLOSING, Sized, size
from glmprep.source import Source
from glmprep.store import Store
from glmprep.texts import Text, made_once
from glmprep.tokenizer import Tokenizer
from glmprep.tokenizing import Tokenizing

FORMAT = "glmprep-segments/1"
SETTING_ASIDE = (header_too_long.id, exchange_too_long.id, no_labels.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentBlocks:
    """The work of cutting: call it with a block.

    `stamp` stands for all beside the block that decides what is made; `output` is the file that the
    segments will be part of.
    """

    source: Source
    tokenizing: Tokenizing
    cutting: Cutting
    store: Store
    stamp: str
    output: str

    def __call__(self, block: Block) -> tuple[Text, Block]:
        """The segments of a block, made or found."""
        return made_once(
            self.store, self._name(block), block, self.output, lambda: self._make(block)
        )

    def text(self, block: Block) -> Text:
        """The same, for a run in which no stage follows: the lines stay in the store."""
        return self(block)[0]

    def _name(self, block: Block) -> str:
        # A segment tells the file that its conversation came from, whatever block this is.
        return units.digest_of(FORMAT, self.stamp, PurePath(block.file.path).name, *block.named())

    def _make(self, block: Block) -> tuple[Sequence[bytes], dict[str, Any]]:
        tokenizer, family = self.tokenizing.load()
        special = list(tokenizer.added)
        # The names of what was read are those of the whole run, which its parent knows.
        source = replace(self.source, paths=())
        plan = _planner(self.cutting, family, tokenizer)
        run = _Run(
            path=block.file.path,
            intake=Intake(source, family=family, special_tokens=special, given=block.rows()),
            family=family,
            tokenizer=tokenizer,
            plan=plan,
            entries=Entries([block.file.path], COLUMNS),
        )
        return list(run.lines()), run.facts()


def stamp(source: Source, tokenizing: Tokenizing, cutting: Cutting) -> str:
    """What stands for the settings that decide what is made of a block; errors as in `load`."""
    made_by = load_embedder(cutting.encoder).name
    return units.digest_of(units.stamp(source, tokenizing), cutting.as_json(), made_by)


_embedder = lru_cache(maxsize=1)(load_embedder)
"""Each process loads it once."""


def _planner(cutting: Cutting, family: Family, tokenizer: Tokenizer) -> Planner:
    embedder = _embedder(cutting.encoder)
    split = None
    if cutting.on_overflow != "quarantine":
        keep: Shorten = "middle" if cutting.on_overflow == "middle" else "end"
        split = OverflowSplitter(family, tokenizer, cutting.limits, keep)
    return Planner(
        max_length=cutting.max_length,
        segmenter=segmenters.load(cutting.segmenter, embedder),
        before=contexts.load(cutting, family, tokenizer, embedder),
        split=split,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """One pass over the rows of the file `path`: what it needs, and what it counts and enters."""

    path: str
    intake: Intake
    family: Family
    tokenizer: Tokenizer
    plan: Planner
    entries: Entries
    left_out: LeftOut = field(default_factory=LeftOut)
    counts: Counts = field(default_factory=Counts)
    lengths: list[int] = field(default_factory=list)
    seams: Seams = field(default_factory=Seams)

    def lines(self) -> Iterator[bytes]:
        """The lines of the output."""
        for batch in self.intake.batches():
            if batch.rows:
                yield from self._batch(batch)
        self.counts.rows = self.intake.rows
        rejections = self.intake.rejections
        self.entries.reject([one for one in rejections if one.rule not in SETTING_ASIDE])

    def facts(self) -> dict[str, Any]:
        """What is known when all lines are made, as plain JSON values.

        `lengths` are the tokens of each segment, `ledger` the columns of the block's lines.
        """
        entered = self.entries.table().drop_columns(["file_index", "file"])
        return {
            "seen": self.intake.as_json(self.path),
            "counts": asdict(self.counts),
            "lengths": self.lengths,
            "seams": [asdict(seam) for seam in self.seams.kept],
            "left_out": self.left_out.hit().as_json(),
            "shortened": b"".join(self.left_out.lines).decode(),
            "mended": self.intake.mending.ledger().decode(),
            "ledger": entered.to_pydict(),
        }

    def _batch(self, batch: Batch) -> Iterator[bytes]:
        """The lines of a batch; its conversations are entered in the ledger."""
        counted: list[Counts] = []
        rules: list[str | None] = []
        for sized in size(batch.rows, self.family, self.tokenizer):
            counts, before = entering(sized), len(self.intake.rejections)
            yield from self._lines(sized, counts)
            assert counts.balances, f"{sized.conversation.origin}: turns or targets lost: {counts}"
            counted.append(counts)
            rules.append(next((one.rule for one in self.intake.rejections[before:]), None))
            self.counts.add(counts)
        self.entries.add(
            batch.rows,
            place=places(batch.row_of),
            outcome=[counts.outcome for counts in counted],
            rule=rules,
            **{name: [getattr(counts, name) for counts in counted] for name in NUMBERS},
        )

    def _lines(self, sized: Sized, counts: Counts) -> Iterator[bytes]:
        if sized.total <= self.plan.max_length:
            counts.whole = 1
            counts.targets_out, counts.tokens_out = counts.targets_in, counts.tokens_in
            counts.turns_out = counts.turns_in
            yield canonical.line(sized.conversation)
            return
        counts.cut = 1
        if sized.head + CLOSING >= self.plan.max_length:
            self._set_aside(sized, header_too_long, "system message and tools", sized.head)
        elif not counts.targets_in:
            self._set_aside(sized, no_labels, "nothing in it is trained", sized.total)
        else:
            yield from self._cut(sized, counts)
            return
        counts.turns_set_aside, counts.targets_set_aside = counts.turns_in, counts.targets_in

    def _cut(self, sized: Sized, counts: Counts) -> Iterator[bytes]:
        segments: list[Segment] = []
        aside: set[int] = set()
        for part in self.plan(sized):
            if isinstance(part, Segment):
                segments.append(part)
                continue
            place = f"messages {part.first + 1} to {part.last}"
            self._set_aside(sized, exchange_too_long, place, sized.head + part.tokens + CLOSING)
            aside.update(range(part.first, part.last))
            counts.exchanges_set_aside += 1
            counts.targets_set_aside += part.targets
        if not segments:
            aside.update(range(counts.turns_in))
        shortened = self.plan.split.shortened if self.plan.split else []
        turns = held(sized, segments, shortened)
        counts.tokens_shortened = self.left_out.take(shortened)
        counts.turns_out, counts.turns_set_aside = len(turns), len(aside - turns)
        counts.turns_left_out = counts.turns_in - len(aside | turns)
        parts = [part.conversation() for part in segments]
        counts.segments = len(segments)
        for part, measured in zip(segments, size(parts, self.family, self.tokenizer), strict=True):
            # Measured again, from what is written: the sums are a proof, not a plan.
            counts.targets_out += sum(measured.turn_targets)
            counts.tokens_out += measured.total
            replayed, noted = context_tokens(part, measured)
            counts.tokens_replayed += replayed
            counts.tokens_noted += noted
            self.lengths.append(measured.total)
        self.seams.add(segments)
        for part, conversation in zip(segments, parts, strict=True):
            yield canonical.line(conversation, origin=_origin(part))

    def _set_aside(self, sized: Sized, rule: Rule[Any], what: str, tokens: int) -> None:
        conversation = sized.conversation
        self.intake.reject(
            Rejection(
                rule=rule.id,
                reason=f"{what}: {tokens} tokens",
                origin=conversation.origin,
                conversation=conversation.id,
            )
        )


def _origin(part: Segment) -> dict[str, Any]:
    origin = part.whole.origin
    return {
        "conversation": part.whole.id,
        "file": PurePath(origin.path).name,
        "line": origin.line,
        "turns": [part.first, part.last],
    }
