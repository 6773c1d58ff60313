"""Template families: how a conversation becomes pieces of text between control tokens."""

from __future__ import annotations

from pathlib import Path

from glmprep.errors import UsageError
from glmprep.families.chatglm3 import ChatGlm3
from glmprep.families.detect import Detected, Made
from glmprep.families.detect import detect as _detect
from glmprep.families.folder import named_tokens, read_template
from glmprep.families.glm4 import Glm4
from glmprep.families.glm4_0414 import Glm40414, GlmZ1
from glmprep.families.glm45 import Glm45, Glm46, Glm47
from glmprep.families.piece import Family, Piece, Reasoning, Thinking
from glmprep.families.rendering import Renderer, Unrenderable
from glmprep.families.template import Template
from glmprep.tokenizer import Tokenizer

FAMILIES: dict[str, Made] = {
    made.name: made for made in (ChatGlm3, Glm4, Glm40414, GlmZ1, Glm46, Glm45, Glm47)
}
"""The built-in families by name; of two that write alike, detection takes the first."""

__all__ = [
    "FAMILIES",
    "Detected",
    "Family",
    "Piece",
    "Reasoning",
    "Thinking",
    "Unrenderable",
    "detect",
    "load",
]


def load(
    name: str, tokenizer: Tokenizer, *, template: Path | None = None, thinking: Thinking = "on"
) -> Family:
    """The family of that name on this tokenizer, or the one of a template file.

    `auto` takes the family of the tokenizer's folder (see `detect`). Raises UsageError for an
    unknown name and for a template that cannot be trained by, InputError for a tokenizer without
    the role tokens and for a file that is no template.
    """
    if template is not None:
        if name != "auto":
            raise UsageError(f"--template {template} takes the place of --family {name}; drop one")
        renderer = Renderer(read_template(template), str(template), named_tokens(tokenizer.folder))
        return Template(renderer, tokenizer, where=str(template), thinking=thinking)
    if name == "auto":
        return detect(tokenizer, thinking=thinking).family
    if name not in FAMILIES:
        raise UsageError(f"--family {name}: this version knows {', '.join(FAMILIES)}")
    family: Family = FAMILIES[name](tokenizer, thinking)
    return family


def detect(tokenizer: Tokenizer, *, thinking: Thinking = "on") -> Detected:
    """The family of a tokenizer's folder, and how it was decided; errors as in `load`."""
    return _detect(tokenizer, FAMILIES, thinking)
