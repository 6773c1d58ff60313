"""Template families: how a conversation becomes pieces of text between control tokens."""

from __future__ import annotations

from pathlib import Path

from glmprep.errors import UsageError
from glmprep.families.glm4 import Glm4
from glmprep.families.piece import Family, Piece, Thinking
from glmprep.tokenizer import Tokenizer

FAMILIES: dict[str, type[Glm4]] = {"glm4": Glm4}

__all__ = ["FAMILIES", "Family", "Piece", "Thinking", "load"]


def load(
    name: str, tokenizer: Tokenizer, *, template: Path | None = None, thinking: Thinking = "on"
) -> Family:
    """The family of that name on this tokenizer; `auto` is GLM-4-9B-chat.

    Raises UsageError for an unknown name, InputError for a tokenizer without the role tokens.
    """
    if name == "auto":
        name = "glm4"
    if name not in FAMILIES or template is not None:
        raise UsageError(f"--family {name}: this version knows {', '.join(FAMILIES)}")
    return FAMILIES[name](tokenizer)
