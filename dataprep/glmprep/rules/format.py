"""Rules on the form of a conversation, over the message table (see `glmprep.table`).

A rule returns a boolean expression, true at the messages where it fires. A conversation with an
error is rejected; one with a warning goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import polars as pl

from glmprep.findings import Rule, Severity, rule

role, prev_role, next_role = pl.col("role"), pl.col("prev_role"), pl.col("next_role")
calls, prev_calls = pl.col("calls"), pl.col("prev_calls")


@rule("DF101", Severity.ERROR)
def role_order() -> pl.Expr:
    """Turns do not alternate.

    Evidence: messages with the same role as the one before: {count}, in {rows} of the
    conversations.
    Why: the template would put two answers (or two questions) side by side, and the model would
    learn to go on talking after it has finished.
    Fix: merge the turns that belong together into one message.
    """
    same = role.is_in(["user", "assistant"]) & (role == prev_role)
    return same & (prev_calls == 0) & pl.col("prev_ends")


@rule("DF102", Severity.WARNING)
def starts_with_assistant() -> pl.Expr:
    """A conversation starts with the assistant.

    Evidence: conversations that start with an answer to nothing: {rows}.
    Why: in use a person speaks first, so the model is trained on a situation that does not occur.
    Fix: drop the first turn, move it into a system message, or set its "weight" to 0.
    """
    opens = prev_role.is_null() | (prev_role == "system")
    return opens & (role == "assistant") & pl.col("trained")


@rule("DF103", Severity.ERROR)
def empty_content() -> pl.Expr:
    """A message has no text.

    Evidence: messages that are empty, null or white space: {count}, in {rows} of the
    conversations.
    Why: the template leaves such a turn out, so its neighbours run together; an empty answer
    teaches the model to say nothing.
    Fix: fill these messages in, or remove them with their question or answer.
    """
    blank = pl.col("content").str.strip_chars() == ""
    return blank & (calls == 0) & (role != "system") & pl.col("whole")


@rule("DF104", Severity.ERROR)
def no_assistant() -> pl.Expr:
    """A conversation has nothing to train.

    Evidence: conversations without an assistant turn, or with only such of "weight" 0: {rows}.
    Why: a row without labels costs computation and teaches nothing; a batch of them gives a loss
    of zero or NaN.
    Fix: remove them, or map your role names with --role.
    """
    answers = (role == "assistant") & pl.col("trained")
    return ~answers.any().over("row") & (pl.col("turn") == 0)


@rule("DF105", Severity.ERROR)
def call_unanswered() -> pl.Expr:
    """A tool call has no result.

    Evidence: tool calls that no tool message follows: {count}, in {rows} of the conversations.
    Why: the model would learn to call a tool and go on without waiting for what it returns.
    Fix: add the result as a message with role "tool", or remove the call.
    """
    return (calls > 0) & next_role.is_not_null() & (next_role != "tool")


@rule("DF106", Severity.ERROR)
def result_without_call() -> pl.Expr:
    """A tool result has no call.

    Evidence: tool messages that do not follow a tool call: {count}, in {rows} of the
    conversations.
    Why: the model would learn that results come from nowhere, and to make them up.
    Fix: add the call as "tool_calls" of the assistant's message before it.
    """
    after_call = (prev_role == "assistant") & (prev_calls > 0)
    return (role == "tool") & ~(after_call | (prev_role == "tool")).fill_null(False)


@rule("DF107", Severity.WARNING)
def arguments_not_json() -> pl.Expr:
    """Arguments of a tool call are not a JSON object.

    Evidence: messages with a call whose arguments are no JSON object: {count}, in {rows} of the
    conversations.
    Why: the model learns to write calls that a program cannot read.
    Fix: write the arguments as an object, or as text that holds one.
    """
    return pl.col("call_arguments").list.eval(~_is_object(pl.element())).list.any()


@rule("DF108", Severity.WARNING)
def ends_without_answer() -> pl.Expr:
    """A conversation ends without an answer.

    Evidence: conversations that end on a turn nobody answers: {rows}.
    Why: these tokens are computed and never trained.
    Fix: drop the last turn if the data is to be as small as it can; nothing is wrong otherwise.
    """
    return next_role.is_null() & (role != "assistant")


@rule("DF109", Severity.WARNING)
def special_token_text(tokens: Sequence[str]) -> pl.Expr:
    """Text looks like a control token.

    Evidence: messages with the text of a control token: {count}, in {rows} of the
    conversations.
    Why: other tools turn such text into the real token, and the conversation falls apart there;
    here it stays plain text. It is often debris of an earlier export.
    Fix: remove the text if it is debris; leave it if people really wrote about such tokens.
    """
    return pl.col("content").str.contains_any(list(tokens))


@rule("DF110", Severity.WARNING)
def system_in_the_middle() -> pl.Expr:
    """A system message stands inside the conversation.

    Evidence: system messages after other turns: {count}, in {rows} of the conversations.
    Why: the model cannot end an answer with a system token, so the answer before it gets no
    trained stop token.
    Fix: move the instruction to the front, or into the user's turn.
    """
    return (role == "system") & prev_role.is_not_null() & (prev_role != "system")


MessageRule = Rule[Callable[..., pl.Expr]]

FORMAT_RULES: tuple[MessageRule, ...] = (
    role_order,
    starts_with_assistant,
    empty_content,
    no_assistant,
    call_unanswered,
    result_without_call,
    arguments_not_json,
    ends_without_answer,
    special_token_text,
    system_in_the_middle,
)


def _is_object(text: pl.Expr) -> pl.Expr:
    """Whether text is a JSON object; what does not parse matches nothing."""
    return text.str.json_path_match("$").str.starts_with("{").fill_null(False)
