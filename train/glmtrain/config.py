"""Where settings come from: one TOML file, overrides from the command line, nothing hidden."""

from __future__ import annotations

import difflib
import json
import tomllib
import types
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

from glmprep import recipe
from glmprep.errors import InputError, UsageError

from glmtrain.settings import Config

Settings: TypeAlias = Mapping[str, Mapping[str, Any]]
RECIPES_OWN = {recipe.TRAINING, "shards", "output", "tokenizer"}
"""Tables by which a recipe is told from settings of training alone."""


def read_toml(path: Path) -> Settings:
    """The tables of a settings file; raises InputError where it is missing or not TOML."""
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not TOML ({error})") from error


def from_file(path: Path) -> Settings:
    """The settings of a file of their own, or of the table [train] in a recipe of glmprep.

    A recipe also says where its shards are, and those to validate on if it holds some out.
    """
    found = read_toml(path)
    if not found.keys() & RECIPES_OWN:
        return found
    asked = recipe.load(path)
    folder = Path(asked.path(asked.output.folder))
    places: dict[str, Any] = {"shards": [str(folder / recipe.SHARDS)]}
    if asked.split is not None:
        places["validation"] = str(folder / recipe.VALIDATION)
    trained = found.get(recipe.TRAINING, {})
    return {**trained, "data": {**places, **trained.get("data", {})}}


def parse(text: str) -> Settings:
    """`section.key=value`, the value as in TOML or else a plain string."""
    name, equals, value = text.partition("=")
    section, dot, key = name.strip().partition(".")
    if not (equals and dot and section and key):
        raise UsageError(f"--set {text}: write SECTION.KEY=VALUE, such as lora.dropout=0.1")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value
    return {section: {key: parsed}}


def build(layers: Sequence[tuple[str, Settings]]) -> Config:
    """The configuration from layers of settings, later ones above earlier; each has a name.

    Raises UsageError for an unknown key, naming the nearest valid one, and for a wrong value.
    """
    merged: dict[str, dict[str, Any]] = {}
    for source, settings in layers:
        for section, values in settings.items():
            for key, value in _checked_section(source, section, values).items():
                merged.setdefault(section, {})[key] = value
    sections = {name: kind(**merged.get(name, {})) for name, kind in _sections().items()}
    return Config(**sections)


def to_toml(config: Config, notes: Sequence[str] = ()) -> str:
    """The configuration as TOML that `build` reads back to the same; settings left open are out."""
    lines = [f"# {note}" for note in notes]
    for section in fields(config):
        lines += ["", f"[{section.name}]"]
        values = as_dict(config)[section.name].items()
        lines += [f"{key} = {_toml(value)}" for key, value in values if value is not None]
    return "\n".join(lines).strip() + "\n"


def as_dict(config: Config) -> dict[str, dict[str, Any]]:
    """The configuration as plain tables."""
    return {
        section.name: {f.name: getattr(part, f.name) for f in fields(part)}
        for section in fields(config)
        if is_dataclass(part := getattr(config, section.name))
    }


def _sections() -> dict[str, type[Any]]:
    sections: dict[str, type[Any]] = get_type_hints(Config)
    return sections


def _checked_section(source: str, section: str, values: Any) -> dict[str, Any]:
    kind = _sections().get(section)
    if kind is None:
        raise UsageError(f"{source}: no section [{section}]{_nearest(section, _sections())}")
    if not isinstance(values, Mapping):
        raise UsageError(f"{source}: {section} is a section; write [{section}]")
    hints = get_type_hints(kind)
    checked = {}
    for key, value in values.items():
        if key not in hints:
            raise UsageError(f"{source}: no setting {section}.{key}{_nearest(key, hints)}")
        checked[key] = _converted(f"{source}: {section}.{key}", value, hints[key])
    return checked


def _converted(name: str, value: Any, hint: Any) -> Any:
    """`value` as the type that the field has; raises UsageError where it is of another one."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _converted(name, value, arguments[0])
    if origin is Literal:
        _require(value in arguments, f"{name} is one of {', '.join(arguments)}, not {value!r}")
        return value
    if origin is tuple:
        listed = isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)
        _require(listed, f'{name} is a list of strings, such as ["a", "b"], not {value!r}')
        return tuple(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    _require(type(value) is hint, f"{name} is of type {hint.__name__}, not {value!r}")
    return value


def _nearest(name: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else f"; there are {', '.join(known)}"


def _toml(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(_toml(item) for item in value)}]"
    if isinstance(value, str):
        # JSON escapes all that TOML forbids in a string, except DEL.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _require(holds: bool, rule: str) -> None:
    if not holds:
        raise UsageError(rule)
