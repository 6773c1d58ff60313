"""What a recipe says for this data, model and machine, and why: plain arithmetic, no trial."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from glmreport.text import Text

from glmprep.cost import BUCKETS, costs
from glmprep.lengths import covering
from glmprep.machine import Machine
from glmprep.memory import ADAPTER, lora_bytes
from glmprep.model import Model
from glmprep.options import OVERLAP
from glmprep.shape import GLM4_9B, Shape
from glmprep.survey import Survey

Value: TypeAlias = bool | int | float | str | Sequence[str] | dict[str, str]
COVERED = 0.99
"""The share of conversations that a limit should leave whole."""
STEP = 256
"""Limits are multiples of so many tokens."""
RANK = 16
"""The rank of adapters that `glmtrain run` uses unless told otherwise."""
USABLE = 0.9
"""The share of a card's memory that is reckoned with: its driver and gaps take the rest."""
ROWS_A_BATCH = 8
MAX_REJECTS = 0.05
HELD_OUT = 0.05
FP32 = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One setting and why it is as it is; one that is `off` stands in the recipe as a comment."""

    table: str
    key: str
    value: Value
    why: Text | None = None
    off: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """The longest row: `bound` says what set it: the data, the model's window, or memory."""

    tokens: int
    bound: str
    covering: int
    window: int | None
    room: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """All choices in the order of the recipe, and the numbers that they come from."""

    choices: Sequence[Choice]
    limit: Limit
    precision: str
    width: int
    memory: int

    def of(self, table: str) -> list[Choice]:
        """The choices of one table."""
        return [choice for choice in self.choices if choice.table == table]

    def value(self, table: str, key: str) -> Value:
        """What was chosen for a setting."""
        return next(choice.value for choice in self.of(table) if choice.key == key)

    @property
    def tables(self) -> list[str]:
        """The tables in their order."""
        return list(dict.fromkeys(choice.table for choice in self.choices))


def propose(survey: Survey, machine: Machine, model: Model) -> Proposal:
    """Choose every setting of a recipe."""
    precision, width = _precision(machine)
    memory = min((card.memory for card in machine.cards), default=machine.memory)
    limit = _limit(survey, model, room(model.shape, int(memory * USABLE), width))
    choices = [
        *_data(survey),
        *_tokenizer(survey, model),
        *_merge(),
        *_split(),
        *_segment(survey, limit),
        *_shards(survey, machine, model, limit),
        *_output(survey),
        *_train(machine, model, limit, precision, width, memory),
    ]
    return Proposal(choices=choices, limit=limit, precision=precision, width=width, memory=memory)


def room(shape: Shape | None, memory: int, width: int) -> int | None:
    """The tokens of the largest batch of LoRA that fits, in steps; None for an unknown shape."""
    if shape is None:
        return None
    low, high = 0, 1 << 14
    while low < high:
        middle = (low + high + 1) // 2
        fits = lora_bytes(shape, middle * STEP, RANK, width) <= memory
        low, high = (middle, high) if fits else (low, middle - 1)
    return low * STEP


def _precision(machine: Machine) -> tuple[str, int]:
    """The number format and its bytes."""
    if not machine.cards:
        return "fp32", FP32
    return ("bf16", 2) if all(card.bf16 for card in machine.cards) else ("fp16", 2)


def _limit(survey: Survey, model: Model, room: int | None) -> Limit:
    """What covers the data, unless window or memory forbid; memory for no row says nothing."""
    wanted = covering(survey.lengths, COVERED, STEP)
    bounds = {"data": wanted}
    if model.window is not None:
        bounds["window"] = model.window
    if room:
        bounds["memory"] = room
    bound = min(bounds, key=lambda name: bounds[name])
    return Limit(tokens=bounds[bound], bound=bound, covering=wanted, window=model.window, room=room)


def _data(survey: Survey) -> Iterator[Choice]:
    source, seen = survey.source, survey.seen
    kind = "whole" if seen.whole else "part" if seen.total else "head"
    looked = Text(
        f"prep.init.why.looked.{kind}",
        rows=len(seen.rows),
        total=seen.total or 0,
        files=seen.files,
        size=seen.size,
    )
    yield Choice(table="data", key="paths", value=list(source.paths), why=looked)
    yield Choice(
        table="data",
        key="roles",
        value=dict(source.roles) or {"client": "user"},
        why=_why_roles(survey),
        off=not source.roles,
    )
    yield Choice(table="data", key="repair", value=source.repair, why=_why_repair(survey))
    why = Text("prep.init.why.train_on", tokens=survey.supervised)
    yield Choice(table="data", key="train_on", value=source.train_on, why=why)
    if source.take is not None:
        why = Text("prep.init.why.take", rows=survey.preferred)
        yield Choice(table="data", key="take", value=source.take, why=why)


def _why_roles(survey: Survey) -> Text:
    if survey.unknown:
        return Text("prep.init.why.roles.unknown", names=", ".join(survey.unknown[:5]))
    if survey.guessed:
        return Text("prep.init.why.roles.guessed", names=", ".join(sorted(survey.guessed)))
    return Text(f"prep.init.why.roles.{'named' if survey.source.roles else 'none'}")


def _why_repair(survey: Survey) -> Text:
    if not survey.repaired:
        return Text("prep.init.why.repair.none", rejected=sum(survey.rejected.values()))
    return Text(
        "prep.init.why.repair.some",
        mended=survey.mended,
        rules=", ".join(f"{rule} {count}" for rule, count in survey.repaired.items()),
        before=sum(survey.unmended.values()),
        after=sum(survey.rejected.values()),
    )


def _tokenizer(survey: Survey, model: Model) -> Iterator[Choice]:
    kind = "embedded" if model.tokenizer == "glm4" else "own"
    why = Text(f"prep.init.why.tokenizer.{kind}", model=model.name)
    yield Choice(table="tokenizer", key="path", value=model.tokenizer, why=why)
    yield Choice(table="tokenizer", key="family", value="auto", why=Text("prep.init.why.family"))
    why = Text("prep.init.why.thinking", share=survey.reasoning / survey.conversations)
    yield Choice(table="tokenizer", key="thinking", value="on", why=why)
    yield Choice(table="tokenizer", key="engine", value="auto", why=Text("prep.init.why.engine"))


def _merge() -> Iterator[Choice]:
    why = Text("prep.init.why.merge")
    yield Choice(table="merge", key="trim", value=["all"], why=why, off=True)
    yield Choice(table="merge", key="merge_turns", value=False, off=True)


def _split() -> Iterator[Choice]:
    why = Text("prep.init.why.split")
    yield Choice(table="split", key="validation", value=HELD_OUT, why=why, off=True)
    yield Choice(table="split", key="seed", value=0, off=True)


def _segment(survey: Survey, limit: Limit) -> Iterator[Choice]:
    share = survey.longer(limit.tokens)
    off = not share and survey.seen.whole
    why = Text(
        f"prep.init.why.segment.{'some' if share else 'none' if off else 'unseen'}",
        share=share,
        tokens=limit.tokens,
        longest=int(survey.lengths.max()),
    )
    settings: dict[str, Value] = {
        "segmenter": "greedy",
        "overlap": OVERLAP,
        "context": "overlap",
        "on_overflow": "split",
    }
    for place, (key, value) in enumerate(settings.items()):
        yield Choice(table="segment", key=key, value=value, why=None if place else why, off=off)


def _shards(survey: Survey, machine: Machine, model: Model, limit: Limit) -> Iterator[Choice]:
    [cost] = costs(survey.lengths, [limit.tokens], model.shape or GLM4_9B)
    layout = "packed" if machine.cards else "buckets"
    why = Text(f"prep.init.why.layout.{layout}", padding=cost.padding, buckets=BUCKETS)
    yield Choice(table="shards", key="layout", value=layout, why=why)
    yield Choice(
        table="shards", key="max_length", value=limit.tokens, why=_why_limit(survey, limit)
    )
    budget, why = _batch(machine, limit)
    yield Choice(table="shards", key="tokens_per_batch", value=budget, why=why)
    yield Choice(table="shards", key="buckets", value=BUCKETS)
    yield Choice(table="shards", key="order", value="shuffled")
    yield Choice(table="shards", key="seed", value=0)


def _why_limit(survey: Survey, limit: Limit) -> Text:
    p50, p95, p99 = np.quantile(survey.lengths, [0.5, 0.95, 0.99], method="higher").tolist()
    return Text(
        f"prep.init.why.limit.{limit.bound}",
        p50=int(p50),
        p95=int(p95),
        p99=int(p99),
        longest=int(survey.lengths.max()),
        whole=1 - survey.longer(limit.tokens),
        covering=limit.covering,
        tokens=limit.tokens,
    )


def _batch(machine: Machine, limit: Limit) -> tuple[int, Text]:
    """A batch of as many of the longest rows as fit, doubled up to some; one without a card."""
    rows = 1
    if machine.cards and limit.room:
        while rows < ROWS_A_BATCH and 2 * rows * limit.tokens <= limit.room:
            rows *= 2
    kind = "none" if not machine.cards else "room" if limit.room else "unknown"
    why = Text(f"prep.init.why.batch.{kind}", rows=rows, room=limit.room or 0)
    return rows * limit.tokens, why


def _output(survey: Survey) -> Iterator[Choice]:
    yield Choice(table="output", key="folder", value="build", why=Text("prep.init.why.folder"))
    yield Choice(table="output", key="report", value="report.html")
    rejected = sum(survey.rejected.values())
    share = rejected / max(1, len(survey.seen.rows))
    why = Text(
        f"prep.init.why.max_rejects.{'many' if share > MAX_REJECTS else 'few'}",
        share=share,
        rules=", ".join(f"{rule} {count}" for rule, count in survey.rejected.items()),
    )
    yield Choice(table="output", key="max_rejects", value=MAX_REJECTS, why=why)


def _train(
    machine: Machine, model: Model, limit: Limit, precision: str, width: int, memory: int
) -> Iterator[Choice]:
    yield Choice(table="train", key="model.path", value=model.spec)
    why = _why_method(model, limit, width, memory)
    yield Choice(table="train", key="model.method", value="lora", why=why)
    if machine.cards:
        yield Choice(table="train", key="model.gradient_checkpointing", value=True)
    kind = precision if machine.cards else "none"
    why = Text(
        f"prep.init.why.precision.{kind}",
        cards=", ".join(dict.fromkeys(card.name for card in machine.cards)),
        cores=machine.cores,
    )
    yield Choice(table="train", key="precision.dtype", value=precision, why=why)


def _why_method(model: Model, limit: Limit, width: int, memory: int) -> Text:
    if model.shape is None:
        return Text("prep.init.why.method.experts", model=model.name)
    return Text(
        f"prep.init.why.method.{'fits' if limit.room else 'too_large'}",
        model=model.name,
        tokens=limit.tokens,
        need=lora_bytes(model.shape, limit.tokens, RANK, width),
        weights=width * model.shape.parameters,
        full=ADAPTER * model.shape.parameters,
        memory=memory,
        rank=RANK,
    )
