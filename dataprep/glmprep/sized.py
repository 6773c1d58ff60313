"""Conversations with the tokens of each turn: what segmentation plans with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from glmprep.errors import UsageError
from glmprep.families import Family
from glmprep.families.piece import NO_TOKEN, NO_TURN
from glmprep.labels import TokenBatch, tokenize
from glmprep.records import Conversation, Message
from glmprep.tokenizer import Tokenizer

Int64 = npt.NDArray[np.int64]
MOST = 2**31 - 1
CLOSING = 1
"""Tokens that a row needs beside its turns: the closing stop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long a segment may be, and how much of what came before it is replayed.

    The replay takes at least `overlap` turns, in whole exchanges, as far as they fit in
    `context_tokens` and leave room for the next exchange.
    """

    max_length: int
    overlap: int = 0
    context_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sized:
    """A conversation with the tokens of each of its turns, and how many of them are trained.

    `head` is what every segment repeats: prefix, tools, and the system messages at the front.
    """

    conversation: Conversation
    turn_tokens: Sequence[int]
    turn_targets: Sequence[int]
    total: int
    head_turns: int
    head: int


def require_room(max_length: int, family: Family, option: str = "--max-length") -> None:
    """Raise UsageError for a limit in which not even one word and its answer fit.

    Nor may it be longer than the 32 bits in which shards hold it.
    """
    least = len(family.prefix) + 8
    if max_length > MOST:
        raise UsageError(f"{option} {max_length}: {MOST} is the most")
    if max_length < least:
        raise UsageError(
            f"{option} {max_length}: the template's own tokens need more; "
            f"{least} is the least, a few hundred the least that makes sense"
        )


def size(
    conversations: Sequence[Conversation], family: Family, tokenizer: Tokenizer
) -> list[Sized]:
    """Measure a batch of conversations."""
    tokens = tokenize(conversations, family, tokenizer)
    turn_tokens = _by_turn(conversations, tokens, tokens.end - tokens.start)
    turn_targets = _by_turn(conversations, tokens, tokens.targets)
    return [
        _sized(
            conversation,
            turn_tokens[row],
            turn_targets[row],
            int(tokens.lengths[row]),
            closed=family.closing(conversation) != NO_TOKEN,
        )
        for row, conversation in enumerate(conversations)
    ]


def context(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The same messages as context: none of them is trained."""
    return tuple(
        message if message.untrained else replace(message, untrained="context")
        for message in messages
    )


def _by_turn(
    conversations: Sequence[Conversation], tokens: TokenBatch, amount: Int64
) -> list[list[int]]:
    """An amount per piece, summed over the pieces of each turn of each conversation."""
    counts = np.fromiter((len(c.messages) for c in conversations), np.int64, len(conversations))
    starts = np.cumsum(counts) - counts
    of_turn = tokens.turn != NO_TURN
    turn = starts[tokens.row[of_turn]] + tokens.turn[of_turn]
    sums = np.bincount(turn, amount[of_turn], int(counts.sum())).astype(np.int64)
    return [part.tolist() for part in np.split(sums, starts[1:])]


def _sized(
    conversation: Conversation, tokens: list[int], targets: list[int], total: int, *, closed: bool
) -> Sized:
    roles = [message.role for message in conversation.messages]
    head_turns = next((t for t, role in enumerate(roles) if role != "system"), len(roles))
    return Sized(
        conversation=conversation,
        turn_tokens=tokens,
        turn_targets=targets,
        total=total,
        head_turns=head_turns,
        # Prefix and tools are what the turns and the closing stop do not account for.
        head=total - (CLOSING if closed else 0) - sum(tokens[head_turns:]),
    )
