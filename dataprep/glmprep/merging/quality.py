"""Which of several conversations that say the same is kept."""

from __future__ import annotations

from glmprep.records import Conversation, Message
from glmprep.rules.answers import breaks_off, loops, reasoning_in_text, refusal
from glmprep.rules.text import FINDS, replacement_characters

FAULTS = [FINDS[rule.id] for rule in (loops, refusal, reasoning_in_text, replacement_characters)]
"""What an answer should not have."""
_breaks_off = FINDS[breaks_off.id]
Quality = tuple[int, int, int]


def quality(conversation: Conversation) -> Quality:
    """Sorts conversations of one meaning, the best first; earlier rows go first among equals.

    1. Those that are whole go before those that end without an answer or have one that breaks off;
    2. then those with fewer faulty answers (loops, refusals, stray reasoning, lost characters);
    3. then those with longer answers.
    """
    answers = [message for message in conversation.messages if message.role == "assistant"]
    said = [message.content for message in answers]
    cut = not _is_answered(conversation.messages[-1]) or any(map(_breaks_off, said))
    faulty = sum(any(find(text) for find in FAULTS) for text in said)
    return int(cut), faulty, -sum(map(len, said))


def _is_answered(last: Message) -> bool:
    """Whether a conversation that ends in this message is answered."""
    return last.role == "assistant" and last.ends and not last.tool_calls
