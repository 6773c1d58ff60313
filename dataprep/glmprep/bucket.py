"""Conversations to shards: tokenize, arrange, write, and balance the ledger."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from glmprep import arrange
from glmprep.errors import InputError, UsageError
from glmprep.families import Family
from glmprep.files import write_atomically
from glmprep.findings import Finding, Rule
from glmprep.intake import Intake, by_rule, reject_lines
from glmprep.labels import TokenBatch, open_ends, ranges, tokenize
from glmprep.ledger import Ledger, Sums
from glmprep.records import Conversation, Rejection
from glmprep.rules.lengths import no_labels, too_long
from glmprep.shards import Manifest, Rows, ShardWriter
from glmprep.sized import require_room
from glmprep.source import Source
from glmprep.spool import Spool
from glmprep.tokenizer import Tokenizer, describe

Layout = Literal["buckets", "packed"]
TOKENS_PER_FILE = 4 << 20
REJECTS = "rejects.jsonl"
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
    def reject_share(self) -> float:
        """Share of the rows read that are not in the shards."""
        return len(self.rejections) / max(1, self.ledger.read)


def bucket(
    source: Source,
    output: Path,
    *,
    family: Family,
    tokenizer: Tokenizer,
    config: Config,
    overwrite: bool = False,
) -> Result:
    """Write shards of all sound conversations of `source` into the folder `output`.

    Raises InputError when no conversation is left, UsageError for a limit that nothing fits in.
    """
    require_room(config.max_length, family)
    intake = Intake(source, family=family, special_tokens=list(tokenizer.added))
    ledger = Ledger()
    writer = ShardWriter(output, overwrite=overwrite)
    with Spool(output) as spool:
        ids = list(_tokenized(intake, spool, ledger, family, tokenizer, config.max_length))
        ledger.read = intake.rows
        write_atomically(output / REJECTS, reject_lines(intake.rejections))
        lengths = spool.close()
        if not ids:
            raise InputError(intake.nothing_left(max_length=config.max_length))
        plan = arrange_rows(lengths, config)
        for rows in _gathered(spool, plan, lengths, ids):
            writer.write(rows)
    unbalanced = ledger.differences()
    assert not unbalanced, f"the ledger does not balance: {unbalanced}"
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
        config={**asdict(config), **source.settings()},
        ledger=ledger.as_json(),
    )
    return Result(
        manifest=manifest,
        ledger=ledger,
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


def _tokenized(
    intake: Intake,
    spool: Spool,
    ledger: Ledger,
    family: Family,
    tokenizer: Tokenizer,
    max_length: int,
) -> Iterator[str]:
    """Tokenize all batches into the spool; yields the id of each conversation that is kept."""
    for batch in intake.batches():
        conversations = batch.rows
        if not conversations:
            continue
        tokens = tokenize(conversations, family, tokenizer)
        turns = np.fromiter((len(c.messages) for c in conversations), np.int64)
        long, bare = tokens.lengths > max_length, tokens.supervised == 0
        for rule, chosen in ((too_long, long), (no_labels, bare & ~long)):
            _set_aside(intake, ledger, rule, np.flatnonzero(chosen), conversations, tokens, turns)
        kept = np.flatnonzero(~long & ~bare)
        spool.append(tokens, kept)
        ledger.tokenized += _sums(np.arange(len(conversations)), tokens, turns)
        ledger.written += _sums(kept, tokens, turns)
        ends = open_ends(tokens.ids, tokens.mask, tokens.offsets, family.stops)
        ledger.open_ends += int(ends[kept].sum())
        yield from (conversations[row].id for row in kept.tolist())
    set_aside = sum(sums.rows for sums in ledger.set_aside.values())
    counts = by_rule(intake.rejections)
    ledger.rejected = {rule: n for rule, n in counts.items() if rule not in ledger.set_aside}
    assert sum(counts.values()) == set_aside + sum(ledger.rejected.values())


def _set_aside(
    intake: Intake,
    ledger: Ledger,
    rule: Rule[Any],
    rows: Int64,
    conversations: Sequence[Conversation],
    tokens: TokenBatch,
    turns: Int64,
) -> None:
    if not len(rows):
        return
    ledger.set_aside[rule.id] = ledger.set_aside.get(rule.id, Sums()) + _sums(rows, tokens, turns)
    for row in rows.tolist():
        conversation = conversations[row]
        intake.reject(
            Rejection(
                rule=rule.id,
                reason=f"{tokens.lengths[row]} tokens, {tokens.supervised[row]} of them trained",
                origin=conversation.origin,
                conversation=conversation.id,
            )
        )


def _sums(rows: Int64, tokens: TokenBatch, turns: Int64) -> Sums:
    return Sums(
        rows=len(rows),
        turns=int(turns[rows].sum()),
        tokens=int(tokens.lengths[rows].sum()),
        supervised=int(tokens.supervised[rows].sum()),
    )


def _gathered(
    spool: Spool, plan: arrange.Plan, lengths: Int64, ids: Sequence[str]
) -> Iterator[Rows]:
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
        yield Rows(
            input_ids=input_ids,
            loss_mask=loss_mask,
            position_ids=ranges(np.zeros_like(sizes), sizes).astype(np.int32),
            segment_ids=np.repeat(inner, sizes).astype(np.int32),
            offsets=np.concatenate(([0], np.cumsum(row_tokens[first:last]))),
            bucket=plan.bucket[first:last].astype(np.int32),
            conversation_ids=[
                [ids[item] for item in plan.members[a:b]] for a, b in pairwise(bounds.tolist())
            ],
        )


def _bucket_sizes(plan: arrange.Plan) -> list[dict[str, int]]:
    edges, counts = np.unique(plan.bucket, return_counts=True)
    return [
        {"length": int(edge), "rows": int(count)} for edge, count in zip(edges, counts, strict=True)
    ]
