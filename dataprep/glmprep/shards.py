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

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from glmprep import entries
from glmprep.errors import IncompleteShards, InputError, UsageError
from glmprep.files import sha256, write_atomically
from glmprep.ledger import Ledger
from glmprep.mending import REPAIRS
from glmprep.read import REJECTS
from glmprep.tokenizer import EMBEDDED, Tokenizer
from glmprep.tokenizer import load as load_tokenizer

FORMAT = "glmprep-shards/2"
MANIFEST = "manifest.json"
LEDGER = "ledger.parquet"
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
        sums = np.concatenate(([0], np.cumsum(self.loss_mask, dtype=np.int64)))
        return np.asarray(sums[self.offsets[1:]] - sums[self.offsets[:-1]])


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What `manifest.json` says; `files` has an object per Parquet file: name, rows, sums, sha256.

    `tokenizer` and `family` are fingerprints of what made the ids; `config` is the whole
    configuration; `inputs` the files that were read, without their folders; `ledger` the sums of
    the run (see `glmprep.ledger`), `ledger_file` what tells its lines, None where none were kept;
    `buckets` the padded lengths with their rows; `added_tokens` what a trainer adds to the model.
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
    format: str = FORMAT

    @property
    def files_listed(self) -> Sequence[Mapping[str, Any]]:
        """All files with a checksum: those with rows, and the ledger."""
        return [*self.files, *([] if self.ledger_file is None else [self.ledger_file])]


class ShardWriter:
    """Writes rows into a folder; the folder counts as complete only after `finish`.

    Earlier shards stay until the first new rows are there to be written, so that bad input costs
    nothing. Raises UsageError when the folder holds shards and `overwrite` is not set, or anything
    else.
    """

    def __init__(self, folder: Path, *, overwrite: bool = False) -> None:
        self.folder = folder
        self.files: list[dict[str, Any]] = []
        self.ledger_file: dict[str, Any] | None = None
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"{folder}: is a file; name a folder")
        folder.mkdir(parents=True, exist_ok=True)
        self._earlier = self._find_earlier(overwrite)

    def write(self, rows: Rows) -> None:
        """Write one Parquet file with these rows."""
        while self._earlier:
            self._earlier.pop(0).unlink(missing_ok=True)
        name = f"shard-{len(self.files):05d}.parquet"
        path = self.folder / name
        pq.write_table(
            _to_table(rows),
            path,
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
        self.files.append(
            {
                "name": name,
                "rows": len(rows),
                "tokens": int(rows.offsets[-1]),
                "supervised": int(rows.loss_mask.sum(dtype=np.int64)),
                "sha256": sha256(path),
            }
        )

    def write_ledger(self, lines: pa.Table) -> None:
        """Write the ledger's lines (see `glmprep.entries`)."""
        path = self.folder / LEDGER
        entries.write(lines, path)
        self.ledger_file = {"name": LEDGER, "rows": lines.num_rows, "sha256": sha256(path)}

    def finish(self, **manifest: Any) -> Manifest:
        """Write the manifest through a temporary name: from here on the folder is complete."""
        made = Manifest(files=self.files, ledger_file=self.ledger_file, **manifest)
        write_atomically(self.folder / MANIFEST, orjson.dumps(asdict(made), option=_JSON_STYLE))
        return made

    def _find_earlier(self, overwrite: bool) -> list[Path]:
        """An earlier run's files, the manifest first so that no half of it ever looks whole."""
        shards = [self.folder / MANIFEST, *sorted(self.folder.glob("shard-*.parquet"))]
        lists = [self.folder / name for name in (LEDGER, REJECTS, REPAIRS)]
        ours = [*shards, *lists, *sorted(self.folder.glob("*.tmp"))]
        foreign = sorted(p for p in self.folder.iterdir() if p not in ours)
        if foreign:
            raise UsageError(f"{self.folder}: holds {foreign[0].name}; name an empty folder")
        if not overwrite and any(path.exists() for path in shards):
            raise UsageError(f"{self.folder}: holds shards already; pass --overwrite")
        return [path for path in ours if path.name != REJECTS]


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
    vocabulary = load_tokenizer(spec or EMBEDDED)
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
            reason = entries.first_line(error)
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


_JSON_STYLE = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE


def _require_shape(manifest: Manifest) -> None:
    """Raise TypeError, KeyError, ValueError or AttributeError for fields of another kind."""
    Ledger.from_json(manifest.ledger)
    if not isinstance(manifest.config, dict):
        raise TypeError("the configuration is not an object")
    texts = [manifest.tokenizer["name"], manifest.tokenizer["sha256"], manifest.layout]
    texts += [manifest.family, *manifest.inputs]
    numbers = [manifest.max_length, manifest.tokens_per_batch, manifest.pad_id, *manifest.stop_ids]
    numbers += [entry[name] for entry in manifest.files for name in ("tokens", "supervised")]
    for entry in manifest.files_listed:
        texts += [entry["name"], entry["sha256"]]
        numbers += [entry["rows"]]
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("a name or checksum is not text")
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
