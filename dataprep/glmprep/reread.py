"""The data of a shard folder, read again exactly as its manifest says that it was read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glmprep import families
from glmprep.accounts import Accounts
from glmprep.entries import names
from glmprep.errors import InputError, UsageError
from glmprep.families import Family, Thinking
from glmprep.files import sha256
from glmprep.intake import Intake
from glmprep.shards import Manifest, made_with
from glmprep.source import TRAIN_ON, Source
from glmprep.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Files in the order in which they were read, and what makes tokens of them."""

    paths: Sequence[str]
    tokenizer: Tokenizer
    family: Family


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """A second pass over the data: its files, their names, and the accounts, complete."""

    files: Sequence[str]
    names: Sequence[str]
    accounts: Accounts


def family_settings(asked: str, thinking: Thinking, template: Path | None) -> dict[str, Any]:
    """How a family was asked for, to be kept in a manifest; a template by its sha256."""
    return {
        "asked": asked,
        "thinking": thinking,
        "template": None if template is None else sha256(template),
    }


def load(
    manifest: Manifest, paths: Sequence[str], *, tokenizer: str | None, template: Path | None
) -> Inputs:
    """Inputs with the tokenizer and the family that made the shards.

    Raises UsageError for another tokenizer or template than those, InputError for a manifest that
    does not tell.
    """
    vocabulary = made_with(manifest, tokenizer)
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
    family = families.load(
        asked["asked"], vocabulary, template=template, thinking=asked["thinking"]
    )
    return Inputs(paths=paths, tokenizer=vocabulary, family=family)


def read_again(manifest: Manifest, inputs: Inputs) -> Again:
    """Read, check and tokenize the data once more; what is not kept is dropped at once.

    Raises UsageError for a tokenizer or family that did not make the shards, InputError for files
    that are missing and for a manifest that does not tell how they were read.
    """
    made_by = (inputs.tokenizer.fingerprint, inputs.family.name)
    if made_by != (manifest.tokenizer["sha256"], manifest.family):
        raise UsageError(
            f"the shards were made with {manifest.tokenizer['name']} and {manifest.family}, not "
            f"with {inputs.tokenizer.name} and {inputs.family.name}"
        )
    intake = Intake(
        _source(manifest, inputs.paths),
        family=inputs.family,
        special_tokens=list(inputs.tokenizer.added),
    )
    accounts = Accounts(
        intake, family=inputs.family, tokenizer=inputs.tokenizer, max_length=manifest.max_length
    )
    for _ in accounts.batches():
        pass
    return Again(files=intake.files, names=names(intake.files), accounts=accounts)


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
