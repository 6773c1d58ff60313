"""Which tokenizer and which template make tokens of conversations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from glmprep import added, families
from glmprep.families import Family, Thinking
from glmprep.files import sha256
from glmprep.tokenizer import Tokenizer
from glmprep.tokenizer import load as load_tokenizer


class Tokenizing(Protocol):
    """A tokenizer and a template family, which are there when they are asked for."""

    def load(self) -> tuple[Tokenizer, Family]:
        """Both of them."""

    def settings(self) -> Mapping[str, Any] | None:
        """How they were asked for, as a manifest keeps it; None where that is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """Both by their names, as options give them; each process loads them once.

    `engine` is the library that encodes, and `text_bytes` how much text it will be for, as far as
    that is known (see `tokenizer.load`); `add` the tokens to add (see `added`). Picklable, so that
    it can be sent to workers.
    """

    tokenizer: str
    family: str = "auto"
    template: Path | None = None
    thinking: Thinking = "on"
    engine: str = "auto"
    text_bytes: int = 0
    add: tuple[str, ...] = ()

    def load(self) -> tuple[Tokenizer, Family]:
        """Both of them; errors as in `tokenizer.load`, `added.extended` and `families.load`."""
        return _load(self)

    def as_json(self) -> dict[str, Any]:
        """All of it as plain JSON values."""
        template = None if self.template is None else str(self.template)
        return {**asdict(self), "template": template}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Named:
        """What `as_json` gave."""
        template = None if data["template"] is None else Path(data["template"])
        return cls(**{**data, "template": template, "add": tuple(data["add"])})

    def settings(self) -> Mapping[str, Any]:
        """How the family was asked for; a template by its sha256."""
        template = None if self.template is None else sha256(self.template)
        return {"asked": self.family, "thinking": self.thinking, "template": template}


@dataclass(frozen=True, slots=True)
class Ready:
    """Both as they are, for one process."""

    tokenizer: Tokenizer
    family: Family

    def load(self) -> tuple[Tokenizer, Family]:
        """Both of them."""
        return self.tokenizer, self.family

    def settings(self) -> None:
        """Not known."""


@lru_cache(maxsize=2)
def _load(named: Named) -> tuple[Tokenizer, Family]:
    known = load_tokenizer(named.tokenizer, engine=named.engine, text_bytes=named.text_bytes)
    tokenizer = added.extended(known, named.add)
    family = families.load(
        named.family, tokenizer, template=named.template, thinking=named.thinking
    )
    return tokenizer, family
