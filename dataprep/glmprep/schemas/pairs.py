"""A question and an answer in a field each, with the turns before in `history`.

    {"query": "…", "response": "…", "history": [["…", "…"]], "system": "…"}     ms-swift
    {"prompt": "…", "response": "…", "history": [["…", "…"]]}                   ChatGLM's scripts
    {"prompt": "…", "completion": "…"}                                          TRL
    {"question": "…", "answer": "…"}, {"input": "…", "output": "…"}

TRL's prompt and completion may also be lists of messages; only the completion is trained then.
"""

from __future__ import annotations

from typing import Any

from glmprep.schemas.context import Context, Look, Row
from glmprep.schemas.rules import ANSWERS, Malformed, unknown_schema
from glmprep.schemas.single import exchange, present, text
from glmprep.schemas.turns import assemble, messages

NAME = "query-response"
QUESTIONS = ("query", "prompt", "question", "input")


def recognise(look: Look) -> bool:
    """Whether there is a question."""
    return present(look.row, QUESTIONS) is not None


def convert(look: Look, context: Context) -> Row:
    """The canonical row."""
    row = look.row
    question, answer = present(row, QUESTIONS), present(row, ANSWERS)
    if question is None or answer is None:
        names = ", ".join(ANSWERS)
        raise Malformed(unknown_schema, f"{question!r} without an answer ({names})")
    asked, said = row[question], row[answer]
    if isinstance(asked, list) and isinstance(said, list) and asked and said:
        return assemble(row, _joined(asked, said, context), context, read=(question, answer))
    read = (question, answer)
    return exchange(row, text(row, question), text(row, answer), context, read)


def _joined(prompt: list[Any], completion: list[Any], context: Context) -> list[Row]:
    made = messages(enumerate([*prompt, *completion], 1), context)
    before = len(made) - len(messages(enumerate(completion, len(prompt) + 1), context))
    return [
        {**message, "weight": 0} if place < before and message["role"] == "assistant" else message
        for place, message in enumerate(made)
    ]
