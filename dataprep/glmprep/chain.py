"""Stages after one another on one block: text that is made of text, and tokens at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from glmprep.blocks import Block
from glmprep.texts import Text, TextStage
from glmprep.units import Tokenize, Unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Chained:
    """What each stage made of a block of so many bytes, without the text and the tokens.

    `kept` says that all of it was there from an earlier run.
    """

    size: int
    kept: bool
    texts: Sequence[Text]
    unit: Unit


@dataclass(frozen=True, slots=True)
class Chain:
    """The work of all stages: call it with a block of the input."""

    texts: Sequence[TextStage]
    tokens: Tokenize

    def __call__(self, block: Block) -> Chained:
        """What was made of a block, now or before."""
        size, made = block.size, []
        for stage in self.texts:
            text, block = stage(block)
            made.append(text)
        unit = self.tokens(block)
        kept = unit.kept and all(text.kept for text in made)
        return Chained(size=size, kept=kept, texts=made, unit=unit)
