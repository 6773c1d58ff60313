"""Rules on rows that a limit cut, and how much of a set a fault must have to be an error."""

from __future__ import annotations

from collections.abc import Iterator

from glmprep.findings import Finding, Severity, rule

from glmdiag.labels import Labels
from glmdiag.labels.cuts import cuts

WHERE = "labels"
REAL_SHARE = 0.05
"""A fault in less than this part of a set is one of single rows, not of how the set was made."""


@rule("DL111", Severity.ERROR)
def cut_at_limit(labels: Labels) -> Iterator[Finding]:
    """Rows were cut in the middle of an answer.

    Evidence: {count} of {rows} rows end at {limit} tokens inside a trained answer, without a stop.
    Why: the model learns to break off in the middle of a sentence, and what was cut is lost.
    Fix: raise the maximum length, or split the conversations with glmprep segment, which loses
    none.
    """
    if len(labels.open_ends) <= labels.allowed_open_ends:
        return
    found = cuts(labels)
    if found.limit is not None and len(found.open):
        yield cut_at_limit.finding(
            WHERE,
            examples=labels.examples(found.open),
            severity=single_rows(labels, len(found.open)),
            count=len(found.open),
            rows=len(labels.rows),
            share=len(found.open) / len(labels.rows),
            limit=found.limit,
        )


@rule("DL112", Severity.ERROR)
def stop_after_cut(labels: Labels) -> Iterator[Finding]:
    """A stop token is trained behind answers that were cut.

    Evidence: {count} of {rows} rows end at {limit} tokens with a trained stop behind an answer that
    breaks off; of other answers {usual:.1%} do.
    Why: the model learns that an answer may end anywhere, so it stops in the middle of sentences.
    Fix: raise the maximum length (cutoff_len in LLaMA-Factory), or split the conversations with
    glmprep segment.
    """
    found = cuts(labels)
    if found.limit is not None and len(found.stopped):
        yield stop_after_cut.finding(
            WHERE,
            examples=labels.examples(found.stopped),
            severity=single_rows(labels, len(found.stopped)),
            count=len(found.stopped),
            rows=len(labels.rows),
            share=len(found.stopped) / len(labels.rows),
            limit=found.limit,
            usual=found.usual,
        )


def single_rows(labels: Labels, count: int) -> Severity | None:
    """A warning for a fault of single rows, unless they are of shards, whose ledger rules it out.

    None is the rule's own severity.
    """
    few = not labels.from_shards and count < REAL_SHARE * len(labels.rows)
    return Severity.WARNING if few else None


CUT_RULES = (cut_at_limit, stop_after_cut)
