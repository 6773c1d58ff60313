"""What is made of one block: its rows, checked and tokenized, in two files of a store.

    NAME.tokens  row after row: ids (int32, little-endian), loss mask (uint8), the digest of both,
                 and the id of the conversation (UTF-8)
    NAME.rows    a digest of what follows, and an Arrow file: a line for each row (see COLUMNS), and
                 in its metadata what the pass saw; written last, so that it vouches for the other

No limit is applied yet, so that other limits need no new tokens. NAME is a digest of the block and
of all that decides what is made of it; a unit that is there is not made again.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from glmprep import __version__
from glmprep.blocks import Block
from glmprep.entries import DIGEST_BYTES, digests, places
from glmprep.intake import Batch, Intake
from glmprep.labels import TokenBatch, open_ends, tokenize
from glmprep.ledger import NUMBERS, Turns
from glmprep.measured import measure, turns
from glmprep.source import Source
from glmprep.store import Store
from glmprep.tokenizing import Tokenizing

FORMAT = "glmprep-unit/1"
ID_BYTES = 4
TOKEN_BYTES = ID_BYTES + 1
"""An id, and an id with its mask."""
COLUMNS = pa.schema(
    [
        ("line", pa.int64()),
        ("row", pa.int32()),
        ("conversation", pa.string()),
        *((name, pa.int32()) for name in NUMBERS),
        ("digest", pa.binary(DIGEST_BYTES)),
        ("open_ends", pa.int32()),
        ("record", pa.int32()),
    ]
)
"""A row's place in its file, its id, the ledger's numbers, the digest of its ids and mask, trained
runs that no stop token ends, and the bytes of its record among the tokens."""

Int32 = npt.NDArray[np.int32]
UInt8 = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """What is known of a unit without its files: some numbers of each row (int32), and no text.

    `numbers` are those of the ledger, `records` the bytes of each record; `place` is the input
    file's; `seen` is what the pass over the block saw (see `Seen.as_json`), `sound` what it made
    rows of; `notes` what the tokenizer says; `kept` says that it was there from an earlier run.
    """

    kept: bool
    name: str
    place: int
    numbers: Mapping[str, Int32]
    open_ends: Int32
    records: Int32
    seen: Mapping[str, Any]
    sound: Turns
    notes: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokenize:
    """The work of making units: call it with a block.

    `stamp` stands for all beside the block that decides what is made. Without `keep_tokens` only
    the lines are kept, for a proof.
    """

    source: Source
    tokenizing: Tokenizing
    store: Store
    stamp: str
    keep_tokens: bool = True

    def __call__(self, block: Block) -> Unit:
        """The unit of a block, made or found."""
        name = self.name(block)
        found = read_rows(self.store, name, tokens=self.keep_tokens)
        table = self._make(block, name) if found is None else found
        return _unit(name, block, table, kept=found is not None)

    def name(self, block: Block) -> str:
        """What the block's unit is called."""
        return digest_of(FORMAT, self.stamp, *block.named())

    def _make(self, block: Block, name: str) -> pa.Table:
        tokenizer, family = self.tokenizing.load()
        special = list(tokenizer.added)
        # The names of what was read are those of the whole run, which its parent knows.
        source = replace(self.source, paths=())
        intake = Intake(source, family=family, special_tokens=special, given=block.rows())
        made = _Making(block=block, intake=intake, tokenizing=self.tokenizing)
        with few_collections():
            if self.keep_tokens:
                self.store.write(f"{name}.tokens", made.records())
            else:
                for _ in made.records():
                    pass
        table = made.table()
        write_rows(self.store, name, table)
        return table


def stamp(source: Source, tokenizing: Tokenizing) -> str:
    """What stands for the settings that decide what is made of a block."""
    tokenizer, family = tokenizing.load()
    made_by = [tokenizer.fingerprint, family.name, tokenizing.settings(), tokenizer.name]
    return digest_of(__version__, made_by, source.settings())


def digest_of(*parts: Any) -> str:
    """A digest of plain JSON values."""
    return blake2b(orjson.dumps(parts), digest_size=DIGEST_BYTES).hexdigest()


@contextmanager
def few_collections() -> Iterator[None]:
    """Puts the garbage collector off: rows are many objects and no cycles, so it looks in vain."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class _Making:
    """One pass over a block: gives the records of its rows, and their lines at the end."""

    def __init__(self, *, block: Block, intake: Intake, tokenizing: Tokenizing) -> None:
        self._path = block.file.path
        self._intake = intake
        self._tokenizer, self._family = tokenizing.load()
        self._sound = Turns()
        self._lines: list[pa.RecordBatch] = []
        self._bytes = 0

    def records(self) -> Iterator[bytes]:
        """The records of all rows, a batch at a time."""
        for batch in self._intake.batches():
            self._sound += turns(batch.conversations)
            if batch.rows:
                tokens = tokenize(batch.rows, self._family, self._tokenizer)
                names = [row.id.encode() for row in batch.rows]
                seals = digests(tokens.ids, tokens.mask, tokens.offsets)
                self._lines.append(self._described(batch, tokens, names, seals))
                data = _records(tokens, names, seals.to_pylist())
                self._bytes += len(data)
                yield data

    def table(self) -> pa.Table:
        """The lines of all rows, and what the pass saw."""
        known = {
            "bytes": self._bytes,
            "seen": self._intake.as_json(self._path),
            "sound": asdict(self._sound),
            "notes": self._tokenizer.notes,
            "mended": self._intake.mending.ledger().decode(),
        }
        schema = COLUMNS.with_metadata({"unit": orjson.dumps(known)})
        return pa.Table.from_batches(self._lines, COLUMNS).cast(schema)

    def _described(
        self, batch: Batch, tokens: TokenBatch, names: Sequence[bytes], seals: pa.Array
    ) -> pa.RecordBatch:
        name_bytes = np.fromiter(map(len, names), np.int64, len(names))
        columns: dict[str, Any] = {
            "line": [row.origin.line for row in batch.rows],
            "row": places(batch.row_of),
            "conversation": [row.id for row in batch.rows],
            **measure(batch.rows, tokens),
            "digest": seals,
            "open_ends": open_ends(tokens.ids, tokens.mask, tokens.offsets, self._family.stops),
            "record": tokens.lengths * TOKEN_BYTES + DIGEST_BYTES + name_bytes,
        }
        arrays = [pa.array(columns[each.name], each.type) for each in COLUMNS]
        return pa.RecordBatch.from_arrays(arrays, schema=COLUMNS)


def _records(tokens: TokenBatch, names: Sequence[bytes], seals: Sequence[bytes]) -> bytes:
    """The records of a batch, one after the other."""
    ids = tokens.ids.astype("<i4", copy=False).data.cast("B")
    mask = tokens.mask.data.cast("B")
    bounds = tokens.offsets.tolist()
    parts: list[memoryview | bytes] = []
    for row, (seal, name) in enumerate(zip(seals, names, strict=True)):
        begin, end = bounds[row], bounds[row + 1]
        parts += (ids[ID_BYTES * begin : ID_BYTES * end], mask[begin:end], seal, name)
    return b"".join(parts)


@dataclass(frozen=True, slots=True)
class Record:
    """One row as it was made."""

    ids: bytes
    mask: bytes
    conversation: str


def record(data: bytes, length: int) -> Record:
    """The record of a row of so many tokens; raises ValueError for one that is not as it was."""
    after_ids, after_mask = ID_BYTES * length, TOKEN_BYTES * length
    after_seal = after_mask + DIGEST_BYTES
    seal = blake2b(data[:after_mask], digest_size=DIGEST_BYTES).digest()
    if seal != data[after_mask:after_seal]:
        raise ValueError("a record was changed or cut off")
    return Record(data[:after_ids], data[after_ids:after_mask], data[after_seal:].decode())


def write_rows(store: Store, name: str, table: pa.Table) -> None:
    """Write the lines of a unit, and their digest before them."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    data = sink.getvalue().to_pybytes()
    store.write(f"{name}.rows", [blake2b(data, digest_size=DIGEST_BYTES).digest(), data])


def read_rows(store: Store, name: str, *, tokens: bool = True) -> pa.Table | None:
    """The lines of a unit; None where they, or its `tokens`, are not there as they were written."""
    if store.size(f"{name}.rows") is None:
        return None
    data = store.read(f"{name}.rows")
    if blake2b(data[DIGEST_BYTES:], digest_size=DIGEST_BYTES).digest() != data[:DIGEST_BYTES]:
        return None
    table = pa.ipc.open_file(pa.py_buffer(data[DIGEST_BYTES:])).read_all()
    if tokens and store.size(f"{name}.tokens") != facts(table)["bytes"]:
        return None
    return table


def facts(table: pa.Table) -> dict[str, Any]:
    """What a unit's lines know of the whole unit."""
    found: dict[str, Any] = orjson.loads(table.schema.metadata[b"unit"])
    return found


def _unit(name: str, block: Block, table: pa.Table, *, kept: bool) -> Unit:
    known = facts(table)
    return Unit(
        kept=kept,
        name=name,
        place=block.place,
        numbers={each: _numbers(table, each) for each in NUMBERS},
        open_ends=_numbers(table, "open_ends"),
        records=_numbers(table, "record"),
        seen=known["seen"],
        sound=Turns(**known["sound"]),
        notes=known["notes"],
    )


def _numbers(table: pa.Table, name: str) -> Int32:
    found: Int32 = table.column(name).to_numpy()
    return found
