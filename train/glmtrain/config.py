"""The settings of a training run: one TOML file, overrides from the command line, nothing hidden.

A setting that is None is derived later, from the method, the model and the shards (see `plan`).
"""

from __future__ import annotations

import difflib
import json
import tomllib
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

from glmprep.errors import InputError, UsageError

METHODS = ("lora", "full")
PLANNED_METHODS = ("qlora", "ptuning")
ALL_LINEAR = "all-linear"

DType: TypeAlias = Literal["auto", "bf16", "fp16", "fp32"]
Settings: TypeAlias = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What is trained and how."""

    path: str = "tiny"
    method: str = "lora"
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        if self.method in PLANNED_METHODS:
            raise UsageError(
                f"method {self.method} is not available in this version; use {' or '.join(METHODS)}"
            )
        _check(self.method in METHODS, f"model.method is one of {', '.join(METHODS)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """Which shards, and how many tokens go into one batch and one optimiser step."""

    shards: tuple[str, ...] = ()
    tokens_per_batch: int | None = None
    accumulate: int = 1

    def __post_init__(self) -> None:
        _check(self.tokens_per_batch is None or self.tokens_per_batch > 0, "data.tokens_per_batch")
        _check(self.accumulate > 0, "data.accumulate is at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimiser:
    """AdamW; `max_grad_norm = 0` turns clipping off."""

    learning_rate: float | None = None
    weight_decay: float | None = None
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    max_grad_norm: float = 1.0

    def __post_init__(self) -> None:
        _check(self.learning_rate is None or self.learning_rate > 0, "optimiser.learning_rate > 0")
        _check(self.weight_decay is None or self.weight_decay >= 0, "optimiser.weight_decay >= 0")
        _check(0 <= self.beta1 < 1 and 0 <= self.beta2 < 1, "0 <= optimiser.beta1, beta2 < 1")
        _check(self.epsilon > 0, "optimiser.epsilon > 0")
        _check(self.max_grad_norm >= 0, "optimiser.max_grad_norm >= 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Linear warm-up over a share of the steps, then decay to `final` times the learning rate."""

    decay: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: float = 0.05
    final: float = 0.1

    def __post_init__(self) -> None:
        _check(0 <= self.warmup < 1, "0 <= schedule.warmup < 1")
        _check(0 <= self.final <= 1, "0 <= schedule.final <= 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lora:
    """Low-rank adapters; `alpha` is twice the rank where it is not given."""

    rank: int = 16
    alpha: float | None = None
    dropout: float = 0.0
    target_modules: tuple[str, ...] = (ALL_LINEAR,)

    def __post_init__(self) -> None:
        _check(self.rank > 0, "lora.rank is at least 1")
        _check(self.alpha is None or self.alpha > 0, "lora.alpha > 0")
        _check(0 <= self.dropout < 1, "0 <= lora.dropout < 1")
        _check(len(self.target_modules) > 0, "lora.target_modules names at least one module")


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """The number format of the forward and backward pass; `auto` asks the hardware."""

    dtype: DType = "auto"
    initial_loss_scale: float = 65536.0

    def __post_init__(self) -> None:
        _check(self.initial_loss_scale >= 1, "precision.initial_loss_scale is at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How long, where to, and what is kept.

    The run ends after `max_steps` optimiser steps or `epochs` passes, whichever comes first.
    `save_every = 0` saves at the end only.
    """

    output: str = "run"
    seed: int = 42
    max_steps: int | None = None
    epochs: int | None = None
    save_every: int = 0
    keep_checkpoints: int = 2
    sample_tokens: int = 1024

    def __post_init__(self) -> None:
        _check(self.max_steps is None or self.max_steps > 0, "run.max_steps is at least 1")
        _check(self.epochs is None or self.epochs > 0, "run.epochs is at least 1")
        _check(0 <= self.seed < 2**32, "0 <= run.seed < 2**32")
        _check(self.save_every >= 0, "run.save_every >= 0")
        _check(self.keep_checkpoints > 0, "run.keep_checkpoints is at least 1")
        _check(self.sample_tokens > 0, "run.sample_tokens is at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All settings of a run."""

    model: Model = field(default_factory=Model)
    data: Data = field(default_factory=Data)
    optimiser: Optimiser = field(default_factory=Optimiser)
    schedule: Schedule = field(default_factory=Schedule)
    lora: Lora = field(default_factory=Lora)
    precision: Precision = field(default_factory=Precision)
    run: Run = field(default_factory=Run)


def read_toml(path: Path) -> Settings:
    """The tables of a settings file; raises InputError where it is missing or not TOML."""
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not TOML ({error})") from error


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
        _check(value in arguments, f"{name} is one of {', '.join(arguments)}, not {value!r}")
        return value
    if origin is tuple:
        listed = isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)
        _check(listed, f'{name} is a list of strings, such as ["a", "b"], not {value!r}')
        return tuple(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    _check(type(value) is hint, f"{name} is of type {hint.__name__}, not {value!r}")
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


def _check(holds: bool, rule: str) -> None:
    if not holds:
        raise UsageError(rule if " " in rule else f"{rule} is out of range")
