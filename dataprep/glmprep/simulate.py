"""What other trainers' rules for long rows would lose, beside this suite's own segmentation.

All work on the same tokens and the same targets, so that only the rules for length differ. The
rules stand in `glmprep.peers`; the segmentation is planned as `glmprep segment` plans it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from glmprep.contexts.before import Replay
from glmprep.cutting import plain
from glmprep.errors import InputError, UsageError
from glmprep.exchanges import course
from glmprep.families import Family
from glmprep.findings import Finding
from glmprep.intake import Intake
from glmprep.labels import tokenize
from glmprep.overflow import OverflowSplitter
from glmprep.peers import POLICIES, Kept, Rows
from glmprep.peers.rows import Answers, Bool
from glmprep.plan import Planner, Segment
from glmprep.records import Conversation, Rejection
from glmprep.remembering import Remembering
from glmprep.seen import by_rule
from glmprep.segmenters.greedy import greedy
from glmprep.sized import CLOSING, Sized, require_room, size
from glmprep.source import Source
from glmprep.tokenizer import Tokenizer

LENGTHS = (512, 1024, 2048, 4096, 8192, 16384)
MOST_LENGTHS = 16
OURS = "segment"
TELLING = 0.99
"""A length at which a plain cut keeps less than this share is worth a sentence."""


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What one rule leaves of all rows at one maximum length.

    `rows` come out (of this suite, segments) and `tokens` are computed for them; `targets` of the
    data are still trained. `rows_dropped` are left out by the rule, `rows_without_labels` are kept
    though no target is left in them. Of the trained turns, `turns_lost` train nothing any more,
    `answers_cut_with_stop` are cut and a stop token is trained behind the cut,
    `answers_without_stop` end where no stop is trained though it should be, `answers_beheaded`
    lack their first token, and `prompts_cut` are trained though a part of their prompt is missing.
    """

    policy: str
    max_length: int
    rows: int = 0
    rows_dropped: int = 0
    rows_without_labels: int = 0
    turns_lost: int = 0
    answers_cut_with_stop: int = 0
    answers_without_stop: int = 0
    answers_beheaded: int = 0
    prompts_cut: int = 0
    targets: int = 0
    tokens: int = 0

    def add(self, rows: Rows, kept: Kept) -> None:
        """Count what a rule kept of a batch."""
        answers = rows.answers
        left = answers.count(kept.trained)
        alive = left > 0
        open_end = alive & ~kept.trained[answers.end - 1]
        stopless = (answers.stop >= 0) & ~kept.trained[answers.stop]
        stopped = open_end & kept.stops_after_cut[answers.row]
        had = np.bincount(answers.row, minlength=len(rows)) > 0
        has = np.bincount(answers.row[alive], minlength=len(rows)) > 0
        self.rows += int((~kept.dropped).sum())
        self.rows_dropped += int(kept.dropped.sum())
        self.rows_without_labels += int((had & ~has & ~kept.dropped).sum())
        self.turns_lost += int((~alive).sum())
        self.answers_cut_with_stop += int(stopped.sum())
        self.answers_without_stop += int((alive & (open_end | stopless) & ~stopped).sum())
        self.answers_beheaded += int((alive & ~kept.trained[answers.begin]).sum())
        self.prompts_cut += int((alive & _missing(kept.present, answers)).sum())
        self.targets += int(left.sum())
        self.tokens += int(kept.present.sum())


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What each rule leaves at each length; sums over the rows that can be trained on."""

    rows_read: int
    rows: int
    turns: int
    tokens: int
    targets: int
    lengths: Sequence[int]
    outcomes: Sequence[Outcome]
    rejections: Sequence[Rejection]
    findings: Sequence[Finding]

    def share(self, outcome: Outcome) -> float:
        """Share of the targets that are still trained."""
        return outcome.targets / max(1, self.targets)

    def at(self, policy: str) -> list[Outcome]:
        """What one rule leaves, shortest length first."""
        return [outcome for outcome in self.outcomes if outcome.policy == policy]

    @property
    def telling(self) -> int | None:
        """The longest length at which keeping the start of a row loses something to speak of."""
        lost = [cut.max_length for cut in self.at("trl") if self.share(cut) < TELLING]
        return lost[-1] if lost else None

    def as_json(self) -> Mapping[str, Any]:
        """The sums as plain JSON values."""
        return {
            "rows_read": self.rows_read,
            "rows": self.rows,
            "trained_turns": self.turns,
            "tokens": self.tokens,
            "supervised_tokens": self.targets,
            "rejected": by_rule(self.rejections),
            "lengths": list(self.lengths),
            "outcomes": [
                {**asdict(o), "share": self.share(o), "computed": o.tokens / max(1, self.tokens)}
                for o in self.outcomes
            ],
        }


def parse_lengths(text: str) -> list[int]:
    """`512,1024,…` as numbers, shortest first; UsageError for anything else."""
    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdecimal() and len(word) < 12 for word in words):
        raise UsageError(f"--lengths {text}: write whole numbers with commas, such as 512,1024")
    lengths = sorted({int(word) for word in words})
    if len(lengths) > MOST_LENGTHS:
        raise UsageError(f"--lengths: {len(lengths)} lengths; {MOST_LENGTHS} is the most")
    return lengths


def simulate(
    source: Source, *, family: Family, tokenizer: Tokenizer, lengths: Sequence[int] = LENGTHS
) -> Result:
    """Apply every rule to all rows of `source` that can be trained on, at each length.

    Raises InputError when there is no such row, UsageError for a length in which nothing fits.
    """
    for length in lengths:
        require_room(length, family, "--lengths")
    intake = Intake(source, family=family, special_tokens=list(tokenizer.added))
    memory = Remembering(tokenizer)
    run = _Run(family=family, tokenizer=memory, lengths=sorted(set(lengths)))
    for batch in intake.batches():
        if batch.rows:
            run.add(batch.rows)
            memory.forget()
    if not run.targets:
        raise InputError(intake.nothing_left())
    return Result(
        rows_read=intake.rows,
        rows=run.rows,
        turns=run.turns,
        tokens=run.tokens,
        targets=run.targets,
        lengths=run.lengths,
        outcomes=run.outcomes(),
        rejections=intake.rejections,
        findings=intake.findings(),
    )


@dataclass(slots=True, kw_only=True)
class _Run:
    """One pass over the data, batch by batch."""

    family: Family
    tokenizer: Tokenizer
    lengths: Sequence[int]
    rows: int = 0
    turns: int = 0
    tokens: int = 0
    targets: int = 0
    _peers: dict[tuple[str, int], Outcome] = field(default_factory=dict)
    _own: dict[int, _Segmented] = field(default_factory=dict)

    def add(self, conversations: Sequence[Conversation]) -> None:
        """Apply every rule to a batch."""
        tokens = tokenize(conversations, self.family, self.tokenizer)
        rows = Rows.of(conversations, tokens, self.family, self.tokenizer)
        self.rows += len(rows)
        self.turns += len(rows.answers.row)
        self.tokens += len(tokens.ids)
        self.targets += len(rows.answers.targets)
        for length in self.lengths:
            for policy in POLICIES:
                blank = Outcome(policy=policy.name, max_length=length)
                outcome = self._peers.setdefault((policy.name, length), blank)
                outcome.add(rows, policy.keep(rows, length))
        self._segment(rows)

    def outcomes(self) -> list[Outcome]:
        """This suite first, then the others, each shortest length first."""
        own = [self._own[length].outcome() for length in self.lengths]
        names = [policy.name for policy in POLICIES]
        return [*own, *(self._peers[name, length] for name in names for length in self.lengths)]

    def _segment(self, rows: Rows) -> None:
        whole = rows.tokens.lengths
        long = np.flatnonzero(whole > self.lengths[0]).tolist()
        some = [rows.conversations[row] for row in long]
        measured = size(some, self.family, self.tokenizer) if some else []
        for length in self.lengths:
            if length not in self._own:
                self._own[length] = _Segmented(self.family, self.tokenizer, length)
            own = self._own[length]
            fits = whole <= length
            own.fit(
                int(fits.sum()), int(whole[fits].sum()), int(rows.tokens.supervised[fits].sum())
            )
            own.cut([sized for sized in measured if sized.total > length])


class _Segmented:
    """What `glmprep segment` would make of rows at one length, planned and measured in memory."""

    def __init__(self, family: Family, tokenizer: Tokenizer, length: int) -> None:
        self._family = family
        self._tokenizer = tokenizer
        self._limits = plain("overlap", length).limits
        self._split = OverflowSplitter(family, tokenizer, self._limits)
        self._plan = Planner(
            max_length=length, segmenter=greedy, before=Replay(self._limits), split=self._split
        )
        self._outcome = Outcome(policy=OURS, max_length=length)

    def outcome(self) -> Outcome:
        """The sums so far."""
        return self._outcome

    def fit(self, rows: int, tokens: int, targets: int) -> None:
        """Count rows that fit; they stay as they are."""
        self._outcome.rows += rows
        self._outcome.tokens += tokens
        self._outcome.targets += targets

    def cut(self, long: Sequence[Sized]) -> None:
        """Count the segments of rows that do not fit, measured from what would be written."""
        parts = [segment.conversation() for sized in long for segment in self._segments(sized)]
        self._outcome.rows += len(parts)
        self._outcome.prompts_cut += len(self._split.shortened)
        self._split.shortened.clear()
        for measured in size(parts, self._family, self._tokenizer) if parts else ():
            self._outcome.tokens += measured.total
            self._outcome.targets += sum(measured.turn_targets)

    def _segments(self, sized: Sized) -> Iterator[Segment]:
        planned = 0
        if sized.head + CLOSING < self._limits.max_length:
            for part in self._plan(sized):
                if isinstance(part, Segment):
                    planned += 1
                    yield part
                else:
                    self._lose(sized, part.first, part.last)
        else:
            for exchange in course(sized).exchanges:
                self._lose(sized, exchange.first, exchange.last)
        self._outcome.rows_dropped += not planned

    def _lose(self, sized: Sized, first: int, last: int) -> None:
        self._outcome.turns_lost += sum(targets > 0 for targets in sized.turn_targets[first:last])


def _missing(present: Bool, answers: Answers) -> Bool:
    """For each answer, whether a token of its prompt does not reach the model."""
    absent = np.concatenate(([0], np.cumsum(~present)))
    return np.asarray(absent[answers.begin] > absent[answers.prompt])
