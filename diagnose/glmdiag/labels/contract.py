"""At which tokens whoever serves the model ends generation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glmprep.console import file_errors
from glmprep.errors import InputError, UsageError, first_line

FILES = ("generation_config.json", "config.json")
"""What names the ends of generation, the first of them that says it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """The ids at which generation ends, and who says so."""

    ids: Sequence[int]
    where: str


def served(told: str | None, model: Path | None) -> Served | None:
    """The ends of generation from `--stop-ids`, or from a model's folder; None where unknown.

    `told` is a list of ids with commas, or a JSON file: a generation_config.json, or a request or
    configuration with `stop_token_ids`. Raises UsageError and InputError for what is neither.
    """
    if told is not None:
        path = Path(told)
        return _from_file(path) if path.suffix == ".json" else _from_list(told)
    if model is None:
        return None
    for path in (model / name for name in FILES):
        if path.is_file() and (found := _ids(_read(path))):
            return Served(ids=found, where=path.name)
    return None


def embeddings(model: Path) -> int | None:
    """Rows of a model's embeddings as its config.json says, None where it does not."""
    path = model / FILES[-1]
    size = _read(path).get("vocab_size") if path.is_file() else None
    return size if isinstance(size, int) and size > 0 else None


def _from_list(told: str) -> Served:
    try:
        ids = [int(part) for part in told.split(",")]
    except ValueError as error:
        raise UsageError(
            f"--stop-ids {told[:60]}: give ids with commas, as 151329,151336,151338, "
            "or a JSON file that names them"
        ) from error
    return Served(ids=ids, where="--stop-ids")


def _from_file(path: Path) -> Served:
    found = _ids(_read(path))
    if not found:
        raise InputError(f"{path}: names no eos_token_id and no stop_token_ids")
    return Served(ids=found, where=path.name)


def _ids(value: dict[str, Any]) -> list[int]:
    for name in ("stop_token_ids", "eos_token_id"):
        said = value.get(name)
        listed = said if isinstance(said, list) else [said]
        ids = [one for one in listed if isinstance(one, int) and not isinstance(one, bool)]
        if ids:
            return ids
    return []


def _read(path: Path) -> dict[str, Any]:
    with file_errors(path):
        text = path.read_bytes()
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({first_line(error)})") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: not a JSON object")
    return value
