"""Conversations to shards: tokenize, arrange, write, and balance the ledger."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from glmprep import arrange, cutting
from glmprep.accounts import WRITTEN, Accounts
from glmprep.entries import names
from glmprep.errors import InputError, UsageError
from glmprep.families import Family
from glmprep.files import write_atomically
from glmprep.findings import Finding
from glmprep.intake import Intake
from glmprep.labels import ranges
from glmprep.ledger import Ledger
from glmprep.mending import REPAIRS
from glmprep.read import REJECTS
from glmprep.records import Rejection
from glmprep.shards import MANIFEST, Manifest, Rows, ShardWriter
from glmprep.sized import require_room
from glmprep.source import Source
from glmprep.spool import Spool
from glmprep.stream import reject_lines
from glmprep.tokenizer import Tokenizer, describe

Layout = Literal["buckets", "packed"]
TOKENS_PER_FILE = 4 << 20
Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What decides the bytes of the shards, beside the input and the tokenizer."""

    layout: Layout = "buckets"
    max_length: int = 8192
    tokens_per_batch: int = 0
    buckets: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
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
    padding: float

    def as_json(self) -> dict[str, Any]:
        """The sums as plain JSON values."""
        manifest = self.manifest
        return {
            "layout": manifest.layout,
            "rows": sum(int(entry["rows"]) for entry in manifest.files),
            "conversations": self.ledger.written.rows,
            "tokens": self.ledger.written.tokens,
            "supervised_tokens": self.ledger.written.supervised,
            "padding": self.padding,
            "buckets": list(manifest.buckets),
            "ledger": self.ledger.as_json(),
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
    output: Path,
    *,
    family: Family,
    tokenizer: Tokenizer,
    config: Config,
    family_settings: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Result:
    """Write shards of all sound conversations of `source` into the folder `output`.

    `family_settings` say how the family was asked for (see `reread.family_settings`).
    Raises InputError when no conversation is left, UsageError for a limit that nothing fits in.
    """
    require_room(config.max_length, family)
    intake = Intake(source, family=family, special_tokens=list(tokenizer.added))
    cut = cutting.common(intake.files)
    accounts = Accounts(intake, family=family, tokenizer=tokenizer, max_length=config.max_length)
    writer = ShardWriter(output, overwrite=overwrite)
    with Spool(output) as spool:
        for tokens, kept in accounts.batches():
            spool.append(tokens, kept)
        rejects = reject_lines(intake.rejections)
        lengths = spool.close()
        if not len(lengths):
            if not (output / MANIFEST).exists():  # else the list there belongs to earlier shards
                write_atomically(output / REJECTS, rejects)
            raise InputError(intake.nothing_left(max_length=config.max_length))
        plan = arrange_rows(lengths, config)
        lines = accounts.entries.table()
        for rows in _gathered(spool, plan, lengths, _written_ids(lines)):
            writer.write(rows)
    writer.write_ledger(_placed(lines, plan))
    write_atomically(output / REJECTS, rejects)
    if source.repair:
        write_atomically(output / REPAIRS, intake.mending.ledger())
    padded = int(plan.bucket.sum())
    manifest = writer.finish(
        tokenizer=describe(tokenizer),
        family=family.name,
        layout=config.layout,
        max_length=config.max_length,
        tokens_per_batch=config.batch_tokens,
        vocab_size=tokenizer.vocab_size,
        pad_id=family.pad_id,
        stop_ids=sorted(family.stops),
        added_tokens=[],
        buckets=_bucket_sizes(plan),
        seed=config.seed,
        config={
            **asdict(config),
            **source.settings(),
            "family": family_settings,
            "cutting": cut.as_json() if cut else None,
        },
        inputs=names(intake.files),
        ledger=accounts.ledger.as_json(),
    )
    return Result(
        manifest=manifest,
        ledger=accounts.ledger,
        rejections=intake.rejections,
        findings=intake.findings(max_length=config.max_length),
        padding=1 - int(lengths.sum()) / padded,
    )


def arrange_rows(lengths: Int64, config: Config) -> arrange.Plan:
    """The plan of the rows that the configuration asks for."""
    if config.layout == "packed":
        return arrange.packed(lengths, capacity=config.max_length, seed=config.seed)
    return arrange.bucketed(
        lengths, buckets=config.buckets, max_length=config.max_length, seed=config.seed
    )


def _written_ids(lines: pa.Table) -> pa.Array:
    """The ids of the conversations in the spool, in its order."""
    written = pc.equal(lines.column("outcome"), WRITTEN)
    return lines.column("conversation").filter(written).combine_chunks()


def _placed(lines: pa.Table, plan: arrange.Plan) -> pa.Table:
    """The ledger's lines with the place of each conversation that was written."""
    written = pc.equal(lines.column("outcome"), WRITTEN).to_numpy()
    sizes = np.diff(plan.offsets)
    places = {
        "shard_row": np.repeat(np.arange(len(plan)), sizes),
        "segment": ranges(np.zeros_like(sizes), sizes),
    }
    for name, place in places.items():
        column = np.zeros(len(lines), np.int64)
        column[np.flatnonzero(written)[plan.members]] = place
        lines = lines.append_column(name, pa.array(column, mask=~written))
    return lines


def _gathered(spool: Spool, plan: arrange.Plan, lengths: Int64, ids: pa.Array) -> Iterator[Rows]:
    """The planned rows, a file's worth at a time."""
    row_tokens = np.add.reduceat(lengths[plan.members], plan.offsets[:-1])
    file_of = (np.cumsum(row_tokens) - row_tokens) // TOKENS_PER_FILE
    for file in np.unique(file_of):
        chosen = np.flatnonzero(file_of == file)
        first, last = chosen[0], chosen[-1] + 1
        bounds = plan.offsets[first : last + 1]
        members = plan.members[bounds[0] : bounds[-1]]
        sizes = lengths[members]
        input_ids, loss_mask = spool.gather(members)
        inner = ranges(np.zeros(last - first, np.int64), np.diff(bounds))
        names = ids.take(pa.array(members)).to_pylist()
        yield Rows(
            input_ids=input_ids,
            loss_mask=loss_mask,
            position_ids=ranges(np.zeros_like(sizes), sizes).astype(np.int32),
            segment_ids=np.repeat(inner, sizes).astype(np.int32),
            offsets=np.concatenate(([0], np.cumsum(row_tokens[first:last]))),
            bucket=plan.bucket[first:last].astype(np.int32),
            conversation_ids=[names[a:b] for a, b in pairwise((bounds - bounds[0]).tolist())],
        )


def _bucket_sizes(plan: arrange.Plan) -> list[dict[str, int]]:
    edges, counts = np.unique(plan.bucket, return_counts=True)
    return [
        {"length": int(edge), "rows": int(count)} for edge, count in zip(edges, counts, strict=True)
    ]
