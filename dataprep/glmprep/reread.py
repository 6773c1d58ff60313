"""The data of a shard folder, read again exactly as its manifest says that it was read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
import pyarrow as pa

from glmprep import read
from glmprep.accounts import SCHEMA, Accounts
from glmprep.blocks import blocks
from glmprep.engines import Engine
from glmprep.engines.local import Serial
from glmprep.entries import names
from glmprep.errors import InputError, UsageError
from glmprep.files import sha256
from glmprep.ledger import Ledger
from glmprep.shards import Manifest, made_with
from glmprep.source import TRAIN_ON, Source
from glmprep.store import Folder
from glmprep.tokenizer import EMBEDDED
from glmprep.tokenizing import Named, Tokenizing
from glmprep.units import Tokenize, stamp


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Files in the order in which they were read, and what makes tokens of them."""

    paths: Sequence[str]
    tokenizing: Tokenizing


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """A second pass over the data: its files, their names, the ledger, and its lines."""

    files: Sequence[str]
    names: Sequence[str]
    ledger: Ledger
    lines: pl.DataFrame


def load(
    manifest: Manifest, paths: Sequence[str], *, tokenizer: str | None, template: Path | None
) -> Inputs:
    """Inputs with the tokenizer and the family that made the shards.

    Raises UsageError for another tokenizer or template than those, InputError for a manifest that
    does not tell.
    """
    made_with(manifest, tokenizer)
    asked = manifest.config.get("family")
    if not isinstance(asked, Mapping) or not {"asked", "thinking", "template"} <= asked.keys():
        raise InputError(f"the manifest does not tell how the family {manifest.family} was chosen")
    given = None if template is None else sha256(template)
    if given != asked["template"]:
        raise UsageError(
            "the shards were made with a template of your own; pass it as --template FILE"
            if asked["template"]
            else f"{template}: the shards were made without a template of your own"
        )
    named = Named(
        tokenizer=tokenizer or EMBEDDED,
        family=asked["asked"],
        template=template,
        thinking=asked["thinking"],
        add=tuple(manifest.added_tokens),
    )
    return Inputs(paths=paths, tokenizing=named)


def read_again(manifest: Manifest, inputs: Inputs, engine: Engine | None = None) -> Again:
    """Read, check and tokenize the data once more; tokens are not kept, only their digests.

    `engine` runs the work, in this process for None. Raises UsageError for a tokenizer or family
    that did not make the shards, InputError for files that are missing and for a manifest that
    does not tell how they were read.
    """
    tokenizer, family = inputs.tokenizing.load()
    if (tokenizer.fingerprint, family.name) != (manifest.tokenizer["sha256"], manifest.family):
        raise UsageError(
            f"the shards were made with {manifest.tokenizer['name']} and {manifest.family}, not "
            f"with {tokenizer.name} and {family.name}"
        )
    source = _source(manifest, inputs.paths)
    files = read.files(inputs.paths)
    paths = [file.path for file in files]
    with TemporaryDirectory(prefix="glmprep-") as folder:
        store = Folder(Path(folder))
        accounts = Accounts(store, paths, inputs.paths, max_length=manifest.max_length)
        work = Tokenize(
            source=source,
            tokenizing=inputs.tokenizing,
            store=store,
            stamp=stamp(source, inputs.tokenizing),
            keep_tokens=False,
        )
        for unit in (engine or Serial()).map(work, blocks(files)):
            accounts.add(unit)
        tables = [SCHEMA.empty_table(), *accounts.lines()]
    lines = pl.from_arrow(pa.concat_tables(tables))
    assert isinstance(lines, pl.DataFrame)
    return Again(files=paths, names=names(paths), ledger=accounts.ledger, lines=lines)


def _source(manifest: Manifest, paths: Sequence[str]) -> Source:
    """The source as the manifest describes it; raises InputError where it does not."""
    settings: dict[str, Any] = {}
    for name, default in Source(paths=()).settings().items():
        value = manifest.config.get(name, ...)
        kinds = (type(default), str) if default is None else type(default)
        if not isinstance(value, kinds) or (name == "train_on" and value not in TRAIN_ON):
            raise InputError(f"the manifest does not tell {name!r} of its input")
        settings[name] = value
    return Source(paths=paths, **settings)
