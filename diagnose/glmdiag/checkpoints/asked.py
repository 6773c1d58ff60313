"""Comparisons that need loaded models, as a person asks for them."""

from __future__ import annotations

from pathlib import Path

from glmprep.errors import UsageError
from glmtrain.parity import Parity

from glmdiag.checkpoints import compared
from glmdiag.checkpoints.compared import Reloaded
from glmdiag.checkpoints.reading import Checkpoint

PREFIX = "PREFIX_TUNING"


def compare(checkpoint: Checkpoint, base: str | None, merged: Path) -> Parity:
    """The merged model beside base and adapter; raises UsageError where one is not at hand."""
    adapter = checkpoint.adapter
    if adapter is None or adapter.kind != "LORA":
        raise UsageError(f"{checkpoint.folder}: no LoRA adapter, so there is nothing to merge")
    recorded = (checkpoint.record or {}).get("shards") or []
    folders = [str(each["folder"]) for each in recorded if isinstance(each, dict)]
    place = checkpoint.weights_folder
    return compared.merged(place, _base(checkpoint, base), merged, folders)


def reload(checkpoint: Checkpoint, base: str | None) -> Reloaded:
    """A prefix loaded and written again; raises UsageError for what is none."""
    if checkpoint.adapter is None or checkpoint.adapter.kind != PREFIX:
        raise UsageError(f"{checkpoint.folder}: no prefix (P-tuning) to load again")
    return compared.reload_prefix(checkpoint.weights_folder, _base(checkpoint, base))


def _base(checkpoint: Checkpoint, told: str | None) -> str:
    if told is not None:
        return told
    if checkpoint.base is None:
        raise UsageError(f"{checkpoint.folder}: its base is not at hand; name it with --base")
    return str(checkpoint.base.folder or "tiny")
