"""Conversations to shards: tokenize, arrange, write, and balance the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from glmprep import arrange, cutting, entries, read
from glmprep.accounts import Accounts
from glmprep.blocks import blocks
from glmprep.edges import Lengths
from glmprep.efficiency import Efficiency, efficiency
from glmprep.engines import Engine
from glmprep.engines.local import Serial
from glmprep.errors import InputError, UsageError
from glmprep.findings import Finding
from glmprep.gather import Gather, shard_files
from glmprep.labels import ranges
from glmprep.ledger import Ledger
from glmprep.mending import REPAIRS
from glmprep.order import Kind, Order
from glmprep.read import REJECTS
from glmprep.records import Rejection
from glmprep.seen import reject_lines
from glmprep.shards import PASSING, Manifest, ShardWriter
from glmprep.sized import require_room
from glmprep.source import Source
from glmprep.store import Store
from glmprep.tokenizer import describe
from glmprep.tokenizing import Tokenizing
from glmprep.units import Tokenize, stamp

Layout = Literal["buckets", "packed"]
Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What decides the bytes of the shards, beside the input and the tokenizer."""

    layout: Layout = "buckets"
    max_length: int = 8192
    tokens_per_batch: int = 0
    buckets: int = 8
    order: Kind = "shuffled"
    mixing: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        Order(kind=self.order, mixing=self.mixing)
        if self.buckets < 1:
            raise UsageError(f"--buckets {self.buckets}: at least 1")
        if 0 < self.tokens_per_batch < self.max_length:
            raise UsageError(
                f"--tokens-per-batch {self.tokens_per_batch} is less than --max-length "
                f"{self.max_length}, so a longest row would fit in no batch"
            )

    @property
    def batch_tokens(self) -> int:
        """Tokens of one batch, padding included."""
        return self.tokens_per_batch or self.max_length


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What was written, what was not, and why."""

    manifest: Manifest
    ledger: Ledger
    rejections: Sequence[Rejection]
    findings: Sequence[Finding]
    efficiency: Efficiency
    notes: Sequence[str] = ()

    def as_json(self) -> dict[str, Any]:
        """The sums as plain JSON values."""
        manifest = self.manifest
        return {
            "layout": manifest.layout,
            "rows": sum(int(entry["rows"]) for entry in manifest.files),
            "conversations": self.ledger.written.rows,
            "tokens": self.ledger.written.tokens,
            "supervised_tokens": self.ledger.written.supervised,
            **self.efficiency.as_json(),
            "buckets": list(manifest.buckets),
            "ledger": self.ledger.as_json(),
            "notes": list(self.notes),
            "files": list(manifest.files),
        }

    @property
    def left_out(self) -> int:
        """Rows read of which a part or all is not in the shards."""
        return len({str(rejection.origin) for rejection in self.rejections})

    @property
    def reject_share(self) -> float:
        """Share of the rows read of which a part or all is not in the shards."""
        return self.left_out / max(1, self.ledger.read)


def bucket(
    source: Source,
    output: Store,
    *,
    tokenizing: Tokenizing,
    config: Config,
    engine: Engine | None = None,
    overwrite: bool = False,
) -> Result:
    """Write shards of all sound conversations of `source` into the store `output`.

    `engine` runs the work, in this process for None. Raises InputError when no conversation is
    left, UsageError for a limit that nothing fits in and where another run writes.
    """
    require_room(config.max_length, tokenizing.load()[1])
    files = read.files(source.paths)
    names = [file.path for file in files]
    cut = cutting.common(names)
    engine = engine or Serial()
    with output.locked():
        writer = ShardWriter(output, overwrite=overwrite)
        output.delete(PASSING)  # of a run that was killed
        units = output.below(PASSING)
        try:
            accounts = Accounts(units, names, source.paths, max_length=config.max_length)
            work = Tokenize(
                source=source, tokenizing=tokenizing, store=units, stamp=stamp(source, tokenizing)
            )
            for unit in engine.map(work, blocks(files)):
                accounts.add(unit)
            return write_shards(
                accounts,
                writer,
                engine=engine,
                tokenizing=tokenizing,
                config=config,
                settings={**source.settings(), "cutting": cut.as_json() if cut else None},
            )
        finally:
            output.delete(PASSING)


def write_shards(
    accounts: Accounts,
    writer: ShardWriter,
    *,
    engine: Engine,
    tokenizing: Tokenizing,
    config: Config,
    settings: Mapping[str, Any],
) -> Result:
    """Arrange and write what `accounts` keep; `settings` say how it was read, for the manifest.

    Raises InputError when no conversation is left.
    """
    tokenizer, family = tokenizing.load()
    accounts.ledger.require_balance()
    rejects = [reject_lines(accounts.seen.rejections)]
    kept = accounts.kept()
    if not len(kept.lengths):
        if not writer.is_complete:  # else the list there belongs to earlier shards
            writer.store.write(REJECTS, rejects)
        raise InputError(accounts.seen.nothing_left(max_length=config.max_length))
    plan = arrange_rows(kept.lengths, config)
    writer.begin()
    written = list(engine.map(Gather(accounts.store, writer.store), shard_files(plan, kept)))
    ledger_file = writer.write_ledger(accounts.lines(*_places(plan)))
    writer.store.write(REJECTS, rejects)
    if settings["repair"]:
        writer.store.write(REPAIRS, accounts.mended())
    manifest = Manifest(
        tokenizer=describe(tokenizer),
        family=family.name,
        layout=config.layout,
        max_length=config.max_length,
        tokens_per_batch=config.batch_tokens,
        vocab_size=tokenizer.vocab_size,
        pad_id=family.pad_id,
        stop_ids=sorted(family.stops),
        added_tokens=[*tokenizer.new],
        added_descriptions=tokenizer.descriptions,
        buckets=_bucket_sizes(plan, kept.lengths),
        seed=config.seed,
        config={**asdict(config), **settings, "family": tokenizing.settings()},
        inputs=entries.names(accounts.files),
        ledger=accounts.ledger.as_json(),
        files=written,
        ledger_file=ledger_file,
    )
    writer.finish(manifest)
    return Result(
        manifest=manifest,
        ledger=accounts.ledger,
        rejections=accounts.seen.rejections,
        findings=accounts.seen.findings(max_length=config.max_length),
        efficiency=efficiency(
            plan,
            kept.lengths,
            supervised=accounts.ledger.written.supervised,
            replayed=accounts.ledger.written.untrained_context,
        ),
        notes=[*accounts.notes],
    )


def arrange_rows(lengths: Lengths, config: Config) -> arrange.Plan:
    """The plan of the rows that the configuration asks for."""
    if config.layout == "packed":
        return arrange.packed(lengths, capacity=config.max_length, seed=config.seed)
    return arrange.bucketed(
        lengths,
        buckets=config.buckets,
        max_length=config.max_length,
        seed=config.seed,
        tokens=config.batch_tokens,
        order=Order(kind=config.order, mixing=config.mixing),
    )


def _places(plan: arrange.Plan) -> tuple[Int64, Int64]:
    """For each conversation of a plan the row that holds it, and which one in the row it is."""
    sizes = np.diff(plan.offsets)
    shard_row, segment = np.empty((2, len(plan.members)), np.int64)
    shard_row[plan.members] = np.repeat(np.arange(len(plan)), sizes)
    segment[plan.members] = ranges(np.zeros_like(sizes), sizes)
    return shard_row, segment


def _bucket_sizes(plan: arrange.Plan, lengths: Lengths) -> list[dict[str, int]]:
    """For each padded length its rows, and their tokens without padding."""
    edges, bucket = np.unique(plan.bucket, return_inverse=True)
    row_tokens = np.add.reduceat(lengths[plan.members], plan.offsets[:-1], dtype=np.int64)
    rows, tokens = np.bincount(bucket), np.bincount(bucket, row_tokens)
    return [
        {"length": int(edge), "rows": int(rows[place]), "tokens": int(tokens[place])}
        for place, edge in enumerate(edges)
    ]
