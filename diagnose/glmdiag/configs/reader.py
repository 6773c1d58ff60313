"""Filling the record from a document by a format's table of keys."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from glmdiag.configs.document import Document
from glmdiag.configs.record import Oddity, OddityKind, Said, Trainer
from glmdiag.configs.unknown import unknown

Kind: TypeAlias = Literal["number", "whole", "flag", "text", "list"]
NUMBER = re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?$")
NUMBERS = {
    "learning_rate", "warmup_steps", "warmup_ratio", "weight_decay", "max_grad_norm", "epochs",
    "alpha", "dropout", "save_steps", "eval_steps",
}  # fmt: skip
WHOLE = {
    "batch_size", "accumulation", "tokens_per_batch", "max_steps", "max_length",
    "max_input_length", "max_output_length", "empty_cache_steps", "rank", "prefix_tokens",
    "workers", "quantisation",
}  # fmt: skip
FLAGS = {
    "bf16", "fp16", "pure", "packing", "group_by_length", "train_on_prompt", "last_answer_only",
    "in_order", "checkpointing", "nan_filter", "rslora", "load_best", "generates", "find_unused",
}  # fmt: skip
ABSURD = 1e12
"""No setting of a run is so large; also told apart by it are infinity and NaN."""
LISTS = {"targets", "stop_tokens"}
OPEN_LIMITS = {"max_steps", "max_length"}
"""Settings in which -1 or 0 stands for no limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """How one trainer writes its settings.

    `keys` are its names for ours, the one that a change writes first. `version` is what `defaults`
    were read from; a default may be a function of the record. `known` are all keys that the trainer
    takes, empty where that is not known; keys in `open_tables` may have any keys below. `interpret`
    reads what takes more than a name. `takes_text` is whether it makes numbers of quoted text, and
    `refuses_unknown` whether a key that it does not know ends the run.
    """

    name: Trainer
    version: str
    keys: Mapping[str, tuple[str, ...]]
    defaults: Mapping[str, Any]
    known: Callable[[], frozenset[str]]
    interpret: Callable[[Reader], None]
    open_tables: frozenset[str] = frozenset()
    takes_text: bool = False
    refuses_unknown: bool = True


@dataclass(slots=True)
class Reader:
    """A document being read; `root` is the dotted key below which its settings stand, or empty."""

    format: Format
    document: Document
    root: str = ""
    values: dict[str, Any] = field(default_factory=dict)
    said: dict[str, Said] = field(default_factory=dict)
    oddities: list[Oddity] = field(default_factory=list)

    def read(self) -> None:
        """Fill the values from the format's table, then by its own interpretation."""
        for name, keys in self.format.keys.items():
            for key in reversed(keys):
                self.take(name, key)
        self.format.interpret(self)
        self.oddities += unknown(self)
        for key in self.document.duplicates:
            self.odd("duplicate", self.document_said(key, None))

    def get(self, key: str) -> Any:
        """The value at a dotted key, None where there is none."""
        value: Any = self.document.tree
        for part in filter(None, self.absolute(key).split(".")):
            value = value.get(part) if isinstance(value, Mapping) else None
        return value

    def absolute(self, key: str) -> str:
        """A key of the format as a key of the document."""
        return f"{self.root}.{key}".strip(".")

    def take(self, name: str, key: str) -> None:
        """Read our setting `name` from a key, where that says something of its kind."""
        raw = self.get(key)
        if raw is None:
            return
        value = self.converted(name, key, raw)
        if value is not None:
            self.set(name, value, key)

    def set(self, name: str, value: Any, key: str) -> None:
        """Our setting `name` is `value`, because of what is said at `key`."""
        self.values[name] = value
        self.said[name] = self.where(key)

    def where(self, key: str) -> Said:
        """What stands at a key of the format."""
        return self.document_said(self.absolute(key), self.get(key))

    def document_said(self, key: str, value: Any) -> Said:
        """What stands at a key of the document."""
        line = self.document.line(key)
        return Said(file=self.document.path, key=key, value=value, line=line)

    def odd(self, kind: OddityKind, said: Said, near: str = "") -> None:
        """Remember something odd."""
        self.oddities.append(Oddity(kind=kind, said=said, near=near))

    def converted(self, name: str, key: str, raw: Any) -> Any:
        """A raw value in the kind that our setting has; None and an oddity where it is not."""
        if name in NUMBERS or name in WHOLE:
            return self._number(name, key, raw)
        if name in FLAGS:
            return self._flag(key, raw)
        if name in LISTS:
            parts = raw.split(",") if isinstance(raw, str) else raw
            return tuple(str(part).strip() for part in parts) if isinstance(parts, list) else None
        return str(raw)

    def _number(self, name: str, key: str, raw: Any) -> float | int | None:
        if isinstance(raw, str) and NUMBER.match(raw.strip()):
            if not self.format.takes_text:
                self.odd("text", self.where(key))
            raw = float(raw)
        if isinstance(raw, bool) or not isinstance(raw, (int, float)) or not abs(raw) < ABSURD:
            if raw not in ("auto", ""):
                self.odd("value", self.where(key), "number")
            return None
        if name in OPEN_LIMITS and raw <= 0:
            return None
        return int(raw) if name in WHOLE else float(raw)

    def _flag(self, key: str, raw: Any) -> Any:
        if isinstance(raw, bool) or raw == "auto":
            return raw
        words = {"true": True, "false": False, "1": True, "0": False}
        found = words.get(str(raw).strip().lower())
        if found is None:
            self.odd("value", self.where(key), "true/false")
        return found
