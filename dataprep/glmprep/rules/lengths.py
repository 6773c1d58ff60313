"""Rules on lengths and labels, over a table with one row per conversation.

The table has `tokens` and `supervised` (training targets), both after tokenization.
"""

from __future__ import annotations

import polars as pl

from glmprep.findings import Severity, rule

tokens, supervised = pl.col("tokens"), pl.col("supervised")


@rule("DL001", Severity.WARNING)
def too_long(max_length: int) -> pl.Expr:
    """A conversation is longer than the limit.

    Evidence: conversations longer than {max_length} tokens: {count}.
    Why: a trainer that cuts them loses the end of the answers and the stop token, in silence.
    glmprep bucket never cuts: it sets such conversations aside.
    Fix: split them with glmprep segment --max-length {max_length:d}, or raise --max-length.
    """
    return tokens > max_length


@rule("DL002", Severity.WARNING)
def no_labels() -> pl.Expr:
    """A conversation has no training target.

    Evidence: conversations without a token that would be trained: {count}.
    Why: a row without labels costs computation and teaches nothing.
    Fix: look at their roles and weights.
    """
    return supervised == 0


@rule("DL003", Severity.WARNING)
def exchange_too_long(max_length: int) -> pl.Expr:
    """One exchange alone is longer than the limit.

    Evidence: exchanges that do not fit in {max_length} tokens, set aside: {count}.
    Why: a question and its answer belong together; where both do not fit, one of them would have
    to be cut.
    Fix: raise --max-length, or pass --on-overflow split, which cuts long answers and prompts; a
    tool call is never parted from its result.
    """
    return tokens > max_length


@rule("DL004", Severity.WARNING)
def header_too_long(max_length: int) -> pl.Expr:
    """System message and tools leave no room.

    Evidence: conversations whose system message and tools fill {max_length} tokens: {count}.
    Why: they are repeated in each segment, so nothing of the conversation would fit beside them.
    Fix: raise --max-length, or shorten the system message or the list of tools.
    """
    return tokens >= max_length


@rule("DL005", Severity.WARNING)
def prompt_shortened(max_length: int) -> pl.Expr:
    """A long prompt was cut before its answer.

    Evidence: prompts longer than {max_length} tokens allow: {count}; {dropped_tokens} of their
    tokens stay out, and the part nearest to the answer was kept.
    Why: every answer is trained once, with as much of its prompt before it as fits; what the answer
    rests on may have stood in the part that stays out.
    Fix: raise --max-length, or pass --on-overflow quarantine to set such exchanges aside.
    """
    return tokens > max_length
