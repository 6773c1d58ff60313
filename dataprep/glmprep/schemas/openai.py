"""OpenAI's chat form, which is also the canonical one here.

    {"messages": [{"role": "user", "content": "…"},
                  {"role": "assistant", "tool_calls": [{"function": {"name": …, "arguments": …}}]},
                  {"role": "tool", "content": "…"}], "tools": […]}

The older `function_call` and role `function` are read, content parts of text, and `conversations`
or `traj` in place of `messages`.
"""

from __future__ import annotations

from glmprep.records import ROLES
from glmprep.schemas.context import Context, Look, Row
from glmprep.schemas.turns import FIELDS, list_row

NAME = "openai"
ROW_FIELDS = frozenset(("id", "messages", "tools", "origin"))


def is_canonical(row: Row, roles: tuple[str, ...]) -> bool:
    """Whether a row is canonical as it stands, with `roles` for the ones that keep their names."""
    if not row.keys() <= ROW_FIELDS:
        return False
    turns = row.get("messages")
    if type(turns) is not list or not turns:
        return False
    for turn in turns:
        if type(turn) is not dict:
            return False
        if len(turn) == 2 and type(turn.get("content")) is str and turn.get("role") in roles:
            continue
        if not turn.keys() <= FIELDS:
            return False
        if turn.get("role") not in roles or type(turn.get("content")) is list:
            return False
    return True


def kept_roles(context: Context) -> tuple[str, ...]:
    """The canonical roles that no `--role` renames; a tuple, as roles may be of any type."""
    return tuple(role for role in sorted(ROLES) if context.names[role] == role)


def recognise(look: Look) -> bool:
    """Whether there is a list of turns at all: this form is the last that is tried for one."""
    return look.turns is not None


def convert(look: Look, context: Context) -> Row:
    """The canonical row."""
    return list_row(look, context)
