"""Records read back from the JSON that a command wrote, with every value checked."""

from __future__ import annotations

import math
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from glmprep.errors import InputError

Record = TypeVar("Record")


def build(kind: type[Record], value: object, where: str) -> Record:
    """A record of this kind from plain values; keys that it does not know are passed over.

    Raises InputError for a value of another type and for one that is missing, with its place.
    """
    if not isinstance(value, dict):
        raise InputError(f"{where}: an object is expected here")
    hints = get_type_hints(kind)
    found = {}
    for field in fields(kind):  # type: ignore[arg-type]
        inside = f"{where}.{field.name}"
        if field.name in value:
            found[field.name] = _value(hints[field.name], value[field.name], inside)
        elif field.default is MISSING and field.default_factory is MISSING:
            raise InputError(f"{inside} is missing")
    return kind(**found)


def _value(kind: Any, value: object, where: str) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return None if value is None else _value(arguments[0], value, where)
    if origin is Sequence and isinstance(value, (list, tuple)):
        return [_value(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value)]
    if origin is Mapping and isinstance(value, dict):
        return {str(k): _value(arguments[1], v, f"{where}.{k}") for k, v in value.items()}
    if origin is Literal and value in arguments:
        return value
    if is_dataclass(kind) and isinstance(kind, type):
        return build(kind, value, where)
    if kind is float and (value is None or type(value) in (int, float)):
        return math.inf if value is None else float(value)  # type: ignore[arg-type]
    if kind in (int, str, bool) and type(value) is kind:
        return value
    raise InputError(f"{where}: {str(value)[:40]!r} is not what is expected here")
