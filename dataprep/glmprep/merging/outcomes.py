"""What merging came to for a conversation, beside the rules that changed it: rules on the outcome.

A rule takes the messages as they came and as they were left, and decides.
"""

from __future__ import annotations

from collections.abc import Sequence

from glmprep.findings import Severity, rule
from glmprep.merging.key import lost_from
from glmprep.repair import Turn


@rule("DF516", Severity.INFO)
def kept_in_order(turns: int) -> bool:
    """Turns were kept, since without them the others would not be in order.

    Evidence: turns with nothing but what the rules cut that were left as they are: {count}, in
    {rows} of the conversations.
    Why: an answer needs a question before it, and two trained answers are not made one unless that
    is asked for.
    Fix: nothing is to be done; with --trim-answers more of them go, and answers are joined.
    """
    return turns > 0


@rule("DF517", Severity.INFO)
def kept_for_key(cuts: int) -> bool:
    """Text was kept, since cutting it would lose key information.

    Evidence: cuts that were not made, since a number, a name, a negation or the like stood in them:
    {count}, in {rows} of the conversations.
    Why: what is key to a conversation is never trimmed, whatever the rules find.
    Fix: nothing is to be done; phrases of your own that hold numbers or names have no effect.
    """
    return cuts > 0


@rule("DF519", Severity.WARNING)
def nothing_left(before: Sequence[Turn], after: Sequence[Turn]) -> bool:
    """Trimming left nothing of a conversation to train on.

    Evidence: conversations of which nothing, or nothing that is trained, was left, set aside:
    {count}.
    Why: a row without anything to train costs compute and teaches nothing.
    Fix: nothing is to be done; the map of the merge holds them whole. Trim less if they matter.
    """
    if not any(message.get("role") != "system" for message in after):
        return True
    return any(map(_trains, before)) and not any(map(_trains, after))


@rule("DF540", Severity.ERROR)
def key_lost(before: Sequence[Turn], after: Sequence[Turn]) -> list[str]:
    """Key information would have been lost.

    Evidence: conversations that were left as they came, since after merging a number, a name, a
    negation or a tool call stood nowhere in them: {count}.
    Why: a conversation without its numbers and negations says something else.
    Fix: nothing is lost; tell the authors of this suite, since the rules before should have seen
    it, and leave out the rule that is named in the examples.
    """
    return lost_from(before, after)


def _trains(message: Turn) -> bool:
    if message.get("role") != "assistant" or message.get("weight") == 0:
        return False
    return bool(message.get("content") or message.get("tool_calls"))
