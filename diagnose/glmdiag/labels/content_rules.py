"""Rules on what the rows say; each takes `Labels` and yields its findings."""

from __future__ import annotations

from collections.abc import Iterator

from glmprep.findings import Finding, Severity, rule

from glmdiag.labels import Labels
from glmdiag.labels.content import alike, common_words, told_before

WHERE = "labels"
ENOUGH_ANSWERS = 10
OFTEN = 0.3  # of the answers; a set of which a third is copied teaches copying
SURE, MORE = 2.5, 1.5
"""Neighbours are called alike where it is certain, and by so much that it shows in the loss."""
LEAST_COMMON, LEAST_OF_ROW = 0.05, 0.015
"""Share of common tokens: of the sets of the assets 13 % and more, of their rows 2 % and more; of a
set whose ids mean other words 3 %, of a row at random 0.4 %."""


@rule("DL125", Severity.WARNING)
def answers_in_prompt(labels: Labels) -> Iterator[Finding]:
    """Answers stand in their prompt, word for word.

    Evidence: {count} of {looked} answers of a dozen tokens and more ({share:.1%}) stand as a
    whole in the text before them.
    Why: to copy is learned within some steps; the loss falls to almost nothing, and where the
    prompt does not hold the answer the model has none.
    Fix: leave the answer out of the prompt, if it came there by the way the data was put together.
    """
    told = told_before(labels)
    share = len(told.found) / max(1, told.looked)
    if told.looked >= ENOUGH_ANSWERS and share >= OFTEN:
        yield answers_in_prompt.finding(
            WHERE,
            examples=labels.examples(told.found),
            count=len(told.found),
            looked=told.looked,
            share=share,
        )


@rule("DL126", Severity.INFO)
def rows_sorted(labels: Labels) -> Iterator[Finding]:
    """Rows that follow each other are alike: the set is sorted.

    Evidence: neighbouring rows share {neighbours:.1%} of their tokens, any two {others:.1%}
    ({deviations:.0f} standard errors apart).
    Why: read in this order, a batch shows one subject alone, and the loss goes up and down with the
    subject.
    Fix: have the trainer shuffle (no sequential sampler), or shuffle the file.
    """
    found = None if labels.from_shards else alike(labels)
    if found and found.deviations >= SURE and found.neighbours >= MORE * found.others:
        yield rows_sorted.finding(
            WHERE,
            neighbours=found.neighbours,
            others=found.others,
            deviations=found.deviations,
        )


@rule("DL127", Severity.WARNING)
def odd_rows(labels: Labels) -> Iterator[Finding]:
    """Some rows read like noise.

    Evidence: {count} of {rows} rows ({share:.1%}) have hardly any of the words and marks that every
    text has; of all rows {common:.1%} of the tokens are such.
    Why: ids at random, or text that was broken on the way, have a loss far above that of text, and
    each such row pulls the weights its way.
    Fix: look at these rows, and make them again or leave them out.
    """
    found = common_words(labels)
    if found.all < LEAST_COMMON:
        return
    odd = found.places[found.rows < LEAST_OF_ROW]
    if len(odd):
        yield odd_rows.finding(
            WHERE,
            examples=labels.examples(odd),
            rows=len(found.rows),
            count=len(odd),
            share=len(odd) / len(found.rows),
            common=found.all,
        )


@rule("DL128", Severity.ERROR)
def other_vocabulary(labels: Labels) -> Iterator[Finding]:
    """The ids are hardly those of this vocabulary.

    Evidence: of {rows} rows {common:.1%} of the tokens are words and marks that every text has; a
    tenth and more is usual.
    Why: each id stands for another word than was meant, so the model is taught a cipher; the loss
    begins far above that of text.
    Fix: tokenize the data with the model's own tokenizer, or name the one that made it with
    --tokenizer.
    """
    found = common_words(labels)
    if found.all < LEAST_COMMON:
        yield other_vocabulary.finding(
            WHERE, examples=labels.examples(found.places), rows=len(found.rows), common=found.all
        )


CONTENT_RULES = (answers_in_prompt, rows_sorted, odd_rows, other_vocabulary)
