"""Rules on lengths and labels, over a table with one row per conversation.

The table has `tokens`, `supervised` (training targets), `longest_answer` (targets of the longest
turn), and for a limit `answer_torn`: whether that limit would cut inside a turn's targets.
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
    Fix: raise --max-length, or pass --on-overflow split (or middle), which cuts long answers and
    shortens prompts and results of tools. Reasoning and tool calls are never cut: an exchange with
    one that is too long is set aside in any case.
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
    """A long prompt was shortened before its answer.

    Evidence: prompts and results of tools longer than {max_length} tokens allow: {count};
    {dropped_tokens} of their tokens stay out.
    Why: every answer is trained once, with as much of what it answers before it as fits; what the
    answer rests on may have stood in the part that stays out.
    Fix: raise --max-length. --on-overflow split keeps the end of a prompt, --on-overflow middle
    its start and its end, which suits prompts that begin with the instruction; --on-overflow
    quarantine sets such exchanges aside.
    """
    return tokens > max_length


@rule("DL006", Severity.WARNING)
def answer_cut(max_length: int) -> pl.Expr:
    """A cut would end an answer in its middle.

    Evidence: conversations in which cutting after {max_length} tokens would end an answer in the
    middle: {count}.
    Why: such an answer has no stop token, so the model learns to break off and go on anyhow; some
    trainers even put a stop token after the torn sentence.
    Fix: split them with glmprep segment --max-length {max_length:d}, which ends pieces at
    sentences and trains the stop token once, at the true end.
    """
    return pl.col("answer_torn") & (tokens > max_length)


@rule("DL007", Severity.INFO)
def prompt_dominates() -> pl.Expr:
    """Nearly all of a conversation is prompt.

    Evidence: conversations of more than 1,024 tokens of which less than 2 % are trained: {count}.
    Why: the cost of a step is in reading the prompt, and little is learned from it; a trainer that
    cuts from the right removes the answer first.
    Fix: shorten the prompts to what the answers rest on, or ask more than one question of each.
    """
    return (tokens > 1024) & (supervised > 0) & (supervised < tokens * 0.02)


@rule("DL008", Severity.INFO)
def short_answers() -> pl.Expr:
    """All answers of a conversation are very short.

    Evidence: conversations without an answer of more than four tokens, its stop token among them:
    {count}.
    Why: labels such as "yes" teach a classifier, not a conversation; beside longer data they make
    the model curt.
    Fix: leave them if the task is one of labels; otherwise look at where the answers were lost.
    """
    return (supervised > 0) & (pl.col("longest_answer") <= 4)


@rule("DL009", Severity.WARNING)
def outlier() -> pl.Expr:
    """A few conversations are far longer than all others.

    Evidence: conversations more than eight times as long as 99 % of them: {count}.
    Why: one of them pads a whole batch to its length, or decides how much memory is needed.
    Fix: split them with glmprep segment, and let glmprep bucket put like lengths together.
    """
    return (tokens > 1024) & (tokens > 8 * tokens.quantile(0.99, "lower"))
