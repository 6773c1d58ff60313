"""Labels of whatever a path holds: our shards, a tokenized dataset, or chat data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from glmprep import families, shards, tokenizer
from glmprep.errors import InputError, SuiteError, UsageError
from glmprep.families import Family
from glmprep.ledger import Ledger
from glmprep.shards import MANIFEST, Manifest
from glmprep.source import Source
from glmprep.tokenizer import EMBEDDED, FILES, Tokenizer

from glmdiag.labels import contract
from glmdiag.labels.apart import SHARDS, Labels, Made, Roles
from glmdiag.labels.simulated import OURS, simulate
from glmdiag.labels.tables import is_tokenized
from glmdiag.labels.tokenized import Tokens, read_tokens

DATASET = "dataset"
END_OF_TEXT = "<|endoftext|>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """How to read a path; None leaves it to what is found there.

    `by` names the trainer whose rules chat data is labelled by, `max_length` its limit. `model` is
    the folder whose generation configuration ends answers, unless `stop_ids` tells that.
    """

    tokenizer: str | None = None
    family: str = "auto"
    model: Path | None = None
    stop_ids: str | None = None
    by: str = OURS
    max_length: int | None = None


def read(path: Path, wanted: str | Wanted | None = None) -> Labels:
    """Read shards, a tokenized dataset or chat data whole.

    A text as `wanted` names the tokenizer. Raises InputError for what is none of these, UsageError
    for a vocabulary that did not make the shards.
    """
    chosen = wanted if isinstance(wanted, Wanted) else Wanted(tokenizer=wanted)
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    if (path / MANIFEST).is_file():
        return _of_shards(path, chosen)
    if is_tokenized(path):
        return _of_dataset(path, chosen)
    if path.is_dir():
        raise InputError(
            f"{path}: neither a finished shard folder (no {MANIFEST}) nor a tokenized dataset "
            "(no Arrow, Parquet or JSON Lines file with a column input_ids)"
        )
    return _of_chat(path, chosen)


def _of_shards(folder: Path, wanted: Wanted) -> Labels:
    manifest, rows = shards.read(folder)
    if not len(rows):
        raise InputError(f"{folder}: shards without rows")
    spec = wanted.tokenizer or EMBEDDED
    vocabulary = tokenizer.load(spec).adding(manifest.added)
    if manifest.tokenizer.get("sha256") != vocabulary.fingerprint:
        name = manifest.tokenizer.get("name")
        raise UsageError(f"{folder}: made with the tokenizer {name}; pass it as --tokenizer")
    family = _named_family(manifest, vocabulary)
    return Labels(
        made=Made(
            by=SHARDS,
            layout=manifest.layout,
            stop_ids=manifest.stop_ids,
            end_of_text=manifest.pad_id,
            prefix=() if family is None else family.prefix,
            template_stops=None if family is None else sorted(family.stops),
            max_length=manifest.max_length,
            open_ends=Ledger.from_json(manifest.ledger).open_ends,
            outside=int((rows.input_ids >= manifest.vocab_size).sum()),
        ),
        rows=rows,
        roles=Roles.of(vocabulary),
        tokenizer=vocabulary,
        served=contract.served(wanted.stop_ids, wanted.model),
    )


def _named_family(manifest: Manifest, vocabulary: Tokenizer) -> Family | None:
    """The built-in family that the manifest names, None for a template of one's own."""
    if manifest.family not in families.FAMILIES:
        return None
    try:
        return families.load(manifest.family, vocabulary)
    except SuiteError:
        return None


def _of_dataset(path: Path, wanted: Wanted) -> Labels:
    vocabulary, family = _template(wanted)
    end = vocabulary.added.get(END_OF_TEXT, family.pad_id)
    tokens = read_tokens(path, pad=family.pad_id, prefix=family.prefix)
    packed = tokens.rows.segment_ids.any()
    layout = "packed" if packed else "rows"
    return _labels(tokens, vocabulary, family, wanted, by=DATASET, layout=layout, end=end)


def _of_chat(path: Path, wanted: Wanted) -> Labels:
    vocabulary, family = _template(wanted)
    end = vocabulary.added.get(END_OF_TEXT, family.pad_id)
    source = Source(paths=[str(path)])
    found = simulate(source, wanted.by, wanted.max_length, family, vocabulary)
    return _labels(
        found.tokens,
        vocabulary,
        family,
        wanted,
        by=wanted.by,
        layout="rows",
        end=end,
        limit=None if wanted.by == OURS else found.limit,
        left_out=found.left_out,
    )


def _template(wanted: Wanted) -> tuple[Tokenizer, Family]:
    """The tokenizer and the template asked for, else the model's, else those of GLM-4."""
    spec = wanted.tokenizer
    if spec is None and wanted.model is not None:
        held = any((wanted.model / name).is_file() for name in FILES)
        spec = str(wanted.model) if held else None
    vocabulary = tokenizer.load(spec or EMBEDDED)
    return vocabulary, families.load(wanted.family, vocabulary)


def _labels(
    tokens: Tokens,
    vocabulary: Tokenizer,
    family: Family,
    wanted: Wanted,
    *,
    by: str,
    layout: str,
    end: int,
    limit: int | None = None,
    left_out: int = 0,
) -> Labels:
    return Labels(
        made=Made(
            by=by,
            layout=layout,
            stop_ids=sorted(family.stops),
            end_of_text=end,
            prefix=family.prefix,
            max_length=limit if limit is not None or by == OURS else wanted.max_length,
            shares=tokens.shares,
            shift=tokens.shift,
            padded=tokens.padded,
            outside=int((tokens.rows.input_ids >= _rows_of(wanted.model, vocabulary)).sum()),
            marked=tokens.marked,
            left_out=left_out,
            notes=tokens.notes,
        ),
        rows=tokens.rows,
        roles=Roles.of(vocabulary),
        tokenizer=vocabulary,
        targets=tokens.targets,
        served=contract.served(wanted.stop_ids, wanted.model),
    )


def _rows_of(model: Path | None, vocabulary: Tokenizer) -> int:
    """Rows of the embeddings, as the model's config.json says, else one for each id."""
    told = None if model is None else contract.embeddings(model)
    return told or vocabulary.vocab_size
