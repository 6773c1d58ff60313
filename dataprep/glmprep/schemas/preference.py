"""Rows that compare answers: DPO and its kin, and KTO.

    {"prompt" or "conversations" or "instruction" …: …, "chosen": …, "rejected": …}
    {"chosen_messages": […], "rejected_messages": […]}          LLaMA-Factory's version 1
    {"messages": […], "rejected_response": "…"}                 ms-swift: the messages are the good
    {"messages" or "prompt" and "completion": …, "label": true}  KTO; also `kto_tag`

An answer is text, a turn, or a list of turns, which may begin with the prompt. They are refused,
or, with `--take chosen`, become the row of the better answer, in whatever form the rest has.
"""

from __future__ import annotations

from typing import Any

from glmprep.schemas.context import Context, Row
from glmprep.schemas.pairs import QUESTIONS
from glmprep.schemas.rules import (
    LISTS,
    Malformed,
    preference_row,
    rejected_answer,
    require,
    unknown_schema,
)
from glmprep.schemas.single import present

NAME = "preference"
CHOSEN = ("chosen", "chosen_messages", "chosen_response")
REJECTED = ("rejected", "rejected_messages", "rejected_response")
LABELS = ("kto_tag", "label")
FIELDS = frozenset((*CHOSEN, *REJECTED, *LABELS))
INSTRUCTION = "instruction"
VERDICTS = {"true": True, "false": False}


def recognise(row: Row) -> bool:
    """Whether there is a better or worse answer, or a verdict on one."""
    return not FIELDS.isdisjoint(row) and bool(_fields(row))


def chosen(row: Row, context: Context) -> Row:
    """The row of the better answer alone, in the form that the rest has.

    Raises Malformed by DF015 unless `take` asks for it, by DF021 for an answer judged bad.
    """
    fields = _fields(row)
    if context.take != "chosen":
        raise Malformed(preference_row, str(preference_row(fields)))
    rest = {name: value for name, value in row.items() if name not in fields}
    for name in LABELS:
        if (verdict := _verdict(row.get(name))) is not None:
            require(rejected_answer, verdict)
    answer = next((row[name] for name in CHOSEN if row.get(name) is not None), None)
    return rest if answer is None else _answered(rest, answer, context)


def _fields(row: Row) -> list[str]:
    compared = [name for name in (*CHOSEN, *REJECTED) if row.get(name) is not None]
    return compared + [name for name in LABELS if _verdict(row.get(name)) is not None]


def _verdict(value: Any) -> bool | None:
    """A verdict as KTO writes it; a number is the label of a class, not a verdict."""
    if isinstance(value, str):
        return VERDICTS.get(value.strip().lower())
    return value if isinstance(value, bool) else None


def _answered(rest: Row, answer: Any, context: Context) -> Row:
    """The rest of a row with the better answer where its form has the answer."""
    prompt = next((rest[name] for name in LISTS if rest.get(name) is not None), None)
    asked = present(rest, QUESTIONS)
    if prompt is None and asked is not None and isinstance(rest[asked], list):
        prompt = rest[asked]
        rest = {name: value for name, value in rest.items() if name != asked}
    said = _text(answer, context)
    if prompt is None and said is not None and (asked is not None or INSTRUCTION in rest):
        field = "output" if INSTRUCTION in rest else "response"
        context.note_unread([field] if rest.get(field) else [])
        return {**rest, field: said}
    turns = _turns(answer)
    if _begins_with_prompt(turns, context):
        context.note_unread([name for name in LISTS if rest.get(name) not in (None, turns)])
        prompt = []
    if not isinstance(prompt, list):
        raise Malformed(unknown_schema, "the chosen answer has no prompt")
    others = {name: value for name, value in rest.items() if name not in LISTS}
    return others | {"messages": [*prompt, *turns]}


def _text(answer: Any, context: Context) -> str | None:
    """The text of an answer that is nothing but text; None for any other."""
    if isinstance(answer, list) and len(answer) == 1:
        answer = answer[0]
    if isinstance(answer, dict) and len(answer) == 2 and _role(answer, context) == "assistant":
        answer = answer.get("content", answer.get("value"))
    return answer if isinstance(answer, str) else None


def _turns(answer: Any) -> list[Any]:
    if isinstance(answer, str):
        return [{"role": "assistant", "content": answer}]
    if isinstance(answer, dict):
        return [answer]
    if not isinstance(answer, list) or not answer:
        raise Malformed(unknown_schema, "the chosen answer is neither text nor messages")
    return answer


def _begins_with_prompt(turns: list[Any], context: Context) -> bool:
    return isinstance(turns[0], dict) and _role(turns[0], context) in ("user", "system")


def _role(turn: Row, context: Context) -> str | None:
    role = turn.get("role", turn.get("from"))
    return context.names.get(role) if isinstance(role, str) else None
