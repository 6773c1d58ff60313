"""What a configuration of any trainer comes to: one record, and where each value was said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeAlias

Trainer: TypeAlias = Literal[
    "glmtrain", "official", "llamafactory", "axolotl", "swift", "transformers", "deepspeed"
]
Method: TypeAlias = Literal["lora", "qlora", "ptuning", "full", "other"]
Flag: TypeAlias = bool | Literal["auto"]
Auto: TypeAlias = Literal["auto"]
OddityKind: TypeAlias = Literal["unknown", "text", "value", "duplicate", "missing"]
OFFICIAL_EXTRA = 1
"""The official script keeps so many tokens more than its two limits make together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A value as it stands in a file; `key` is its dotted path, `line` None where not cheap."""

    file: Path
    key: str
    value: Any
    line: int | None = None

    def __str__(self) -> str:
        place = self.file.name if self.line is None else f"{self.file.name}:{self.line}"
        return f"{place} {self.key}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Oddity:
    """Something about a file that its trainer would not take, or not as it looks.

    unknown: no such key (`near` is one like it) · text: a number between quotes · value: not of the
    kind that the key has (`near` says which) · duplicate: said twice, the last holds · missing: a
    file that the configuration names (`near`) was not found.
    """

    kind: OddityKind
    said: Said
    near: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeepSpeed:
    """A DeepSpeed JSON; `tree` is all of it, the other values None where it does not say them."""

    file: Path | None
    tree: Mapping[str, Any]
    stage: int = 0
    bf16: Flag | None = None
    fp16: Flag | None = None
    loss_scale: float | None = None
    offload_optimizer: bool = False
    offload_param: bool = False
    clip: float | Auto | None = None
    batch_size: int | Auto | None = None
    accumulation: int | Auto | None = None
    train_batch_size: int | Auto | None = None
    learning_rate: float | Auto | None = None
    weight_decay: float | Auto | None = None
    optimizer: str | None = None
    scheduler: str | None = None
    schedule_steps: int | Auto | None = None
    gathers_on_save: bool | None = None

    @property
    def name(self) -> str:
        """How it is spoken of."""
        return "DeepSpeed" if self.file is None else self.file.name


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerConfig:
    """The settings of a run under any of the known trainers; None is what was not said.

    `weights` is the format that the model's weights are loaded in, `pure` whether those that learn
    stay in half precision too. `warmup_steps` below 1 is a share, as in transformers 5. A limit in
    tokens is `max_length`, or the official pair of `max_input_length` and `max_output_length`.
    `last_answer_only` trains a conversation's last answer alone. `targets` are LoRA's layers.
    Rows that come `in_order` are not shuffled.
    `adapter` is one that training goes on from, `adapter_base` the model that it names as its own.
    """

    trainer: Trainer
    sources: Sequence[Path]
    defaults: Mapping[str, Any]
    said: Mapping[str, Said] = field(default_factory=dict)
    oddities: Sequence[Oddity] = ()
    deepspeed: DeepSpeed | None = None
    model: str | None = None
    adapter: str | None = None
    method: Method | None = None
    bf16: Flag | None = None
    fp16: Flag | None = None
    weights: str | None = None
    pure: bool | None = None
    quantisation: int | None = None
    learning_rate: float | None = None
    schedule: str | None = None
    warmup_steps: float | None = None
    warmup_ratio: float | None = None
    optimizer: str | None = None
    weight_decay: float | None = None
    max_grad_norm: float | None = None
    batch_size: int | None = None
    accumulation: int | None = None
    tokens_per_batch: int | None = None
    epochs: float | None = None
    max_steps: int | None = None
    max_length: int | None = None
    max_input_length: int | None = None
    max_output_length: int | None = None
    packing: bool | None = None
    group_by_length: bool | None = None
    in_order: bool | None = None
    train_on_prompt: bool | None = None
    last_answer_only: bool | None = None
    template: str | None = None
    stop_tokens: Sequence[str] | None = None
    checkpointing: bool | None = None
    empty_cache_steps: int | None = None
    nan_filter: bool | None = None
    rank: int | None = None
    alpha: float | None = None
    dropout: float | None = None
    rslora: bool | None = None
    targets: Sequence[str] | None = None
    prefix_tokens: int | None = None
    save_strategy: str | None = None
    save_steps: float | None = None
    eval_strategy: str | None = None
    eval_steps: float | None = None
    load_best: bool | None = None
    generates: bool | None = None
    find_unused: bool | None = None
    workers: int | None = None
    resume: str | None = None
    adapter_base: str | None = None

    def default(self, name: str) -> Any:
        """What the trainer takes where a setting is not said; None where that is not known."""
        value = self.defaults.get(name)
        return value(self) if callable(value) else value

    def effective(self, name: str) -> Any:
        """A setting as the run has it: what was said, else the trainer's default."""
        value = getattr(self, name)
        return self.default(name) if value is None else value

    def where(self, *names: str) -> str:
        """Where the first of these settings that was said stands; the files for none."""
        found = next((self.said[name] for name in names if name in self.said), None)
        return str(found) if found is not None else ", ".join(path.name for path in self.sources)

    def key(self, name: str) -> str:
        """A setting as the file calls it; our own name where it was not said."""
        return self.said[name].key if name in self.said else name

    @property
    def limit(self) -> int | None:
        """Tokens at which the trainer cuts a row, or leaves it out."""
        first, second = self.effective("max_input_length"), self.effective("max_output_length")
        if first is not None and second is not None:
            return int(first + second + OFFICIAL_EXTRA)
        found = self.effective("max_length")
        return None if found is None else int(found)

    @property
    def rows_per_step(self) -> int | None:
        """Rows of an optimiser step on one device; None where batches are made by tokens."""
        rows, times = self.effective("batch_size"), self.effective("accumulation")
        return None if rows is None else int(rows * (times or 1))

    @property
    def warmup(self) -> float:
        """Warm-up: so many steps, or a share of all below 1; 0 for none."""
        steps = self.effective("warmup_steps") or 0.0
        ratio = self.warmup_ratio if self.warmup_ratio is not None else 0.0
        if not steps and self.warmup_ratio is None and self.warmup_steps is None:
            ratio = self.default("warmup_ratio") or 0.0
        return float(steps or ratio)

    def as_json(self) -> dict[str, Any]:
        """What was said and what holds, as plain JSON values."""
        named = {f.name for f in fields(self)} - _NOT_SETTINGS
        settings = {
            name: {
                "said": _plain(getattr(self, name)),
                "effective": _plain(self.effective(name)),
                "where": str(self.said[name]) if name in self.said else None,
            }
            for name in sorted(named)
            if self.effective(name) is not None
        }
        return {
            "trainer": self.trainer,
            "sources": [str(path) for path in self.sources],
            "settings": settings,
            "deepspeed": None if self.deepspeed is None else _plain(dict(self.deepspeed.tree)),
        }


_NOT_SETTINGS = {"trainer", "sources", "defaults", "said", "oddities", "deepspeed"}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
