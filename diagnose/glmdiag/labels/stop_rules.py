"""Rules on the stop contract: labels, template, model and server agree on what ends an answer."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from glmprep.findings import Finding, Severity, rule

from glmdiag.labels import Labels
from glmdiag.labels.cuts import cuts

WHERE = "labels"


@rule("DL114", Severity.WARNING)
def end_of_text_trained(labels: Labels) -> Iterator[Finding]:
    """Answers are taught to end in the end of the text, not as the template ends them.

    Evidence: {count} of {runs} trained answers ({share:.1%}) end in {token}, which the template
    writes nowhere; {stops} end in one of its role tokens.
    Why: the model was made to end a turn with the next role token, `<|user|>` after an answer and
    `<|observation|>` after a call. It now learns to end otherwise, and never to wait for its tools.
    Fix: train the role token that follows each answer, as glmprep bucket does, and have generation
    end there.
    """
    end = labels.made.end_of_text
    if end in labels.made.stop_ids or not len(labels.run_ends):
        return
    learned = labels.said[labels.trained]
    count = int((learned == end).sum())
    if count:
        runs = len(labels.run_ends)
        yield end_of_text_trained.finding(
            WHERE,
            count=count,
            runs=runs,
            share=min(1.0, count / runs),
            token=labels.tokenizer.decode([end]),
            stops=int(np.isin(learned, labels.made.stop_ids).sum()),
        )


@rule("DL115", Severity.ERROR)
def stop_not_served(labels: Labels) -> Iterator[Finding]:
    """Generation does not end where answers do.

    Evidence: {count} trained answers end in {tokens}, and {told_by} does not list it among the
    tokens that end generation ({served}).
    Why: the model writes the token that it was taught, nobody stops, and it goes on to speak for
    the other side.
    Fix: add {ids} to eos_token_id in generation_config.json, or to stop_token_ids of the server.
    """
    if labels.served is None:
        return
    ends = labels.said[labels.run_ends]
    # `<|assistant|>` stands between two parts of one reply: generation must not end there.
    ending = [stop for stop in labels.closers if stop != labels.roles.assistant]
    missing = [s for s in ending if (ends == s).any() and s not in labels.served.ids]
    if missing:
        yield stop_not_served.finding(
            WHERE,
            examples=labels.examples(labels.run_ends[np.isin(ends, missing)]),
            count=int(np.isin(ends, missing).sum()),
            share=float(np.isin(ends, missing).mean()),
            tokens=", ".join(labels.tokenizer.decode([stop]) for stop in missing),
            ids=", ".join(map(str, missing)),
            served=", ".join(map(str, labels.served.ids)),
            told_by=labels.served.where,
        )


@rule("DL116", Severity.ERROR)
def last_stop_missing(labels: Labels) -> Iterator[Finding]:
    """Nothing ends the last answer of a conversation.

    Evidence: {count} of {conversations} conversations ({share:.1%}) end in a trained answer without
    a token behind it that would teach to stop.
    Why: templates of GLM write no token behind the last answer, since the next role token ends it.
    Where a trainer adds none, the model learns to stop only inside conversations, and not at all
    from those of one turn.
    Fix: put the role token that would come next behind each conversation and train it, as glmprep
    bucket does.
    """
    if labels.from_shards:
        return
    ends = np.intersect1d(labels.open_ends, labels.segment_ends)
    ends = np.setdiff1d(ends, cuts(labels).open)
    if len(ends) > labels.allowed_open_ends:
        yield last_stop_missing.finding(
            WHERE,
            examples=labels.examples(ends),
            count=len(ends),
            conversations=len(labels.segments),
            share=len(ends) / len(labels.segments),
        )


@rule("DL120", Severity.ERROR)
def stops_unlike_template(labels: Labels) -> Iterator[Finding]:
    """The shards end answers at other tokens than their template.

    Evidence: the manifest names the stops {stops}, and the template ends answers at {template}.
    Why: what is trained to end an answer must be what the template writes there, or the model and
    whoever serves it wait for different tokens.
    Fix: write the shards again with glmprep bucket and the family of the model.
    """
    template = labels.made.template_stops
    if template is not None and sorted(labels.made.stop_ids) != list(template):
        yield stops_unlike_template.finding(
            WHERE,
            stops=", ".join(map(str, labels.made.stop_ids)),
            template=", ".join(map(str, template)),
        )


STOP_RULES = (
    end_of_text_trained,
    stop_not_served,
    last_stop_missing,
    stops_unlike_template,
)
