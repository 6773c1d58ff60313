"""Rules on what the assistant says, over the message table: answers that should not be learnt.

Answers that are not trained are left alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import polars as pl

from glmprep.findings import Severity, rule
from glmprep.rules.format import MessageRule
from glmprep.text import repetition
from glmprep.text.scripts import writing
from glmprep.text.spots import Find, Spot, confirmed, holds, outside_code, searching

LEAST_ECHO = 12
"""Characters from which an answer that repeats the question is no greeting returned."""
CANNOT = r"can(?:no|['’])t|(?:['’]| a)m (?:unable|not able|not programmed)(?: to)?"
HELP = "assist|help|provide|fulfil|comply|perform|generate|create|complete|access|browse|order|book"
REFUSAL = (
    r"(?i:\bas an ai(?: language)?(?: model| assistant| chatbot)?(?:,| i )"
    r"|\bas a (?:large )?language model|\bi(?:['’]| a)m (?:just|only) an ai\b|\bmy programming\b"
    rf"|\b(?:sorry|apologi[sz]e),? but (?:as an ai|i ?(?:{CANNOT}) (?:{HELP}))"
    r"|\bi (?:can(?:no|['’])t|am unable to) (?:fulfil|comply with|assist with) )",
    r"作为(?:一个|一名|一款|一种)?(?:大型|大)?(?:人工智能|AI|语言模型|预训练)"
    r"|我(?:只|仅仅?)是(?:一个|一款)?(?:人工智能|AI|语言模型)"
    r"|抱歉[，,]?(?:但是?)?我(?:目前|暂时)?(?:无法|不能|没有能力|没办法)"
    r"(?:提供|协助|帮助|直接|完成|回答|执行|满足|访问|为您|帮您)",
)
THINKING = r"</?think(?:ing)?>|</?reasoning>|<\|(?:begin|end)_of_(?:thought|solution)\|>"
TRANSLATION = re.compile(
    r"(?i)transl|english|chinese|mandarin|翻译|译成|译为|英文|英语|英译|中文|汉语|语言|代码|编程|程序|函数|code|sql"
)
FENCE = re.compile(r"^[ \t]*(?:[-*>] )?```[^`\n]*$", re.MULTILINE)
BLANK = (
    r"\[(?i:your|insert|recipient|company|sender|client|customer)\b[A-Za-z’'/ ]{0,40}\]"
    r"|[\[【](?:您的|你的)?(?:姓名|名字|职位|职称|公司|日期|地址|电话|联系|收件人|客户)"
    r"[\u4e00-\u9fff]{0,6}[\]】]"
)
content = pl.col("content")
answer = (pl.col("role") == "assistant") & pl.col("trained")
answers = pl.when(answer).then(content)


@rule("DF307", Severity.WARNING)
def loops() -> pl.Expr:
    """An answer runs in circles.

    Evidence: answers that write one phrase or line over and over: {count}, in {rows} of the
    conversations.
    Why: the model learns to fall into loops that it does not leave.
    Fix: remove these answers; they are mostly the failures of another model.
    """
    long = content.str.len_chars() >= repetition.LEAST
    return confirmed(answer & long, repetition.find, content)


@rule("DF308", Severity.WARNING)
def refusal() -> pl.Expr:
    """An answer has the stock phrases of another assistant.

    Evidence: answers with "As an AI language model", "I'm sorry, but I can't assist",
    "作为一个人工智能" and the like: {count}, in {rows} of the conversations.
    Why: the model learns another model's words, and to refuse also where it could help.
    Fix: rewrite or remove them; keep the refusals that you want, in your own words.
    """
    return holds(answers, *REFUSAL)


@rule("DF309", Severity.INFO)
def other_language() -> pl.Expr:
    """An answer is not in the question's language.

    Evidence: answers in English to Chinese questions, or in Chinese to English ones: {count}, in
    {rows} of the conversations; questions that ask for a translation or for code do not count.
    Why: the model learns to change the language without being asked.
    Fix: translate the answer, or say in the question which language is wanted.
    """
    width = content.str.len_bytes() / content.str.len_chars()
    changed = (width < 1.3) != (width.shift(1) < 1.3)
    asked = (pl.col("prev_role") == "user") & (pl.col("calls") == 0)
    candidates = (answer & asked & changed).fill_null(False)
    return confirmed(candidates, _changes_language, content.shift(1), content)


@rule("DF311", Severity.WARNING)
def reasoning_in_text() -> pl.Expr:
    """Reasoning stands in the text of an answer.

    Evidence: answers with tags of reasoning such as <think>: {count}, in {rows} of the
    conversations.
    Why: a model that thinks has a place of its own for it, and one that does not learns to say its
    thoughts aloud.
    Fix: move the reasoning to the field "reasoning_content", or remove it with its tags.
    """
    return confirmed(holds(answers, THINKING), _thinking, content)


@rule("DF312", Severity.WARNING)
def echo() -> pl.Expr:
    """An answer is its question again.

    Evidence: answers that are the same text as the question: {count}, in {rows} of the
    conversations.
    Why: the model learns to repeat what it is asked; mostly, columns were mixed up.
    Fix: remove these rows, or look at how the file was made.
    """
    same = (content == content.shift(1)) & (pl.col("prev_role") == "user")
    return (answer & same & (content.str.len_chars() >= LEAST_ECHO)).fill_null(False)


@rule("DF313", Severity.WARNING)
def breaks_off() -> pl.Expr:
    """An answer breaks off.

    Evidence: answers that end inside a block of code or after a comma: {count}, in {rows} of the
    conversations.
    Why: they were cut when they were made, and the model learns to stop in the middle.
    Fix: make them again with room for the whole answer, or remove them.
    """
    suspect = content.str.contains("```", literal=True) | content.str.contains(r"[,，、(（]\s*$")
    return confirmed(answer & pl.col("ends") & (pl.col("calls") == 0) & suspect, _end, content)


@rule("DF320", Severity.INFO)
def padded() -> pl.Expr:
    """An answer begins or ends with white space.

    Evidence: answers with blanks or empty lines at an end: {count}, in {rows} of the conversations.
    Why: the model learns to write them; before the token that ends the turn they are noise.
    Fix: strip the answers.
    """
    bare = answers.str.strip_chars()
    return (pl.col("whole") & (bare != content) & (bare != "")).fill_null(False)


@rule("DF321", Severity.INFO)
def blank_to_fill_in() -> pl.Expr:
    """An answer has blanks to fill in.

    Evidence: answers with a blank such as [Your Name] or [您的姓名]: {count}, in {rows} of the
    conversations.
    Why: it is right in a form letter that was asked for; elsewhere the model learns to leave out
    what it should say.
    Fix: look at the examples, and fill the blanks in where they are not meant.
    """
    return holds(answers, BLANK)


ANSWER_RULES: tuple[MessageRule, ...] = (
    loops,
    refusal,
    other_language,
    reasoning_in_text,
    echo,
    breaks_off,
    padded,
    blank_to_fill_in,
)

_thinking = outside_code(THINKING)


def _changes_language(question: str, answer: str) -> bool:
    if TRANSLATION.search(question) or "```" in answer:
        return False
    return {writing(question), writing(answer)} == {"han", "latin"}


def _end(text: str) -> Spot | None:
    """The last characters of a text that breaks off."""
    cut = len(FENCE.findall(text)) % 2 or text.rstrip().endswith((",", "，", "、", "(", "（"))
    return (max(0, len(text) - 40), len(text)) if cut else None


FINDS: Mapping[str, Find] = {
    loops.id: repetition.find,
    refusal.id: searching("|".join(REFUSAL)),
    reasoning_in_text.id: _thinking,
    breaks_off.id: _end,
    blank_to_fill_in.id: searching(BLANK),
}
