"""Rules on the text of messages, over the message table (see `glmprep.table`).

They look at all that a message says, whoever says it. The rules on answers and on personal data
have modules of their own; this one lists them all.
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from glmprep.findings import Severity, rule
from glmprep.rules import answers, privacy
from glmprep.rules.format import MessageRule, unresolved_placeholder
from glmprep.table import said
from glmprep.text import mojibake, placeholders
from glmprep.text.spots import Find, Spot, confirmed, holds, outside_code, searching

CONTROLS = r"\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\u009f"
HIDDEN = r"\u00ad\u200b\u2028-\u202e\u2060-\u2069\ue000-\uf8ff\ufeff\ufff9-\ufffc"
HTML = (
    r"</?(?:p|br|div|span|font|strong|em|ul|ol|li|td|tr|h[1-6]|img|a href)\b[^<>]{0,200}>"
    r"|&(?:nbsp|amp|lt|gt|quot|apos|ldquo|rdquo|hellip|mdash|#[0-9]{2,5}|#x[0-9a-fA-F]{2,5});"
)
HTML_MEANT = r"(?i)<!doctype|<html|<head|<body|<script|<style|\bhtml|\bcss\b|\bxml\b|网页|标签"
NOISE = (
    r"\{(?:vocalsound|nonvocalsound|disfmarker|pause|gap|noise|laughter|comment)\}"
    r"|[\[(](?:[Ii]naudible|INAUDIBLE|[Uu]nintelligible|[Cc]rosstalk|CROSSTALK|BLANK_AUDIO)[\])]"
    r"|\[(?:[Ll]aughter|[Ll]aughs|[Ll]aughing|LAUGHTER|[Mm]usic|MUSIC|[Aa]pplause|[Nn]oise)\]"
    r"|[\[(（](?:笑声|掌声|噪音|杂音|听不清|听不清楚)[\])）]|请不吝点赞|Amara\.org"
)
ESCAPED = r"(?:\\n){2}|\\n[A-Z0-9*#>\u4e00-\u9fff-]|\\u[0-9a-f]{4}\\u[0-9a-f]{4}"
LINE = r"(?m:^)[#* ]{0,6}"
"""The beginning of a line; left out in the first pass, where it would be slow."""
PERSON = rf"{LINE}(?:Human|User|HUMAN|USER|用户|人类)\*{{0,2}} ?[:：]"
MACHINE = rf"{LINE}(?:Assistant|ASSISTANT|AI|Bot|ChatGPT|助手|小助手|机器人)\*{{0,2}} ?[:：]"
TEMPLATE = (
    rf"{LINE}### ?(?:Instruction|Response|Human|Assistant)\b ?:|\[/?INST\]|<</?SYS>>"
    r"|<\|im_(?:start|end)\|>|<\|eot_id\|>|<\|(?:start|end)_header_id\|>"
    r"|<(?:start|end)_of_turn>|<｜(?:User|Assistant)｜>|</s>"
)
content = pl.col("content")
# Sound text seldom has any of these, so that one pass spares several rules most texts.
_unusual = pl.when(said().str.contains(rf"[{CONTROLS}{HIDDEN}\ufffd]|{mojibake.ONE_BYTE}")).then(
    said()
)


@rule("DF301", Severity.WARNING)
def replacement_characters() -> pl.Expr:
    """Text was lost in decoding.

    Evidence: messages with the replacement character U+FFFD: {count}, in {rows} of the
    conversations.
    Why: it stands where bytes could not be decoded, so what was there is gone, and the model
    learns to write the character itself.
    Fix: make the file again from its source, decoded with the right encoding (GBK is common).
    """
    return holds(_unusual, "\ufffd")


@rule("DF302", Severity.WARNING)
def garbled() -> pl.Expr:
    """Text was decoded with the wrong encoding.

    Evidence: messages with mojibake, such as 鐨勬槸 or Ã©: {count}, in {rows} of the conversations.
    Why: the model learns strings that no one writes, in place of the words they stand for.
    Fix: make the file again from its source with the right encoding; ftfy mends some kinds.
    """
    candidates = holds(_unusual, mojibake.ONE_BYTE) | holds(said(), mojibake.AS_GBK)
    return confirmed(candidates, mojibake.find, said())


@rule("DF303", Severity.WARNING)
def control_characters() -> pl.Expr:
    """Text has control characters.

    Evidence: messages with control characters other than tab and line break: {count}, in {rows}
    of the conversations.
    Why: they are debris of terminals, PDFs and broken exports; each costs tokens, and the model
    learns to write them.
    Fix: remove them.
    """
    return holds(_unusual, f"[{CONTROLS}]")


@rule("DF304", Severity.INFO)
def hidden_characters() -> pl.Expr:
    """Text has invisible characters.

    Evidence: messages with zero-width, direction, private or line separator characters: {count},
    in {rows} of the conversations.
    Why: no one sees them, yet they split words into other tokens, and can hide or turn round text.
    Fix: remove them, unless the language needs them.
    """
    return holds(_unusual, f"[{HIDDEN}]")


@rule("DF305", Severity.WARNING)
def html_debris() -> pl.Expr:
    """Text has HTML tags or entities.

    Evidence: messages with HTML outside of code: {count}, in {rows} of the conversations.
    Why: they are left over from a web page, and the model learns to write them in plain answers.
    Fix: convert the text with an HTML parser; leave it where people talk about HTML.
    """
    return confirmed(holds(content, HTML), find_html, content)


@rule("DF306", Severity.WARNING)
def noise_tags() -> pl.Expr:
    """Text has the marks of a speech transcript.

    Evidence: messages with marks such as {{vocalsound}} or [inaudible]: {count}, in {rows} of
    the conversations.
    Why: they stand for noise, cost tokens in every meeting, and end up in what the model writes.
    Fix: remove them from the text.
    """
    return holds(said(), NOISE)


@rule("DF310", Severity.WARNING)
def prompt_in_message() -> pl.Expr:
    """A whole dialogue, or the marks of another template, stand in one message.

    Evidence: messages with the roles of a dialogue or with template marks: {count}, in {rows} of
    the conversations.
    Why: roles that are text are trained as text: the model learns to speak for the user too, and
    to write marks that mean nothing to it.
    Fix: split the text into messages with roles, and remove the marks.
    """
    candidates = holds(said(), *(pattern.replace(LINE, "") for pattern in (TEMPLATE, MACHINE)))
    return confirmed(candidates, find_prompt, said())


@rule("DF319", Severity.WARNING)
def escaped_twice() -> pl.Expr:
    r"""Text is escaped twice.

    Evidence: messages with \n or \uXXXX as text in place of the characters: {count}, in {rows} of
    the conversations.
    Why: the model learns to write a backslash and an n where it should begin a new line.
    Fix: decode the text once more when the file is made.
    """
    return confirmed(holds(content, ESCAPED), find_escaped, content)


TEXT_RULES: tuple[MessageRule, ...] = (
    replacement_characters,
    garbled,
    control_characters,
    hidden_characters,
    html_debris,
    noise_tags,
    *answers.ANSWER_RULES,
    prompt_in_message,
    *privacy.PRIVACY_RULES,
    escaped_twice,
)

_in_text, _html, _escaped = searching(HTML_MEANT), outside_code(HTML), outside_code(ESCAPED)
_template, _person, _machine = outside_code(TEMPLATE), searching(PERSON), searching(MACHINE)


def find_html(text: str) -> Spot | None:
    """The first tag or entity, unless the text is a page or talks about one."""
    return None if _in_text(text) else _html(text)


def find_prompt(text: str) -> Spot | None:
    """The first mark of a template, or the first line of a dialogue between two roles."""
    if marked := _template(text):
        return marked
    person, machine = _person(text), _machine(text)
    return min(person, machine) if person and machine else None


def find_escaped(text: str) -> Spot | None:
    """The first escape, unless the text has real line breaks, or is JSON, where it belongs."""
    return None if "\n" in text or text.lstrip()[:1] in ("{", "[", '"') else _escaped(text)


FINDS: Mapping[str, Find] = {
    unresolved_placeholder.id: placeholders.find,
    replacement_characters.id: searching("\ufffd"),
    garbled.id: mojibake.find,
    control_characters.id: searching(f"[{CONTROLS}]"),
    hidden_characters.id: searching(f"[{HIDDEN}]"),
    html_debris.id: find_html,
    noise_tags.id: searching(NOISE),
    prompt_in_message.id: find_prompt,
    escaped_twice.id: find_escaped,
    **answers.FINDS,
    **privacy.FINDS,
}
"""How to find the place where a rule fired, by rule id; for excerpts (see `glmprep.text.spots`)."""
