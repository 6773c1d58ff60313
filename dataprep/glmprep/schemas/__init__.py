"""Rows in any known form to canonical rows; which form a row has is found by looking at it.

A canonical row is `{"messages": […], "tools": […], "id": …}` in OpenAI's form: a message has `role`
(system, user, assistant or tool), `content`, and where they are needed `reasoning_content`,
`tool_calls`, `weight` and `part`. A row that is canonical already comes back as it is.

Each form is a module with `recognise` and `convert`. They are tried in the order of SCHEMAS, for
each row anew: lists of turns before single questions, and the more special form first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from glmprep.schemas import (
    alpaca,
    chatglm3,
    exchanges,
    glm4,
    openai,
    pairs,
    preference,
    prose,
    sharegpt,
)
from glmprep.schemas.context import Context, Look, Row
from glmprep.schemas.rules import (
    Malformed,
    multimodal_row,
    require,
    unknown_schema,
)
from glmprep.schemas.turns import look

MEDIA = frozenset(("images", "image", "videos", "video", "audios", "audio"))


@dataclass(frozen=True, slots=True)
class Schema:
    """A form that rows come in."""

    name: str
    recognise: Callable[[Look], bool]
    convert: Callable[[Look, Context], Row]


SCHEMAS = tuple(
    Schema(form.NAME, form.recognise, form.convert)
    for form in (sharegpt, exchanges, chatglm3, glm4, openai, alpaca, pairs, prose)
)


class Schemas:
    """Finds the form of rows, in one context."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self._roles = openai.kept_roles(context)

    def canonical(self, value: Any) -> tuple[str, Row]:
        """The name of a row's form, and the canonical row; raises Malformed where there is none."""
        if type(value) is dict and openai.is_canonical(value, self._roles):
            return openai.NAME, value
        if not isinstance(value, dict):
            raise Malformed(unknown_schema, str(unknown_schema(value)))
        if not MEDIA.isdisjoint(value):
            require(multimodal_row, [name for name in value if name in MEDIA and value[name]])
        if preference.recognise(value):
            row = preference.chosen(value, self.context)
            return preference.NAME, self._converted(row)[1]
        return self._converted(value)

    def _converted(self, row: Row) -> tuple[str, Row]:
        seen = look(row, self.context)
        for schema in SCHEMAS:
            if schema.recognise(seen):
                return schema.name, schema.convert(seen, self.context)
        raise Malformed(unknown_schema, str(unknown_schema(row)))
