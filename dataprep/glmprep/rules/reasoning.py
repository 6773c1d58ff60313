"""Rules on reasoning, over the messages of the rows that a family trains."""

from __future__ import annotations

from glmprep.families.piece import Reasoning
from glmprep.families.thought import END
from glmprep.findings import Severity, rule
from glmprep.records import Message


@rule("DL020", Severity.WARNING)
def reasoning_left_out(message: Message, use: Reasoning) -> bool:
    """Reasoning is left out.

    Evidence: trained answers whose reasoning the template has no place for, or the mode leaves
    out: {count}, in {rows} of the rows.
    Why: the model is trained on the answers alone, so it will not think before it answers.
    Fix: take a family that reasons (GLM-Z1, or GLM-4.5 and later) and leave --thinking on; nothing
    is wrong if it is the answers that you want.
    """
    return bool(message.reasoning) and use == "untrained"


@rule("DL021", Severity.WARNING)
def no_reasoning(message: Message, use: Reasoning) -> bool:
    """An answer without reasoning is trained where the model is meant to think.

    Evidence: trained answers without reasoning: {count}, in {rows} of the rows.
    Why: behind the prompt that makes the model think it learns to answer at once, and unlearns to
    reason.
    Fix: pass --thinking off (or auto, where some answers have reasoning), so that such answers are
    trained behind the prompt that asks for none; GLM-Z1 has no such prompt, so give it reasoning.
    """
    return not message.reasoning and message.begins and use == "expected"


@rule("DL022", Severity.INFO)
def rows_for_reasoning(rows: int) -> bool:
    """A conversation is trained in several rows.

    Evidence: conversations that become several rows, each with its reasoning at its end: {count};
    these are {rows_made} rows.
    Why: the template leaves out what the model thought in earlier rounds, so each round with
    reasoning can be trained only at the end of a row; what was said before it is repeated there as
    context.
    Fix: nothing; the repeated context costs computation, which --train-on last saves.
    """
    return rows > 1


@rule("DL023", Severity.WARNING)
def reasoning_as_text(message: Message, use: Reasoning) -> bool:
    """Reasoning is trained as plain text.

    Evidence: trained answers with `</think>` in their text: {count}, in {rows} of the rows.
    Why: the template has no place for reasoning, so the tags and all between them are trained as
    words of the answer; a person will see them.
    Fix: take the reasoning out of the text, or take a family that reasons.
    """
    return END in message.content and use == "untrained"
