"""Over-long conversations to segments that each fit, with every target trained exactly once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePath
from typing import Any, Literal

from glmprep import canonical, entries
from glmprep.collect import Hit
from glmprep.coverage import COLUMNS, NUMBERS, Counts, entering, held, replayed
from glmprep.entries import Entries, places
from glmprep.errors import InputError
from glmprep.families import Family
from glmprep.files import replacing, require_other, write_atomically
from glmprep.findings import Finding, Rule
from glmprep.greedy import Segment, greedy
from glmprep.intake import Batch, Intake
from glmprep.mending import repairs_path
from glmprep.overflow import OverflowSplitter
from glmprep.records import Rejection
from glmprep.rules.lengths import (
    exchange_too_long,
    header_too_long,
    no_labels,
    prompt_shortened,
)
from glmprep.sized import CLOSING, Limits, Sized, require_room, size
from glmprep.source import Source
from glmprep.stream import by_rule, reject_lines
from glmprep.tokenizer import Tokenizer

OnOverflow = Literal["split", "quarantine"]
SETTING_ASIDE = (header_too_long.id, exchange_too_long.id, no_labels.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The counts, what was rejected or set aside, and what was found."""

    counts: Counts
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
    limits: Limits,
    on_overflow: OnOverflow,
) -> Result:
    """Write the conversations of `source` as canonical JSON Lines in which each row fits.

    Conversations that fit are written as they are; what was rejected goes to a file beside the
    output, and the ledger, with a line for each row, to another (see `coverage.SCHEMA`). Raises
    UsageError for a limit that nothing fits in or an output that is an input, InputError when no
    conversation is left.
    """
    require_room(limits.max_length, family)
    intake = Intake(source, family=family, special_tokens=list(tokenizer.added))
    require_other(output, intake.files)
    run = _Run(
        intake=intake,
        family=family,
        tokenizer=tokenizer,
        limits=limits,
        entries=Entries(intake.files, COLUMNS),
        split=OverflowSplitter(family, tokenizer, limits) if on_overflow == "split" else None,
    )
    with replacing(output) as file:
        file.writelines(run.lines())
        assert run.counts.balances, f"targets were lost or doubled: {run.counts}"
        if not run.counts.whole + run.counts.segments:
            raise InputError(run.intake.nothing_left(max_length=limits.max_length))
    write_atomically(rejects_path(output), reject_lines(run.intake.rejections))
    if source.repair:
        write_atomically(repairs_path(output), intake.mending.ledger())
    with replacing(ledger_path(output)) as file:
        entries.write(run.entries.table(), file)
    return Result(counts=run.counts, rejections=run.intake.rejections, findings=run.findings())


def rejects_path(output: Path) -> Path:
    """Where the rejected rows of an output file are listed."""
    return output.with_name(f"{output.name}.rejects.jsonl")


def ledger_path(output: Path) -> Path:
    """Where the ledger of an output file is."""
    return output.with_name(f"{output.name}.ledger.parquet")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """One pass: what it needs, and the counts and the ledger that it fills."""

    intake: Intake
    family: Family
    tokenizer: Tokenizer
    limits: Limits
    split: OverflowSplitter | None
    entries: Entries
    counts: Counts = field(default_factory=Counts)

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
        dropped = 0
        if self.split and self.split.shortened:
            dropped = self.split.dropped_tokens
            count = len(self.split.shortened)
            shown = self.split.shortened
            self.intake.hit(Hit(rule=prompt_shortened, count=count, rows=count, examples=shown))
        return self.intake.findings(max_length=self.limits.max_length, dropped_tokens=dropped)

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
        if sized.total <= self.limits.max_length:
            counts.whole = 1
            counts.targets_out, counts.tokens_out = counts.targets_in, counts.tokens_in
            counts.turns_out = counts.turns_in
            yield canonical.line(sized.conversation)
            return
        counts.cut = 1
        if sized.head + CLOSING >= self.limits.max_length:
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
        before = self.split.dropped_tokens if self.split else 0
        for part in greedy(sized, self.limits, self.split):
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
        counts.tokens_shortened = self.split.dropped_tokens - before if self.split else 0
        turns = held(sized, segments)
        counts.turns_out, counts.turns_set_aside = len(turns), len(aside - turns)
        counts.turns_left_out = counts.turns_in - len(aside | turns)
        parts = [part.conversation() for part in segments]
        counts.segments = len(segments)
        for measured in size(parts, self.family, self.tokenizer):
            # Measured again, from what is written: the sums are a proof, not a plan.
            counts.targets_out += sum(measured.turn_targets)
            counts.tokens_out += measured.total
            counts.tokens_replayed += replayed(measured)
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
