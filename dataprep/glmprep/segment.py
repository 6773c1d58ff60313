"""Over-long conversations to segments that each fit, with every target trained exactly once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePath
from typing import Any

from glmprep import canonical, entries
from glmprep.contexts import loading as contexts
from glmprep.coverage import COLUMNS, NUMBERS, Counts, context_tokens, entering, held
from glmprep.cutting import Cutting, cutting_path, lines
from glmprep.entries import Entries, places
from glmprep.errors import InputError
from glmprep.families import Family
from glmprep.files import replacing, require_other, write_atomically
from glmprep.findings import Finding, Rule
from glmprep.intake import Batch, Intake
from glmprep.leftout import LeftOut, shortened_path
from glmprep.mending import repairs_path
from glmprep.overflow import OverflowSplitter
from glmprep.plan import Planner, Segment
from glmprep.records import Rejection
from glmprep.rules.lengths import (
    exchange_too_long,
    header_too_long,
    no_labels,
)
from glmprep.seams import Seam, Seams
from glmprep.segmenters import loading as segmenters
from glmprep.semantics.embedder import Embedder
from glmprep.semantics.loading import load as load_embedder
from glmprep.shorten import Shorten
from glmprep.sized import CLOSING, Sized, require_room, size
from glmprep.source import Source
from glmprep.stream import by_rule, reject_lines, rejects_path
from glmprep.tokenizer import Tokenizer

SETTING_ASIDE = (header_too_long.id, exchange_too_long.id, no_labels.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The counts, what was rejected or set aside, and what was found.

    `lengths` are the tokens of each segment, `seams` some places where conversations were cut.
    """

    counts: Counts
    lengths: Sequence[int]
    seams: Sequence[Seam]
    rejections: Sequence[Rejection]
    findings: Sequence[Finding]

    def as_json(self) -> dict[str, Any]:
        """The counts as plain JSON values."""
        return {**asdict(self.counts), "rejected": by_rule(self.rejections)}

    @property
    def rejected(self) -> dict[str, int]:
        """Rows that went no further, by rule; what was set aside is not among them."""
        return by_rule([one for one in self.rejections if one.rule not in SETTING_ASIDE])

    @property
    def reject_share(self) -> float:
        """Share of the rows read of which a part or all is not in the output."""
        lost = {str(rejection.origin) for rejection in self.rejections}
        return len(lost) / max(1, self.counts.rows)


def segment(
    source: Source,
    output: Path,
    *,
    family: Family,
    tokenizer: Tokenizer,
    cutting: Cutting,
    embedder: Embedder | None = None,
) -> Result:
    """Write the conversations of `source` as canonical JSON Lines in which each row fits.

    `embedder` is that of the settings, where it is loaded already.
    Conversations that fit are written as they are. Beside the output are written: what was
    rejected; the ledger, with a line for each row (see `coverage.SCHEMA`); what was left out of
    prompts that are too long, if any are; and the settings (see `cutting`). Raises UsageError for
    a limit that nothing fits in or an output that is an input, InputError when no conversation is
    left.
    """
    require_room(cutting.max_length, family)
    intake = Intake(source, family=family, special_tokens=list(tokenizer.added))
    require_other(output, intake.files)
    embedder = embedder or load_embedder(cutting.encoder)
    split = None
    if cutting.on_overflow != "quarantine":
        keep: Shorten = "middle" if cutting.on_overflow == "middle" else "end"
        split = OverflowSplitter(family, tokenizer, cutting.limits, keep)
    plan = Planner(
        max_length=cutting.max_length,
        segmenter=segmenters.load(cutting.segmenter, embedder),
        before=contexts.load(cutting, family, tokenizer, embedder),
        split=split,
    )
    with replacing(output) as file, replacing(shortened_path(output)) as listed:
        run = _Run(
            intake=intake,
            family=family,
            tokenizer=tokenizer,
            plan=plan,
            entries=Entries(intake.files, COLUMNS),
            split=split,
            left_out=LeftOut(listed),
        )
        file.writelines(run.lines())
        assert run.counts.balances, f"targets were lost or doubled: {run.counts}"
        if not run.counts.whole + run.counts.segments:
            raise InputError(intake.nothing_left(max_length=cutting.max_length))
    if not run.left_out.count:
        shortened_path(output).unlink()
    write_atomically(rejects_path(output), reject_lines(run.intake.rejections))
    if source.repair:
        write_atomically(repairs_path(output), intake.mending.ledger())
    write_atomically(cutting_path(output), lines(cutting))
    with replacing(ledger_path(output)) as file:
        entries.write(run.entries.table(), file)
    return Result(
        counts=run.counts,
        lengths=run.lengths,
        seams=run.seams.kept,
        rejections=run.intake.rejections,
        findings=run.findings(),
    )


def ledger_path(output: Path) -> Path:
    """Where the ledger of an output file is."""
    return output.with_name(f"{output.name}.ledger.parquet")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """One pass: what it needs, and the counts and the ledger that it fills."""

    intake: Intake
    family: Family
    tokenizer: Tokenizer
    plan: Planner
    split: OverflowSplitter | None
    entries: Entries
    left_out: LeftOut
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

    def findings(self) -> list[Finding]:
        """What the pass found, shortened prompts included."""
        if self.left_out.count:
            self.intake.hit(self.left_out.hit())
        return self.intake.findings(max_length=self.plan.max_length)

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
        shortened = self.split.shortened if self.split else []
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
