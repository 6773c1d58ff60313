"""A recipe as TOML that a person can read: every setting with the reason for it above it."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Sequence

from glmreport.text import Catalogue, Text, visible

from glmprep.proposal import Choice, Proposal, Value

WIDTH = {"en": 88, "zh": 46}


def recipe_toml(proposal: Proposal, notes: Sequence[Text], language: str) -> str:
    """The recipe with its reasons in a language; `notes` stand at its head."""
    catalogue = Catalogue.load(language)
    lines = [line for note in notes for line in _comment(catalogue, note)]
    for table in proposal.tables:
        choices = proposal.of(table)
        lines += ["", *_comment(catalogue, Text(f"prep.init.table.{table}"))]
        lines.append(f"{'# ' if all(choice.off for choice in choices) else ''}[{table}]")
        lines += [line for choice in choices for line in _lines(catalogue, choice)]
    return "\n".join(lines) + "\n"


def _lines(catalogue: Catalogue, choice: Choice) -> Iterator[str]:
    if choice.why is not None:
        yield from _comment(catalogue, choice.why)
    yield f"{'# ' if choice.off else ''}{choice.key} = {toml(choice.value)}"


def _comment(catalogue: Catalogue, text: Text) -> list[str]:
    # Names from the data stand in it, which may hold what TOML forbids.
    said = visible(catalogue.say(text))
    return [f"# {line}" for line in _wrap(said, WIDTH[catalogue.language])]


def _wrap(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_on_hyphens=False)


def toml(value: Value) -> str:
    """A value as TOML; JSON escapes all that TOML forbids in a string, except DEL."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, dict):
        pairs = ", ".join(f"{_key(key)} = {toml(one)}" for key, one in value.items())
        return f"{{ {pairs} }}"
    if isinstance(value, Sequence):
        return f"[{', '.join(map(toml, value))}]"
    return repr(value)


def _key(key: str) -> str:
    bare = key.isascii() and key.replace("-", "").replace("_", "").isalnum()
    return key if bare else toml(key)
