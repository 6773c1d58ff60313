"""Over-long conversations to segments that each fit, with every target trained exactly once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePath
from typing import Any, Literal

from glmprep import canonical
from glmprep.collect import Hit
from glmprep.errors import InputError, UsageError
from glmprep.families import Family
from glmprep.files import replacing, write_atomically
from glmprep.findings import Finding, Rule
from glmprep.greedy import Segment, greedy
from glmprep.intake import Intake, by_rule, reject_lines
from glmprep.overflow import OverflowSplitter
from glmprep.records import Rejection
from glmprep.rules.lengths import exchange_too_long, header_too_long, prompt_shortened
from glmprep.sized import CLOSING, Limits, Sized, require_room, size
from glmprep.source import Source
from glmprep.tokenizer import Tokenizer

OnOverflow = Literal["split", "quarantine"]


@dataclass(slots=True, kw_only=True)
class Counts:
    """What went in and came out. `targets` are tokens that are trained.

    targets_in = targets_out + targets_set_aside.
    """

    rows: int = 0
    conversations: int = 0
    whole: int = 0
    cut: int = 0
    segments: int = 0
    exchanges_set_aside: int = 0
    targets_in: int = 0
    targets_out: int = 0
    targets_set_aside: int = 0
    tokens_in: int = 0
    tokens_out: int = 0

    @property
    def balances(self) -> bool:
        """Whether every target that came in went out once or was set aside."""
        return self.targets_in == self.targets_out + self.targets_set_aside


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
    output. Raises UsageError for a limit that nothing fits in or an output that is an input,
    InputError when no conversation is left.
    """
    require_room(limits.max_length, family)
    intake = Intake(source, family=family, special_tokens=list(tokenizer.added))
    if output.exists() and not output.is_file():
        raise UsageError(f"{output}: is a folder or a device; name a file")
    if output.exists() and any(
        Path(file).exists() and output.samefile(file) for file in intake.files
    ):
        raise UsageError(f"{output}: is also an input; name another output")
    run = _Run(
        intake=intake,
        family=family,
        tokenizer=tokenizer,
        limits=limits,
        split=OverflowSplitter(family, tokenizer, limits) if on_overflow == "split" else None,
    )
    with replacing(output) as file:
        file.writelines(run.lines())
        assert run.counts.balances, f"targets were lost or doubled: {run.counts}"
        if not run.counts.whole + run.counts.segments:
            raise InputError(run.intake.nothing_left(max_length=limits.max_length))
    write_atomically(rejects_path(output), reject_lines(run.intake.rejections))
    return Result(counts=run.counts, rejections=run.intake.rejections, findings=run.findings())


def rejects_path(output: Path) -> Path:
    """Where the rejected rows of an output file are listed."""
    return output.with_name(f"{output.name}.rejects.jsonl")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """One pass: what it needs, and the counts that it fills."""

    intake: Intake
    family: Family
    tokenizer: Tokenizer
    limits: Limits
    split: OverflowSplitter | None
    counts: Counts = field(default_factory=Counts)

    def lines(self) -> Iterator[bytes]:
        """The lines of the output."""
        for batch in self.intake.batches():
            for sized in size(batch.rows, self.family, self.tokenizer):
                yield from self._lines(sized)
        self.counts.rows = self.intake.rows

    def findings(self) -> list[Finding]:
        """What the pass found, shortened prompts included."""
        dropped = 0
        if self.split and self.split.shortened:
            dropped = self.split.dropped_tokens
            count = len(self.split.shortened)
            shown = self.split.shortened
            self.intake.hit(Hit(rule=prompt_shortened, count=count, rows=count, examples=shown))
        return self.intake.findings(max_length=self.limits.max_length, dropped_tokens=dropped)

    def _lines(self, sized: Sized) -> Iterator[bytes]:
        counts = self.counts
        targets = sum(sized.turn_targets)
        counts.conversations += 1
        counts.targets_in += targets
        counts.tokens_in += sized.total
        if sized.total <= self.limits.max_length:
            counts.whole += 1
            counts.targets_out += targets
            counts.tokens_out += sized.total
            yield canonical.line(sized.conversation)
            return
        counts.cut += 1
        if sized.head + CLOSING >= self.limits.max_length:
            self._set_aside(sized, header_too_long, "system message and tools", sized.head)
            counts.targets_set_aside += targets
            return
        yield from self._cut(sized)

    def _cut(self, sized: Sized) -> Iterator[bytes]:
        counts = self.counts
        segments: list[Segment] = []
        for part in greedy(sized, self.limits, self.split):
            if isinstance(part, Segment):
                segments.append(part)
                continue
            place = f"messages {part.first + 1} to {part.last}"
            self._set_aside(sized, exchange_too_long, place, sized.head + part.tokens + CLOSING)
            counts.exchanges_set_aside += 1
            counts.targets_set_aside += part.targets
        parts = [part.conversation() for part in segments]
        counts.segments += len(segments)
        for measured in size(parts, self.family, self.tokenizer):
            # Measured again, from what is written: the sums are a proof, not a plan.
            counts.targets_out += sum(measured.turn_targets)
            counts.tokens_out += measured.total
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
