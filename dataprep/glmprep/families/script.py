"""Turns as scripts: control tokens and text, in the order in which the model sees them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from glmprep.families.piece import NO_TOKEN, Piece
from glmprep.tokenizer import Tokenizer

Script = Sequence[int | str]
"""Ids of control tokens, and text; texts side by side are encoded as one."""


class Markup:
    """Reads what a template says: the control tokens that the tokenizer has become their ids.

    What people wrote never goes through here, so it stays text whatever it looks like.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._ids = tokenizer.added
        names = sorted(self._ids, key=len, reverse=True)
        self._pattern = re.compile(f"({'|'.join(map(re.escape, names))})")

    def __call__(self, text: str) -> tuple[int | str, ...]:
        """Template text as a script."""
        return tuple(self._ids.get(part, part) for part in self._pattern.split(text) if part)


def lay(
    made: list[Piece], turn: int, prompt: Script, answer: Script, *, trained: bool, ends: bool
) -> None:
    """Add a turn's pieces: `prompt` is what the model is given, `answer` what it generates.

    Where both meet inside a text they are encoded apart, as they are in use. The last piece `ends`
    the turn or does not.
    """
    header, text = NO_TOKEN, ""
    for item in prompt:
        if isinstance(item, str):
            text += item
        else:
            if header != NO_TOKEN or text:
                made.append(Piece(header, text, False, False, turn))
            header, text = item, ""
    if text:
        made.append(Piece(header, text, False, False, turn))
        header, text = NO_TOKEN, ""
    inner = False
    for item in answer:
        if isinstance(item, str):
            text += item
        else:
            if header != NO_TOKEN or text:
                made.append(Piece(header, text, trained, False, turn, inner))
            header, text, inner = item, "", True
    if header != NO_TOKEN or text:
        made.append(Piece(header, text, trained, ends, turn, inner))
