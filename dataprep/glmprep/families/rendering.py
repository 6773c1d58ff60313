"""A jinja chat template, rendered as transformers renders it: sandboxed, and with limits.

The variables and helpers are those of `apply_chat_template` (transformers,
utils/chat_template_utils.py). A template comes from a stranger as often as not, so it can load no
file, change nothing that it is given, and write no more than a bounded amount. Dates in it are
fixed, so that the same data give the same shards on any day.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from glmprep.errors import InputError, SuiteError

if TYPE_CHECKING:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

MOST = 1 << 26
"""Characters that a template may write for one conversation."""
TODAY = datetime(2025, 1, 1, tzinfo=UTC)
"""What `strftime_now` shows unless SOURCE_DATE_EPOCH is set."""


class Unrenderable(SuiteError):
    """The template cannot render a conversation; its text says why, in one line."""


class Renderer:
    """A compiled template. `variables` are the tokenizer's named tokens, such as `bos_token`.

    Raises InputError for a template that is no jinja.
    """

    def __init__(self, source: str, name: str, variables: Mapping[str, str]) -> None:
        from jinja2 import TemplateSyntaxError

        environment = _environment()
        self.source = source
        self.variables = dict(variables)
        try:
            self._template = environment.from_string(source)
        except TemplateSyntaxError as error:
            raise InputError(f"{name}:{error.lineno}: not a jinja template: {error}") from error
        except RecursionError as error:
            raise InputError(f"{name}: not a jinja template: nested too deeply") from error

    def __call__(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None,
        *,
        prompt: bool = False,
        thinking: bool = True,
    ) -> str:
        """The text of the messages, with `prompt` also what asks the model for the next one.

        Raises Unrenderable where the template raises, or writes without end.
        """
        variables: dict[str, Any] = {**self.variables, "documents": None}
        if not thinking:
            variables["enable_thinking"] = False
        variables |= {"messages": messages, "tools": tools, "add_generation_prompt": prompt}
        parts: list[str] = []
        written = 0
        try:
            for part in self._template.generate(variables):
                parts.append(part)
                written += len(part)
                if written > MOST:
                    raise Unrenderable(f"the template writes more than {MOST} characters")
        except Unrenderable:
            raise
        except Exception as error:  # whatever the expressions in a template may raise
            reason = " ".join(str(error).split()) or type(error).__name__
            raise Unrenderable(f"the template says: {reason[:160]}") from error
        return "".join(parts)


def _environment() -> ImmutableSandboxedEnvironment:
    from jinja2 import TemplateError, nodes
    from jinja2.exceptions import SecurityError
    from jinja2.ext import Extension, loopcontrols
    from jinja2.parser import Parser
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Bounded(ImmutableSandboxedEnvironment):
        """Refuses to make one huge value out of a small one."""

        intercepted_binops = frozenset(("*", "**"))

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            sizes = [value if isinstance(value, int) else len(value) for value in (left, right)]
            if operator == "**" or sizes[0] * sizes[1] > MOST:
                raise SecurityError(f"{operator} makes too large a value")
            return super().call_binop(context, operator, left, right)

    class Generation(Extension):
        """`{% generation %}` marks what the assistant says; its text stands as it is."""

        tags = {"generation"}  # noqa: RUF012 - as the base class has it

        def parse(self, parser: Parser) -> list[nodes.Node]:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    environment = Bounded(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = _today
    return environment


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _today(form: str) -> str:
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    day = datetime.fromtimestamp(int(epoch), UTC) if epoch.isdigit() else TODAY
    return day.strftime(form)
