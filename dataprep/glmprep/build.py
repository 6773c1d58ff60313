"""A whole run from a recipe: merge, split, segment, tokenize and arrange, in units that are kept.

    FOLDER/merged.jsonl                      what merging left, where the recipe asks for it
    FOLDER/train.jsonl, validation.jsonl     what splitting parted, where the recipe asks for it
    FOLDER/segments.jsonl, validation-segments.jsonl  what segmenting wrote of the two
    FOLDER/shards, validation                the shards of the two
    FOLDER/work                              what was made of each block, used by the next run
    FOLDER/build.json                        what it was built of (see `state`); written last

The outputs have the bytes that the commands write which do the same by hand.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from glmprep import cutting, read, state
from glmprep.accounts import Accounts
from glmprep.blocks import blocks
from glmprep.bucket import Config, write_shards
from glmprep.built import Done, Made, Result
from glmprep.chain import Chain, Chained
from glmprep.engines import Engine
from glmprep.errors import InputError
from glmprep.gather import NOTE
from glmprep.read import DataFile
from glmprep.shards import ShardWriter
from glmprep.sized import require_room
from glmprep.source import Source
from glmprep.store import Folder
from glmprep.texts import Text, TextStage
from glmprep.tokenizing import Named
from glmprep.units import Tokenize, stamp

WORK = "work"


class Collector(Protocol):
    """Writes what a stage that makes text made, in order, and sums it up."""

    def add(self, text: Text, before: int) -> None:
        """Take in what was made of the next block, whose lines stand behind so many more."""

    def finish(self) -> Any:
        """Write what is written at the end; the stage's result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A stage that makes text: its name, its work, the file that it writes, and who writes it.

    `collector` is made for the files that the stage reads; `passed` tells of its result how many
    rows came in and how many went out; `whole` says that no other stage can begin before it ended.
    """

    name: str
    work: TextStage
    output: Path
    collector: Callable[[Sequence[str]], AbstractContextManager[Collector]]
    passed: Callable[[Any], tuple[int, int]]
    whole: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a recipe comes to. `stages` are those that make text, in order; `shards` is a folder.

    `validation` is the plan for what a stage of this one holds out.
    """

    source: Source
    tokenizing: Named
    stages: Sequence[Stage]
    config: Config
    folder: Path
    shards: Path
    validation: Plan | None = None

    @property
    def work(self) -> Folder:
        """Where units are kept."""
        return Folder(self.folder / WORK)

    def chain(self) -> Chain:
        """The work on one block."""
        source = self.tokenized if self.stages else self.source
        tokens = Tokenize(
            source=source,
            tokenizing=self.tokenizing,
            store=self.work,
            stamp=stamp(source, self.tokenizing),
        )
        return Chain([stage.work for stage in self.stages], tokens)

    @property
    def tokenized(self) -> Source:
        """What the shards are made of: the last stage's output, or the data."""
        if not self.stages:
            return self.source
        return Source(paths=[str(self.stages[-1].output)])


def build(plan: Plan, engine: Engine, *, progress: Callable[[int, int], None]) -> Result:
    """Make all that a plan says; what an earlier run made of the same blocks is used again.

    `progress` is told the bytes of input that are done and those there are. Raises InputError when
    no conversation is left or an input changes meanwhile, UsageError for a limit that nothing fits
    in.
    """
    begin = time.perf_counter()
    require_room(plan.config.max_length, plan.tokenizing.load()[1])
    before = state.inputs(read.files(plan.source.paths))
    used: set[str] = set()
    done, rest = _begun(plan, engine, used)
    total = state.total(before)
    runs: list[_Run] = []

    def tell(size: int) -> None:
        progress(sum(run.bytes for run in runs) + size, total)

    for part in (rest, rest.validation):
        if part is not None:
            runs.append(_run(part, engine, tell))
    if state.inputs(read.files(plan.source.paths)) != before:
        raise InputError(f"{plan.folder}: an input changed while it was read; run again")
    training, *others = runs
    result = Result(
        training=training.made(engine, done),
        validation=others[0].made(engine) if others else None,
        blocks=sum(run.blocks for run in runs),
        kept=sum(run.kept for run in runs),
        input_bytes=total,
        seconds=time.perf_counter() - begin,
    )
    _prune(plan.work, used.union(*(run.used for run in runs)))
    return result


def _begun(plan: Plan, engine: Engine, used: set[str]) -> tuple[dict[str, Done], Plan]:
    """The work of the stages up to the last that is whole, and the plan of what comes after."""
    first = max([at for at, stage in enumerate(plan.stages, 1) if stage.whole], default=0)
    done: dict[str, Done] = {}
    source = plan.source
    for stage in plan.stages[:first]:
        done[stage.name] = _alone(stage, read.files(source.paths), engine, used)
        source = Source(paths=[str(stage.output)])
    return done, replace(plan, source=source, stages=plan.stages[first:])


def _alone(stage: Stage, files: Sequence[DataFile], engine: Engine, used: set[str]) -> Done:
    """The work of one stage, whose output is whole before another begins."""
    with stage.collector([file.path for file in files]) as collector:
        for text in engine.map(stage.work.text, blocks(files)):
            collector.add(text, 0)
            used.add(text.name)
        return _finished(stage, collector)


def _run(plan: Plan, engine: Engine, progress: Callable[[int], None]) -> _Run:
    """The work on all blocks, up to the shards; `progress` is told the bytes that are done."""
    files = read.files(plan.source.paths)
    with ExitStack() as stack:
        run = _Run(plan, [file.path for file in files], stack)
        for made in engine.map(plan.chain(), blocks(files)):
            run.add(made)
            progress(run.bytes)
        run.finish()
    return run


class _Run:
    """Takes in what was made of block after block."""

    def __init__(self, plan: Plan, files: Sequence[str], stack: ExitStack) -> None:
        self._plan = plan
        self._collectors: list[Collector] = []
        for stage in plan.stages:
            self._collectors.append(stack.enter_context(stage.collector(files)))
            files = [str(stage.output)]
        self._accounts = Accounts(
            plan.work, files, plan.tokenized.paths, max_length=plan.config.max_length
        )
        self._done: dict[str, Done] = {}
        self.blocks = self.kept = self.bytes = 0
        self.used: set[str] = set()
        self._lines = [0] * len(plan.stages)

    def add(self, made: Chained) -> None:
        """Take in the next block's."""
        before = 0
        for place, (text, collector) in enumerate(zip(made.texts, self._collectors, strict=True)):
            collector.add(text, before)
            before = self._lines[place]
            self._lines[place] += text.lines
        self._accounts.add(made.unit, before)
        self.blocks += 1
        self.kept += made.kept
        self.bytes += made.size
        self.used |= {made.unit.name, *(text.name for text in made.texts)}

    def finish(self) -> None:
        """Write what the stages write at the end."""
        for stage, collector in zip(self._plan.stages, self._collectors, strict=True):
            self._done[stage.name] = _finished(stage, collector)

    def made(self, engine: Engine, before: Mapping[str, Done] | None = None) -> Made:
        """Write the shards; `before` is what stages did before this run."""
        plan = self._plan
        cut = cutting.common(plan.tokenized.paths)
        shards = write_shards(
            self._accounts,
            ShardWriter(Folder(plan.shards), overwrite=True),
            engine=engine,
            tokenizing=plan.tokenizing,
            config=plan.config,
            settings={**plan.tokenized.settings(), "cutting": cut.as_json() if cut else None},
        )
        return Made(stages={**(before or {}), **self._done}, shards=shards)


def _finished(stage: Stage, collector: Collector) -> Done:
    """What a stage did, when all that it writes at the end is written."""
    result = collector.finish()
    came, went = stage.passed(result)
    return Done(result=result, came=came, went=went)


def _prune(work: Folder, used: set[str]) -> None:
    """Remove what was made of other data or by other settings, and what was not finished."""
    for name in work.names():
        stem, _, kind = name.partition(".")
        if name.endswith(".tmp") or (stem not in used and kind != NOTE):
            work.delete(name)
