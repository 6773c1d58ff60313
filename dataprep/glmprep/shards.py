"""A shard folder: Parquet files of training rows, a ledger, and `manifest.json`, written last.

A row is what the model sees at once: one conversation or segment, or several packed together.

    input_ids         list<int32>   token ids
    loss_mask         list<uint8>   1 where the token is a training target
    position_ids      list<int32>   from 0 within each segment
    segment_ids       list<int32>   which segment of the row, from 0
    bucket            int32         length to which a batch of this row's bucket is padded
    conversation_ids  list<string>  one per segment

`ledger.parquet` has a line for each row that was read (see `glmprep.entries`). The same rows give
the same bytes: writer settings are pinned and no time, path or worker enters.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from glmprep import entries
from glmprep.errors import IncompleteShards, InputError, UsageError, first_line
from glmprep.files import Hashing
from glmprep.labels import ranges
from glmprep.ledger import Ledger
from glmprep.mending import REPAIRS
from glmprep.read import REJECTS, SHARDS
from glmprep.store import Store
from glmprep.tokenizer import EMBEDDED, Tokenizer
from glmprep.tokenizer import load as load_tokenizer

FORMAT = "glmprep-shards/2"
MANIFEST = "manifest.json"
LEDGER = "ledger.parquet"
PASSING = "units.tmp"
"""Where units lie that are needed only until the shards are written."""
ROWS_PER_GROUP = 512
SCHEMA = pa.schema(
    [
        ("input_ids", pa.list_(pa.int32())),
        ("loss_mask", pa.list_(pa.uint8())),
        ("position_ids", pa.list_(pa.int32())),
        ("segment_ids", pa.list_(pa.int32())),
        ("bucket", pa.int32()),
        ("conversation_ids", pa.list_(pa.string())),
    ]
)
TOKEN_COLUMNS = ("input_ids", "loss_mask", "position_ids", "segment_ids")

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
UInt8 = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Training rows in columns: row r is `[offsets[r]:offsets[r + 1]]` of each token column."""

    input_ids: Int32
    loss_mask: UInt8
    position_ids: Int32
    segment_ids: Int32
    offsets: Int64
    bucket: Int32
    conversation_ids: Sequence[Sequence[str]]

    def __post_init__(self) -> None:
        tokens = int(self.offsets[-1])
        if any(len(getattr(self, name)) != tokens for name in TOKEN_COLUMNS):
            raise ValueError("token columns differ in length")
        if not len(self.offsets) - 1 == len(self.bucket) == len(self.conversation_ids):
            raise ValueError("row columns differ in length")
        if len(self) and int(self.lengths.min()) < 1:
            raise ValueError("a row without tokens")

    def __len__(self) -> int:
        return len(self.bucket)

    @property
    def lengths(self) -> Int64:
        """Tokens of each row."""
        return np.diff(self.offsets)

    @property
    def supervised(self) -> Int64:
        """Training targets of each row."""
        if not len(self):
            return np.zeros(0, np.int64)
        return np.add.reduceat(self.loss_mask, self.offsets[:-1], dtype=np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What `manifest.json` says; `files` has an object per Parquet file: name, rows, sums, sha256.

    `tokenizer` and `family` are fingerprints of what made the ids; `config` is the whole
    configuration; `inputs` the files that were read, without their folders; `ledger` the sums of
    the run (see `glmprep.ledger`), `ledger_file` what tells its lines, None where none were kept;
    `buckets` the padded lengths with their rows; `added_tokens` the texts that a trainer adds to
    the model as tokens, whose ids are the last of the `vocab_size`, and `added_descriptions` what
    those of them stand for that were described.
    """

    tokenizer: Mapping[str, Any]
    family: str
    layout: str
    max_length: int
    tokens_per_batch: int
    vocab_size: int
    pad_id: int
    stop_ids: Sequence[int]
    added_tokens: Sequence[str]
    buckets: Sequence[Mapping[str, int]]
    seed: int
    config: Mapping[str, Any]
    ledger: Mapping[str, Any]
    files: Sequence[Mapping[str, Any]]
    inputs: Sequence[str] = ()
    ledger_file: Mapping[str, Any] | None = None
    added_descriptions: Mapping[str, str] = field(default_factory=dict)
    format: str = FORMAT

    @property
    def added(self) -> dict[str, str]:
        """The added tokens with what they stand for, as `Tokenizer.adding` takes them."""
        return {text: self.added_descriptions.get(text, "") for text in self.added_tokens}

    @property
    def added_ids(self) -> dict[str, int]:
        """The ids of the added tokens."""
        first = self.vocab_size - len(self.added_tokens)
        return {text: first + place for place, text in enumerate(self.added_tokens)}

    @property
    def files_listed(self) -> Sequence[Mapping[str, Any]]:
        """All files with a checksum: those with rows, and the ledger."""
        return [*self.files, *([] if self.ledger_file is None else [self.ledger_file])]


class ShardWriter:
    """Makes a shard folder of `store`; it counts as complete only after `finish`.

    Earlier shards stay until `begin` is called, so that bad input costs nothing. Raises UsageError
    when the folder holds shards and `overwrite` is not set, or anything else.
    """

    def __init__(self, store: Store, *, overwrite: bool = False) -> None:
        self.store = store
        self._earlier = self._find_earlier(overwrite)

    @property
    def is_complete(self) -> bool:
        """Whether earlier shards lie there."""
        return MANIFEST in self._earlier

    def begin(self) -> None:
        """From here on the folder is not complete; what lies there is replaced."""
        self.store.delete(MANIFEST)

    def write_ledger(self, lines: Iterable[pa.Table]) -> dict[str, Any]:
        """Write the ledger's lines (see `glmprep.entries`); what the manifest says of the file."""
        with self.store.writing(LEDGER) as file:
            hashing = Hashing(file)
            rows = entries.write(lines, hashing)
        return {"name": LEDGER, "rows": rows, "sha256": hashing.sha256}

    def finish(self, manifest: Manifest) -> None:
        """Remove what an earlier run left, and write the manifest: the folder is complete."""
        kept = {str(entry["name"]) for entry in manifest.files_listed} | {REJECTS}
        if manifest.config.get("repair"):
            kept.add(REPAIRS)
        for name in self._earlier:
            if name not in kept:
                self.store.delete(name)
        self.store.write(MANIFEST, [orjson.dumps(asdict(manifest), option=_JSON_STYLE)])

    def _find_earlier(self, overwrite: bool) -> list[str]:
        """The files of an earlier run."""
        names = self.store.names()
        lists = (MANIFEST, LEDGER, REJECTS, REPAIRS)
        ours = [n for n in names if n in lists or fnmatch(n, SHARDS) or n.endswith(".tmp")]
        foreign = [name for name in names if name not in ours]
        if foreign:
            raise UsageError(f"{self.store}: holds {foreign[0]}; name an empty folder")
        if not overwrite and any(n == MANIFEST or fnmatch(n, SHARDS) for n in ours):
            raise UsageError(f"{self.store}: holds shards already; pass --overwrite")
        return [name for name in ours if name != PASSING]


def write_rows(store: Store, name: str, rows: Rows) -> dict[str, Any]:
    """Write one Parquet file with these rows; what the manifest says of it."""
    made = io.BytesIO()
    pq.write_table(
        _to_table(rows),
        made,
        row_group_size=ROWS_PER_GROUP,
        compression="zstd",
        compression_level=1,
        use_dictionary=["loss_mask", "segment_ids", "bucket"],
        column_encoding={
            "input_ids": "PLAIN",
            "position_ids": "DELTA_BINARY_PACKED",
            "conversation_ids": "PLAIN",
        },
        version="2.6",
        store_schema=False,
    )
    data = made.getvalue()
    store.write(name, [data])
    return {
        "name": name,
        "rows": len(rows),
        "tokens": int(rows.offsets[-1]),
        "supervised": int(rows.loss_mask.sum(dtype=np.int64)),
        "sha256": hashlib.sha256(data).hexdigest(),
    }


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a complete shard folder.

    Raises IncompleteShards without one, InputError for one that is not ours or not readable.
    """
    path = folder / MANIFEST
    if not folder.is_dir():
        raise InputError(f"{folder}: no such shard folder")
    if not path.exists():
        raise IncompleteShards(
            f"{folder}: no {MANIFEST}: not a shard folder, or its writing was not finished; "
            "run glmprep bucket again"
        )
    try:
        data = orjson.loads(path.read_bytes())
        found = data["format"]
        if found != FORMAT:
            raise InputError(
                f"{path}: format {found!r}, this version reads {FORMAT!r}; "
                "write the shards again with glmprep bucket"
            )
        manifest = Manifest(**data)
        _require_shape(manifest)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{path}: not a shard manifest ({error})") from error
    return manifest


def made_with(manifest: Manifest, spec: str | None) -> Tokenizer:
    """The tokenizer that made the shards, from `spec` (as in `tokenizer.load`) or embedded.

    Raises UsageError where that is another one.
    """
    vocabulary = load_tokenizer(spec or EMBEDDED).adding(manifest.added)
    if vocabulary.fingerprint != manifest.tokenizer["sha256"]:
        name = manifest.tokenizer["name"]
        raise UsageError(f"the shards were made with the tokenizer {name!r}; pass --tokenizer PATH")
    return vocabulary


def read_files(folder: Path, manifest: Manifest) -> Iterator[Rows]:
    """The rows of each file in order; raises InputError for one that is missing or damaged."""
    for entry in manifest.files:
        path = folder / str(entry["name"])
        try:
            rows = _from_table(pq.read_table(path, schema=SCHEMA))
        except (OSError, ValueError, pa.ArrowException) as error:
            reason = first_line(error)
            raise InputError(f"{path}: cannot be read as a shard ({reason})") from error
        yield rows


def read(folder: Path) -> tuple[Manifest, Rows]:
    """The manifest and all rows of a shard folder, in memory."""
    manifest = read_manifest(folder)
    return manifest, join(list(read_files(folder, manifest)))


def join(parts: Sequence[Rows]) -> Rows:
    """The rows of several parts as one; raises InputError for no parts."""
    if not parts:
        raise InputError("a shard folder without rows")
    lengths = np.concatenate([part.lengths for part in parts])
    columns = {n: np.concatenate([getattr(part, n) for part in parts]) for n in TOKEN_COLUMNS}
    return Rows(
        **columns,
        offsets=np.concatenate(([0], np.cumsum(lengths, dtype=np.int64))),
        bucket=np.concatenate([part.bucket for part in parts]),
        conversation_ids=[ids for part in parts for ids in part.conversation_ids],
    )


def take(rows: Rows, chosen: Int64) -> Rows:
    """These rows, in this order."""
    starts, lengths = rows.offsets[chosen], rows.lengths[chosen]
    places = ranges(starts, lengths)
    return Rows(
        **{name: getattr(rows, name)[places] for name in TOKEN_COLUMNS},
        offsets=np.concatenate(([0], np.cumsum(lengths))),
        bucket=rows.bucket[chosen],
        conversation_ids=[rows.conversation_ids[row] for row in chosen.tolist()],
    )


_JSON_STYLE = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE


def _require_shape(manifest: Manifest) -> None:
    """Raise TypeError, KeyError, ValueError or AttributeError for fields of another kind."""
    Ledger.from_json(manifest.ledger)
    if not isinstance(manifest.config, dict):
        raise TypeError("the configuration is not an object")
    texts = [manifest.tokenizer["name"], manifest.tokenizer["sha256"], manifest.layout]
    texts += [manifest.family, *manifest.inputs]
    texts += [*manifest.added_tokens, *manifest.added_descriptions.values()]
    numbers = [manifest.max_length, manifest.tokens_per_batch, manifest.pad_id, *manifest.stop_ids]
    numbers += [entry[name] for entry in manifest.files for name in ("tokens", "supervised")]
    for entry in manifest.files_listed:
        texts += [entry["name"], entry["sha256"]]
        numbers += [entry["rows"]]
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("a name or checksum is not text")
    if not all(manifest.added_tokens):
        raise ValueError("an added token without text")
    if not all(isinstance(number, int) for number in numbers):
        raise TypeError("an id or a count is not a number")


def _to_table(rows: Rows) -> pa.Table:
    offsets = pa.array(rows.offsets.astype(np.int32))
    lists = [pa.ListArray.from_arrays(offsets, pa.array(getattr(rows, n))) for n in TOKEN_COLUMNS]
    ids = pa.array(rows.conversation_ids, type=pa.list_(pa.string()))
    return pa.table([*lists, pa.array(rows.bucket), ids], schema=SCHEMA)


def _from_table(table: pa.Table) -> Rows:
    if any(column.null_count for column in table.columns):
        raise ValueError("a column is missing or has gaps")
    columns = {n: table.column(n).combine_chunks() for n in TOKEN_COLUMNS}
    offsets = columns["input_ids"].offsets.to_numpy().astype(np.int64)
    tokens = {name: column.values.to_numpy() for name, column in columns.items()}
    if (tokens["input_ids"] < 0).any():
        raise ValueError("a token id below 0")
    return Rows(
        **tokens,
        offsets=offsets - offsets[0],
        bucket=table.column("bucket").to_numpy().astype(np.int32),
        conversation_ids=table.column("conversation_ids").to_pylist(),
    )
