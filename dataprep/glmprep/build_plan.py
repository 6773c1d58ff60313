"""A recipe to a plan: the settings of its tables as the commands' options come to them."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from glmprep.bucket import Config, Layout
from glmprep.build import WORK, Plan, Stage
from glmprep.cutting import ContextName, Cutting, OnOverflow, SegmenterName, asked_for
from glmprep.errors import UsageError
from glmprep.families import Thinking
from glmprep.merging.asking import asked_for as merging_for
from glmprep.merging.collecting import Collector as Merged
from glmprep.merging.stage import MergeBlocks
from glmprep.merging.stage import stamp as merge_stamp
from glmprep.options import ENGINES, FAMILIES
from glmprep.order import Kind
from glmprep.parting import Parted, Parting
from glmprep.recipe import ENCODERS, SHARDS, VALIDATION, Merge, Recipe, Segment, Split
from glmprep.records import ROLES
from glmprep.segment import Segmented
from glmprep.segmenting import SegmentBlocks, stamp
from glmprep.source import TRAIN_ON, Source
from glmprep.splitting import SplitBlocks
from glmprep.store import Folder
from glmprep.tokenizing import Named
from glmprep.workers import input_bytes

MERGED, TRAIN, SEGMENTS = "merged.jsonl", "train.jsonl", "segments.jsonl"
HELD_OUT, HELD_OUT_SEGMENTS = "validation.jsonl", "validation-segments.jsonl"


def plan(recipe: Recipe) -> Plan:
    """What a recipe asks for; raises UsageError for a value that no command takes."""
    shards = recipe.shards
    _require("shards.layout", shards.layout, get_args(Layout))
    _require("shards.order", shards.order, get_args(Kind))
    source = _source(recipe)
    tokenizing = _tokenizing(recipe, input_bytes(source.paths))
    folder = Path(recipe.path(recipe.output.folder))
    layout: Any = shards.layout
    order: Any = shards.order
    made = Plan(
        source=source,
        tokenizing=tokenizing,
        stages=[],
        config=Config(
            layout=layout,
            max_length=shards.max_length,
            tokens_per_batch=shards.tokens_per_batch,
            buckets=shards.buckets,
            order=order,
            mixing=shards.mixing,
            seed=shards.seed,
        ),
        folder=folder,
        shards=folder / SHARDS,
    )
    return _with_stages(recipe, made)


def _with_stages(recipe: Recipe, made: Plan) -> Plan:
    """A plan with the stages that a recipe has tables for, each on what the one before it wrote.

    What is held out goes through those that come after it was parted in a plan of its own.
    """
    source, folder = made.source, made.folder
    stages: list[Stage] = []
    validation = None
    if recipe.merge is not None:
        stages.append(_merging(recipe, recipe.merge, source, made.tokenizing, folder))
        source = Source(paths=[str(stages[-1].output)])
    if recipe.split is not None:
        parting = _parting(recipe.split, folder)
        stages.append(_splitting(parting, source, made.work))
        source, held_out = (Source(paths=[str(output)]) for output in parting.outputs)
        validation = replace(
            made,
            source=held_out,
            stages=_segmenting(recipe, held_out, made.tokenizing, folder / HELD_OUT_SEGMENTS),
            shards=folder / VALIDATION,
        )
    stages += _segmenting(recipe, source, made.tokenizing, folder / SEGMENTS)
    return replace(made, stages=stages, validation=validation)


def _source(recipe: Recipe) -> Source:
    data = recipe.data
    _require("data.train_on", data.train_on, TRAIN_ON)
    _require("data.take", data.take, ("", "chosen"))
    for role, meant in data.roles.items():
        _require(f"data.roles.{role}", meant, sorted(ROLES))
    train_on: Any = data.train_on
    return Source(
        paths=[recipe.path(path) for path in data.paths],
        roles=data.roles,
        take="chosen" if data.take else None,
        repair=data.repair,
        train_on=train_on,
    )


def _tokenizing(recipe: Recipe, text_bytes: int) -> Named:
    asked = recipe.tokenizer
    _require("tokenizer.family", asked.family, FAMILIES)
    _require("tokenizer.engine", asked.engine, ENGINES)
    _require("tokenizer.thinking", asked.thinking, get_args(Thinking))
    thinking: Any = asked.thinking
    return Named(
        tokenizer="glm4" if asked.path == "glm4" else recipe.path(asked.path),
        family=asked.family,
        template=Path(recipe.path(asked.template)) if asked.template else None,
        thinking=thinking,
        engine=asked.engine,
        text_bytes=text_bytes,
        add=tuple(asked.add_tokens),
    )


def _merging(
    recipe: Recipe, asked: Merge, source: Source, tokenizing: Named, folder: Path
) -> Stage:
    phrases = Path(recipe.path(asked.phrases)) if asked.phrases else None
    merging = merging_for(
        trim=",".join(asked.trim),
        trim_answers=asked.trim_answers,
        phrases=phrases,
        merge_turns=asked.merge_turns,
        threshold=asked.threshold,
        groups=asked.groups,
        encoder=_encoder(recipe, asked.encoder),
    )
    output, store = folder / MERGED, Folder(folder / WORK)
    return Stage(
        name="merge",
        work=MergeBlocks(
            source=source,
            tokenizing=tokenizing,
            merging=merging,
            store=store,
            stamp=merge_stamp(source, tokenizing, merging),
            output=str(output),
        ),
        output=output,
        collector=lambda files: Merged(
            source, output, files=files, store=store, alike=merging.groups
        ),
        passed=lambda result: (result.rows, result.after.rows),
        whole=merging.groups is not None,
    )


def _parting(asked: Split, folder: Path) -> Parting:
    return Parting(
        training=folder / TRAIN,
        validation=folder / HELD_OUT,
        share=asked.validation,
        seed=asked.seed,
    )


def _splitting(parting: Parting, source: Source, store: Folder) -> Stage:
    output = parting.training
    return Stage(
        name="split",
        work=SplitBlocks(source=source, store=store, output=str(output)),
        output=output,
        collector=lambda files: nullcontext(
            Parted(parting, store=store, files=files, source=source)
        ),
        passed=lambda result: (result.rows, result.training.rows),
        whole=True,
    )


def _segmenting(recipe: Recipe, source: Source, tokenizing: Named, output: Path) -> list[Stage]:
    """The stage that a recipe asks for, or none."""
    if recipe.segment is None:
        return []
    cutting = _cutting(recipe, recipe.segment)
    store = Folder(output.parent / WORK)
    stage = Stage(
        name="segment",
        work=SegmentBlocks(
            source=source,
            tokenizing=tokenizing,
            cutting=cutting,
            store=store,
            stamp=stamp(source, tokenizing, cutting),
            output=str(output),
        ),
        output=output,
        collector=lambda files: nullcontext(
            Segmented(output, store=store, files=files, source=source, cutting=cutting)
        ),
        passed=lambda result: (result.counts.rows, result.counts.whole + result.counts.segments),
    )
    return [stage]


def _cutting(recipe: Recipe, asked: Segment) -> Cutting:
    choices = {"segmenter": SegmenterName, "context": ContextName, "on_overflow": OnOverflow}
    chosen: dict[str, Any] = {name: getattr(asked, name) for name in choices}
    for name, kind in choices.items():
        _require(f"segment.{name}", chosen[name], get_args(kind))
    numbers = {"overlap": asked.overlap, "context_tokens": asked.context_tokens}
    given: dict[str, Any] = {name: x for name, x in numbers.items() if x is not None}
    if asked.encoder != "none":
        given["encoder"] = _encoder(recipe, asked.encoder)
    if asked.notes:
        given["notes"] = Path(recipe.path(asked.notes))
    return asked_for(given, max_length=recipe.shards.max_length, **chosen)


def _encoder(recipe: Recipe, name: str) -> str:
    return name if name in ENCODERS else recipe.path(name)


def _require(key: str, value: str, known: Any) -> None:
    if value not in known:
        choices = ", ".join(repr(one) for one in known if one)
        raise UsageError(f"{key} = {value!r}: must be one of {choices}")
