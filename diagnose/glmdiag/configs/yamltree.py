"""YAML as plain values with their places; only what safe loading knows, and within limits.

YAML 1.1, which PyYAML reads, takes `5e-4` for text. The trainers here read it as a number all
the same (by YAML 1.2, by OmegaConf, or by converting it), so that is done here too, unless it is
quoted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from glmprep.errors import InputError, first_line

from glmdiag.configs.spans import Span

EXPONENT = re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$")
MERGE = "tag:yaml.org,2002:merge"


@dataclass(slots=True)
class Reading:
    """What was read of a text, filled while it is walked through."""

    path: Path
    deepest: int
    most: int
    tree: Any = None
    spans: dict[str, Span] = field(default_factory=dict)
    quoted: set[str] = field(default_factory=set)
    duplicates: list[str] = field(default_factory=list)
    values: int = 0


def read(path: Path, text: str, *, deepest: int, most: int) -> Reading:
    """Read a text; raises InputError for what is no YAML, or beyond the limits."""
    reading = Reading(path=path, deepest=deepest, most=most)
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        reading.tree = None if node is None else _value(reading, node, "", 0)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = f"line {mark.line + 1}: " if mark is not None else ""
        raise InputError(f"{path}: not YAML ({line}{error.problem})") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else first_line(error)
        raise InputError(f"{path}: not YAML ({reason})") from error
    return reading


def _value(reading: Reading, node: yaml.Node, key: str, depth: int) -> Any:
    reading.values += 1
    if depth > reading.deepest:
        raise InputError(f"{reading.path}: nested deeper than {reading.deepest} levels")
    if reading.values > reading.most:
        raise InputError(f"{reading.path}: holds more than {reading.most} values")
    if isinstance(node, yaml.MappingNode):
        return _mapping(reading, node, key, depth)
    if isinstance(node, yaml.SequenceNode):
        items = enumerate(node.value)
        return [_value(reading, item, f"{key}.{n}", depth + 1) for n, item in items]
    return _scalar(reading, node, key)


def _mapping(reading: Reading, node: yaml.MappingNode, key: str, depth: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    merged: dict[str, Any] = {}
    for name_node, value_node in node.value:
        name = str(name_node.value)
        path = f"{key}.{name}" if key else name
        value = _value(reading, value_node, path, depth + 1)
        if name_node.tag == MERGE and isinstance(value, dict):
            merged |= value
            continue
        if name in found:
            reading.duplicates.append(path)
        marks = (name_node.start_mark, value_node.start_mark, value_node.end_mark)
        reading.spans[path] = Span(*(mark.index for mark in marks))
        found[name] = value
    return {**merged, **found}


def _scalar(reading: Reading, node: yaml.Node, key: str) -> Any:
    if node.style in ("'", '"'):
        reading.quoted.add(key)
        return str(node.value)
    if node.tag == "tag:yaml.org,2002:str" and EXPONENT.match(node.value):
        return float(node.value)
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_object(node)
    finally:
        loader.dispose()
