"""The rule on conversations that a chat template refuses."""

from __future__ import annotations

from collections.abc import Sequence

from glmprep.families import Family, Unrenderable
from glmprep.findings import Severity, rule
from glmprep.records import Conversation, Rejection


@rule("DF016", Severity.ERROR)
def unrenderable(family: Family, conversation: Conversation) -> Sequence[Conversation] | Rejection:
    """The chat template cannot render a conversation.

    Evidence: conversations at which the chat template stops with an error, or of which it leaves
    something out: {count}.
    Why: what the template does not write, the model neither sees nor learns.
    Fix: bring these rows in the form that the template expects (its own words are in the examples),
    or name a built-in --family.
    """
    try:
        return family.rows(conversation)
    except Unrenderable as error:
        return Rejection(
            rule="DF016",
            reason=str(error),
            origin=conversation.origin,
            conversation=conversation.id,
        )
