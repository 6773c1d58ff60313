"""Tokenized datasets of any trainer: Arrow as `save_to_disk` writes it, Parquet, JSON Lines.

Read with pyarrow alone: no code of the data's maker is run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
from glmprep.console import file_errors
from glmprep.errors import InputError, first_line
from glmreport.text import Text

Int64 = npt.NDArray[np.int64]

IDS, LABELS = "input_ids", "labels"
MASKS = ("assistant_masks", "completion_mask", "loss_mask")
"""Columns that mark what is trained, for a trainer to make labels of."""
BESIDE = ("attention_mask", "position_ids", "seq_lengths", "seq_lens")
SPLITS = ("train", "default")
MOST_TOKENS = 300_000_000
JSON_LINES = (".jsonl", ".json", ".ndjson")
JSON_BATCH = 2048


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Lists of each column that was found, one after the other, and how long each list is."""

    values: Mapping[str, Int64]
    lengths: Mapping[str, Int64]
    notes: Sequence[Text]


def is_tokenized(path: Path) -> bool:
    """Whether there is a set of tokens here, rather than text."""
    if path.is_dir():
        return (path / "dataset_dict.json").is_file() or bool(_files(path))
    try:
        return IDS in _names(path)
    except InputError:
        return False


def read_columns(path: Path) -> Columns:
    """All that matters of a tokenized dataset; raises InputError for what is none."""
    folder, notes = _split(path)
    files = _files(folder) if folder.is_dir() else [folder]
    if not files:
        raise InputError(f"{path}: no Arrow, Parquet or JSON Lines files with a column {IDS}")
    parts: dict[str, list[Int64]] = {}
    sizes: dict[str, list[Int64]] = {}
    tokens = 0
    for table in (table for file in files for table in _tables(file)):
        for name in table.column_names:
            values, lengths = _lists(table.column(name), name, path)
            parts.setdefault(name, []).append(values)
            sizes.setdefault(name, []).append(lengths)
        tokens += len(parts[IDS][-1])
        if tokens > MOST_TOKENS:
            notes = [*notes, Text("diag.labels.note.part", tokens=tokens)]
            break
    if not tokens:
        raise InputError(f"{path}: a dataset without rows")
    return Columns(
        values={name: np.concatenate(each) for name, each in parts.items()},
        lengths={name: np.concatenate(each) for name, each in sizes.items()},
        notes=notes,
    )


def _split(path: Path) -> tuple[Path, list[Text]]:
    """The folder of the split to read, and the others that are not."""
    named = path / "dataset_dict.json"
    if not named.is_file():
        return path, []
    with file_errors(named):
        text = named.read_bytes()
    try:
        splits = [str(name) for name in orjson.loads(text)["splits"]]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{named}: not the index of a dataset ({first_line(error)})") from error
    # A name is taken for a folder of this one only, whatever the file says.
    known = [name for name in splits if (path / name).is_dir() and Path(name).name == name]
    if not known:
        raise InputError(f"{named}: none of the splits it names is there")
    chosen = next((name for name in SPLITS if name in known), known[0])
    others = [name for name in known if name != chosen]
    told = Text("diag.labels.note.split", chosen=chosen, others=", ".join(others))
    notes = [told] if others else []
    return path / chosen, notes


def _files(folder: Path) -> list[Path]:
    """The files that hold rows of tokens, in order; those that a `save_to_disk` names, if any."""
    found: list[Path] = []
    for pattern in ("*.arrow", "*.parquet", *(f"*{end}" for end in JSON_LINES)):
        named = sorted(folder.glob(pattern))
        found = [path for path in named if not path.name.startswith("cache-") and _has_ids(path)]
        if found:
            return found
    return found


def _has_ids(path: Path) -> bool:
    try:
        return IDS in _names(path)
    except InputError:
        # A damaged table among others must be told of, not passed over.
        return path.suffix in (".arrow", ".parquet")


def _names(path: Path) -> Sequence[str]:
    """The names of a file's columns."""
    with file_errors(path):
        try:
            if path.suffix == ".arrow":
                with pa.OSFile(str(path)) as file:
                    return list(_opened(file, path).schema.names)
            if path.suffix == ".parquet":
                return list(pq.read_schema(path).names)
            with path.open("rb") as lines:
                first = next((line for line in lines if line.strip()), b"")
            value = orjson.loads(first)
        except (pa.ArrowException, ValueError, EOFError) as error:
            raise InputError(f"{path}: cannot be read ({first_line(error)})") from error
    return list(value) if isinstance(value, dict) else []


def _opened(file: Any, path: Path) -> Any:
    """Arrow batches one after the other, as `datasets` writes them, or Arrow's file format."""
    try:
        return pyarrow.ipc.open_stream(file)
    except pa.ArrowInvalid:
        file.seek(0)
        return pyarrow.ipc.open_file(file)


def _tables(path: Path) -> Iterator[pa.Table]:
    """The rows of a file in batches, columns that matter alone."""
    with file_errors(path):
        try:
            if path.suffix == ".arrow":
                with pa.OSFile(str(path)) as file:
                    opened = _opened(file, path)
                    batches = (
                        opened
                        if hasattr(opened, "read_next_batch")
                        else map(opened.get_batch, range(opened.num_record_batches))
                    )
                    yield from (_wanted(pa.Table.from_batches([batch])) for batch in batches)
            elif path.suffix == ".parquet":
                with pq.ParquetFile(path) as parquet:
                    names = [name for name in parquet.schema_arrow.names if name in _KNOWN]
                    for batch in parquet.iter_batches(batch_size=JSON_BATCH, columns=names):
                        yield _wanted(pa.Table.from_batches([batch]))
            else:
                yield from map(_wanted, _json_tables(path))
        except (pa.ArrowException, EOFError) as error:
            raise InputError(f"{path}: cannot be read ({first_line(error)})") from error


_KNOWN = frozenset((IDS, LABELS, *MASKS, *BESIDE))


def _wanted(table: pa.Table) -> pa.Table:
    return table.select([name for name in table.column_names if name in _KNOWN])


def _json_tables(path: Path) -> Iterator[pa.Table]:
    rows: list[dict[str, Any]] = []
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                rows.append(_json_row(line, f"{path}:{number}"))
            if len(rows) == JSON_BATCH:
                yield pa.Table.from_pylist(rows)
                rows = []
    if rows:
        yield pa.Table.from_pylist(rows)


def _json_row(line: bytes, where: str) -> dict[str, Any]:
    try:
        value = orjson.loads(line)
    except ValueError as error:
        raise InputError(f"{where}: not JSON ({first_line(error)})") from error
    if not isinstance(value, dict) or IDS not in value:
        raise InputError(f"{where}: an object with {IDS} is wanted here")
    return {name: value[name] for name in value if name in _KNOWN}


def _lists(column: pa.ChunkedArray, name: str, path: Path) -> tuple[Int64, Int64]:
    """The values of a column of lists, and the length of each list."""
    kind = column.type
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    if not (lists or pa.types.is_fixed_size_list(kind)) or not _is_number(kind.value_type):
        raise InputError(f"{path}: the column {name} holds {kind}, not lists of whole numbers")
    if column.null_count:
        raise InputError(f"{path}: the column {name} has rows without a value")
    chunk = column.combine_chunks()
    values = chunk.flatten()
    if values.null_count:
        raise InputError(f"{path}: a list in the column {name} has gaps")
    lengths = pa.compute.list_value_length(chunk).to_numpy(zero_copy_only=False)
    flat = values.cast(pa.int64()).to_numpy(zero_copy_only=False)
    return flat.astype(np.int64), lengths.astype(np.int64)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind))
