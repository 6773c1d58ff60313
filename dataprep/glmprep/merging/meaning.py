"""Whether two texts, and two conversations, have the same key information.

Similar words are not enough: with one number, name or negation changed a text says something else.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import orjson

from glmprep.labels import Int64
from glmprep.merging.key import keys, lost
from glmprep.records import Conversation, Message
from glmprep.sets.fingerprints import SENTENCE
from glmprep.text.hashing import GOLDEN, UInt64, hash_texts, mix


def same_keys(one: str, other: str) -> bool:
    """Whether neither text has key information that the other lacks."""
    return not lost(one, other) and not lost(other, one)


def key_chains(conversations: Sequence[Conversation]) -> tuple[UInt64, Int64]:
    """For each answer one hash of the key information of all that is said up to and with it.

    The hashes of all conversations one after the other, and the offsets of each one's (n + 1). Two
    conversations have the same key information, turn for turn, where their last hashes are equal;
    one is in this sense the beginning of another where its last hash is among the other's.
    """
    messages = [message for c in conversations for message in c.messages]
    turns = np.fromiter((len(c.messages) for c in conversations), np.int64, len(conversations))
    begins = np.cumsum(turns) - turns
    place = np.arange(len(messages)) - np.repeat(begins, turns)
    hashed = hash_texts([_key_text(message) for message in messages]).to_numpy()
    tools = hash_texts([orjson.dumps(c.tools).decode() for c in conversations]).to_numpy()
    scattered = mix(mix(hashed) + place.astype(np.uint64) * GOLDEN)
    scattered[begins] += mix(tools)
    sums = np.cumsum(scattered, dtype=np.uint64)
    before = sums[begins] - scattered[begins]
    chained = sums - np.repeat(before, turns)
    answers = np.fromiter((message.role == "assistant" for message in messages), np.bool_)
    row = np.repeat(np.arange(len(conversations)), turns)
    counts = np.bincount(row[answers], minlength=len(conversations))
    return chained[answers], np.concatenate(([0], np.cumsum(counts)))


def _key_text(message: Message) -> str:
    """What must be the same in a message that says the same.

    All of system messages, tool results and calls; of what people and the assistant say the key
    information, and the words themselves where they are few; whether it is trained.
    """
    weight = "0" if message.untrained == "weight" else "1"
    calls = [f"{call.name}({_canonical(call.arguments)})" for call in message.tool_calls]
    if message.role in ("system", "tool"):
        said = message.content
    else:
        said = _said(message.content, message.reasoning)
    return "\0".join([message.role, weight, said, *calls])


def _said(content: str, reasoning: str) -> str:
    words = "".join(filter(str.isalnum, content)).casefold()
    if len(words.encode("utf-8", "replace")) <= SENTENCE:
        return words
    found = keys(f"{content}\n{reasoning}")
    return "\0".join(f"{key}×{count}" for key, count in sorted(found.items()))


def _canonical(arguments: str) -> str:
    """JSON text with its names in order, so that two ways to write one call are the same."""
    try:
        return orjson.dumps(orjson.loads(arguments), option=orjson.OPT_SORT_KEYS).decode()
    except orjson.JSONDecodeError:
        return arguments
