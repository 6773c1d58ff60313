"""Which family a tokenizer's folder is of: the one that writes the probes as its template does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from glmprep.errors import InputError, UsageError
from glmprep.families import probes
from glmprep.families.chatglm3 import ChatGlm3
from glmprep.families.controls import Controls
from glmprep.families.folder import named_tokens, own_template
from glmprep.families.glm4 import Glm4
from glmprep.families.piece import NO_TOKEN, Family, Thinking
from glmprep.families.prefixes import Writer
from glmprep.families.rendering import Renderer, Unrenderable
from glmprep.families.template import Template
from glmprep.families.thought import START
from glmprep.records import Conversation
from glmprep.tokenizer import Tokenizer

Made = Callable[..., Any]
"""A family's class: called with a tokenizer and the thinking mode."""


class Detected(NamedTuple):
    """A family, and how it was decided, as the end of a sentence."""

    family: Family
    how: str


def detect(tokenizer: Tokenizer, families: Mapping[str, Made], thinking: Thinking) -> Detected:
    """The family of a tokenizer, one of `families` or its folder's own template.

    Raises UsageError where that cannot be told, or where the template is unknown and changes
    earlier turns; InputError for a folder that cannot be read or lacks the tokens.
    """
    if tokenizer.is_sentencepiece:
        return Detected(ChatGlm3(tokenizer, thinking), "a SentencePiece vocabulary is ChatGLM3's")
    found = own_template(tokenizer.folder) if tokenizer.folder is not None else None
    if found is None:
        if START in tokenizer.added:
            raise UsageError(
                f"{tokenizer.name}: no chat template there; name one with --family or --template"
            )
        return Detected(Glm4(tokenizer, thinking), "without a chat template GLM-4's is taken")
    path, text = found
    renderer = Renderer(text, str(path), named_tokens(tokenizer.folder))
    for name, made in families.items():
        try:
            alike = _writes_alike(made(tokenizer), renderer, tokenizer)
        except InputError:  # this vocabulary lacks a token of that family
            continue
        if alike:
            how = f"the template of {path.name} writes as {name} does"
            return Detected(made(tokenizer, thinking), how)
    where = f"{path}: the template is none of the built-in ones, and it cannot be taken as it is"
    own = Template(renderer, tokenizer, where=where, thinking=thinking)
    return Detected(own, f"the template of {path.name} is taken as it is")


def _writes_alike(family: Family, renderer: Renderer, tokenizer: Tokenizer) -> bool:
    """Whether a family gives the ids of the template for conversations of all kinds."""
    write = Writer(renderer=renderer, controls=Controls(tokenizer), thinking="on")
    tried = [probes.PLAIN, probes.SYSTEM, probes.TOOLS]
    if "reasoning_content" in renderer.source:
        tried.append(probes.LAST_THOUGHT)
    try:
        return all(
            _ids(family, probe, tokenizer) == tokenizer.encode_marked(write(probe).whole)
            for probe in tried
        )
    except Unrenderable:
        return False


def _ids(family: Family, conversation: Conversation, tokenizer: Tokenizer) -> Sequence[int]:
    """Ids of a conversation's last row, without the closing stop."""
    ids = list(family.prefix)
    for piece in family.pieces(family.rows(conversation)[-1]):
        ids += [] if piece.header == NO_TOKEN else [piece.header]
        ids += tokenizer.encode(piece.text)
    return ids
