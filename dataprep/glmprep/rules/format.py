"""Rules on the form of a conversation, over the message table (see `glmprep.table`).

A rule returns a boolean expression, true at the messages where it fires. A conversation with an
error is rejected; one with a warning goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import polars as pl

from glmprep.findings import Rule, Severity, rule
from glmprep.text import placeholders
from glmprep.text.spots import confirmed

role, prev_role, next_role = pl.col("role"), pl.col("prev_role"), pl.col("next_role")
calls, prev_calls = pl.col("calls"), pl.col("prev_calls")
CALL_TEXT = r"<tool_calls?>|<functioncall>|<function_calls?>|\[TOOL_CALLS\]|Action Input: "
CALL_OBJECT = r"^\s*\{\s*\"name\"\s*:\s*\"[\w.-]+\"\s*,\s*\"(?:arguments|parameters)\"\s*:"
RESULT_TEXT = (
    r"^\s*(?:Observation: |</?tool_response>|<function_results?>"
    r"|FUNCTION RESPONSE:|\[TOOL_RESULTS\])"
)


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
    return pl.col("malformed") > 0


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


@rule("DF111", Severity.WARNING)
def undeclared_tool() -> pl.Expr:
    """A tool is called that the conversation does not offer.

    Evidence: messages that call a tool missing from the conversation's list: {count}, in {rows}
    of the conversations.
    Why: the model learns to make up names of tools.
    Fix: add the tool to "tools", or give the call the name that the list has.
    """
    return pl.col("undeclared") > 0


@rule("DF112", Severity.WARNING)
def repeated_tool() -> pl.Expr:
    """A tool is defined twice.

    Evidence: conversations that offer several tools of one name: {rows}.
    Why: which of them is called cannot be told, and the copies fill the prompt.
    Fix: keep one definition of each name.
    """
    return (pl.col("repeated_tools") > 0) & (pl.col("turn") == 0)


@rule("DF113", Severity.WARNING)
def unresolved_placeholder() -> pl.Expr:
    """A placeholder was not filled in.

    Evidence: messages with a placeholder such as {{{{name}}}}: {count}, in {rows} of the
    conversations.
    Why: the model learns to say the placeholder to people.
    Fix: fill it in, in answers, questions and system messages alike.
    """
    text = pl.col("content")
    return confirmed(text.str.contains(placeholders.SCREEN), placeholders.find, text)


@rule("DF114", Severity.WARNING)
def results_of_calls() -> pl.Expr:
    """Calls and results differ in number.

    Evidence: messages whose tool calls have more or fewer results: {count}, in {rows} of the
    conversations.
    Why: which result belongs to which call cannot be told, so the model learns to mix them up.
    Fix: write one message with role "tool" for each call, in the order of the calls.
    """
    results = pl.col("results")
    return (results > 0) & (results != calls)


@rule("DF115", Severity.WARNING)
def arguments_misfit() -> pl.Expr:
    """A call's arguments do not fit the tool's definition.

    Evidence: messages with a call that lacks a required argument, or gives one that the tool does
    not have: {count}, in {rows} of the conversations.
    Why: such calls fail in use, and the model learns to make them.
    Fix: give the call the arguments of the definition, or mend the definition.
    """
    return pl.col("misfits") > 0


@rule("DF116", Severity.WARNING)
def call_as_text() -> pl.Expr:
    """A tool call stands in an answer's text.

    Evidence: answers with the text of a tool call: {count}, in {rows} of the conversations.
    Why: the template writes real calls in its own form and stops after them; a call in the text
    is learnt in a form that no server reads.
    Fix: write it as "tool_calls" of the message.
    """
    text = pl.when(role == "assistant").then(pl.col("content"))
    return (text.str.contains(CALL_TEXT) | text.str.contains(CALL_OBJECT)).fill_null(False)


@rule("DF117", Severity.WARNING)
def result_by_user() -> pl.Expr:
    """A user message is the result of a tool.

    Evidence: user messages that hold the result of a tool: {count}, in {rows} of the
    conversations.
    Why: the model learns to take what people say for results, and results for what people say.
    Fix: give the message the role "tool", and the call before it as "tool_calls".
    """
    text = pl.when(role == "user").then(pl.col("content"))
    return text.str.contains(RESULT_TEXT).fill_null(False)


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
    undeclared_tool,
    repeated_tool,
    unresolved_placeholder,
    results_of_calls,
    arguments_misfit,
    call_as_text,
    result_by_user,
)
