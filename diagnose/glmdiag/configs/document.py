"""A configuration file as plain values, and where in its text each of them stands.

What is read is hostile until shown otherwise: size, depth and number of values have limits (a few
lines of YAML aliases can stand for billions of values), and nothing is ever executed.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from glmprep.console import file_errors
from glmprep.errors import InputError

from glmdiag.configs.spans import Span, of_toml

Syntax: TypeAlias = Literal["yaml", "json", "toml"]
LARGEST = 1 << 19  # bytes; configurations have some thousand
DEEPEST = 24
MOST_VALUES = 20_000
SUFFIXES: Mapping[str, Syntax] = {
    ".yaml": "yaml",
    ".yml": "yaml",
    ".json": "json",
    ".toml": "toml",
}
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle")
KNOWN = (
    "glmtrain TOML, official GLM-4 YAML, LLaMA-Factory, axolotl and ms-swift YAML or JSON, "
    "Hugging Face TrainingArguments as JSON, DeepSpeed JSON"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A file's text and its values; `spans` says where each dotted key and its value stand.

    `quoted` are the keys whose value stands between quotes, `duplicates` those that were said
    twice in the same place.
    """

    path: Path
    syntax: Syntax
    text: str
    tree: Mapping[str, Any]
    spans: Mapping[str, Span]
    quoted: frozenset[str] = frozenset()
    duplicates: Sequence[str] = ()

    def line(self, key: str) -> int | None:
        """The line of a key, counted from 1."""
        span = self.spans.get(key)
        return None if span is None else self.text.count("\n", 0, span.key) + 1


def load(path: Path) -> Document:
    """Read a configuration file; raises InputError for one that cannot be read."""
    if path.suffix.lower() in PICKLES:
        raise InputError(
            f"{path}: is a pickle, which can run code when it is read; give the trainer's YAML, or "
            "write the arguments out with args.to_json_string()"
        )
    with file_errors(path):
        if path.is_dir():
            raise InputError(f"{path}: is a folder; give a configuration file")
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise InputError(f"{path}: is larger than {LARGEST >> 10} KiB, so it is no configuration")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not text (byte {error.start}); known: {KNOWN}") from error
    return parse(path, text.replace("\r\n", "\n"))


def parse(path: Path, text: str) -> Document:
    """The document that a text is; `path` names it in messages and tells its syntax."""
    if not text.strip():
        raise InputError(f"{path}: is empty; known: {KNOWN}")
    if "\0" in text:
        raise InputError(f"{path}: is not text; known: {KNOWN}")
    default: Syntax = "json" if text.lstrip().startswith("{") else "yaml"
    syntax = SUFFIXES.get(path.suffix.lower(), default)
    made = {"yaml": _yaml, "json": _json, "toml": _toml}[syntax](path, text)
    if not made.tree:
        raise InputError(f"{path}: says nothing; known: {KNOWN}")
    return made


def _toml(path: Path, text: str) -> Document:
    try:
        tree = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"{path}: not TOML ({error})") from error
    return Document(path=path, syntax="toml", text=text, tree=tree, spans=of_toml(text))


def _json(path: Path, text: str) -> Document:
    twice: list[str] = []

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in items]
        twice.extend(sorted({name for name in names if names.count(name) > 1}))
        return dict(items)

    try:
        tree = json.loads(text, object_pairs_hook=pairs)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({error})") from error
    _require_mapping(path, tree)
    # JSON is YAML but for tabs, which only stand between its tokens.
    found = _composed(path, text.replace("\t", " "))
    spans = {} if found is None else found.spans
    return Document(path=path, syntax="json", text=text, tree=tree, spans=spans, duplicates=twice)


def _composed(path: Path, text: str) -> Any:
    """Where the values of a JSON text stand; None where the YAML reader is missing or refuses."""
    try:
        from glmdiag.configs import yamltree

        return yamltree.read(path, text, deepest=DEEPEST, most=MOST_VALUES)
    except (ImportError, InputError):
        return None


def _yaml(path: Path, text: str) -> Document:
    try:
        from glmdiag.configs import yamltree
    except ImportError as error:
        raise InputError(f"{path}: reading YAML needs PyYAML; pip install pyyaml") from error
    found = yamltree.read(path, text, deepest=DEEPEST, most=MOST_VALUES)
    _require_mapping(path, found.tree)
    return Document(
        path=path,
        syntax="yaml",
        text=text,
        tree=found.tree,
        spans=found.spans,
        quoted=frozenset(found.quoted),
        duplicates=found.duplicates,
    )


def _require_mapping(path: Path, tree: Any) -> None:
    if not isinstance(tree, dict):
        kind = type(tree).__name__
        raise InputError(f"{path}: is a {kind}, not keys with values; known: {KNOWN}")
