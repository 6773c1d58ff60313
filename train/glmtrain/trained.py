"""What a run left: the model with what it learned, and how its data was prepared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from glmprep.errors import InputError, UsageError
from glmprep.files import sha256
from glmprep.shards import MANIFEST

from glmtrain import (
    adapters,
    config,
    model,
    output,
    precision,
    prefix,
    preparation,
    quantised,
    settings,
)
from glmtrain.methods import ADAPTER_WEIGHTS
from glmtrain.model import CausalModel
from glmtrain.precision import DTYPES, Precision
from glmtrain.preparation import Preparation
from glmtrain.probe import default_device

WHOLE = "model*.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A run that has its weights, in `folder`.

    `base` is the fingerprint of the model that it began with; `tokenizer` has name and sha256 of
    the one that its data was made with, `added_tokens` the ids of the texts that were added to
    that one, `shards` the folder and the manifest's digest of each source, `family` is the name of
    the template.
    """

    folder: Path
    config: settings.Config
    base: str
    tokenizer: Mapping[str, str]
    added_tokens: Mapping[str, int]
    shards: Sequence[tuple[str, str]]
    family: str
    prepared: Preparation

    @property
    def whole(self) -> bool:
        """Whether all weights were trained, so that no base model is needed."""
        return self.config.model.method == "full"


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A model ready to answer, and the number format that it computes in.

    `adapter` is peft's view of it, or a prefix: inside `adapter.disable_adapter()` the model is its
    base. None where it has none.
    """

    causal: CausalModel
    precision: Precision
    adapter: Any | None


def read(folder: Path) -> Trained:
    """The run in a folder; raises InputError for one that is none, or has no weights yet."""
    if not (folder / output.RECORD).is_file():
        raise InputError(f"{folder}: holds no run; name the --output of a glmtrain run")
    record = output.read_record(folder)
    settings = config.build([output.resolved(folder)])
    weights = WHOLE if settings.model.method == "full" else ADAPTER_WEIGHTS
    if not any(folder.glob(weights)):
        raise InputError(
            f"{folder}: its run is {record.get('state')}, so it has no weights yet; "
            f"go on with: glmtrain run --output {folder} --resume"
        )
    try:
        return Trained(
            folder=folder,
            config=settings,
            base=record["base"]["fingerprint"],
            tokenizer={name: record["tokenizer"][name] for name in ("name", "sha256")},
            added_tokens=dict(record.get("added_tokens", {})),
            shards=[(each["folder"], each["manifest_sha256"]) for each in record["shards"]],
            family=record["family"],
            prepared=preparation.of_run(record),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{folder / output.RECORD}: does not tell how the data was prepared ({error!r}); "
            "train again with this version"
        ) from error


def load(path: str, run: Trained | None, dtype: settings.DType) -> Loaded:
    """The model at `path` with what the run learned, ready to answer.

    Raises UsageError for another model than the run's, InputError for what cannot be loaded.
    """
    chosen = precision_of(dtype)
    adapter = None
    if run is None or run.whole:
        causal = model.load(path, chosen.dtype)
    else:
        causal = base(path, run, chosen).to(chosen.dtype)
        adapter = _adapt(causal, run)
    return Loaded(causal=causal.to(chosen.device).eval(), precision=chosen, adapter=adapter)


def precision_of(dtype: settings.DType) -> Precision:
    """The number format that was asked for, on the device at hand."""
    return precision.choose(settings.Precision(dtype=dtype), default_device())


def shards_of(run: Trained, moved: Sequence[str] = ()) -> list[str]:
    """The folders of what the run trained on, in order: where they lay, or among those in `moved`.

    Raises UsageError where one is not to be found, or a folder of `moved` is none of them.
    """
    return found_shards(run.folder, run.shards, moved)


def found_shards(
    run: Path, shards: Sequence[tuple[str, str]], moved: Sequence[str] = ()
) -> list[str]:
    """As `shards_of`, for the run in a folder whose record tells of `shards`, finished or not."""
    there = {_digest(folder): folder for folder, _ in shards}
    for folder in moved:
        if _digest(folder) not in [digest for _, digest in shards]:
            raise UsageError(f"--shards {folder}: not shards that {run} was trained on")
        there[_digest(folder)] = folder
    for folder, digest in shards:
        if digest not in there:
            raise UsageError(
                f"{folder}: no longer the shards that {run} was trained on; "
                "name the folder where they lie with --shards DIR"
            )
    return [there[digest] for _, digest in shards]


def base(path: str, run: Trained, chosen: Precision) -> CausalModel:
    """The model that the run began with, in the number format that it was trained in.

    QLoRA's has the values that training saw in four bits, which its adapter fits.
    Raises UsageError for another model, InputError for what cannot be loaded.
    """
    # Loaded as in training, so that its fingerprint is the same.
    kept = DTYPES.get(run.config.precision.dtype, chosen.dtype)
    causal = model.load(path, torch.float32 if run.whole else kept)
    if model.fingerprint(causal) != run.base:
        raise UsageError(
            f"{path}: not the model that {run.folder} adapts, which was "
            f"{run.config.model.path}; leave out --model, or name where that one lies"
        )
    if run.config.model.method == "qlora":
        quantised.round_trip(causal, run.config.lora.target_modules)
    return causal


def _adapt(causal: CausalModel, run: Trained) -> Any:
    """Put in the model what the run learned; raises InputError where it does not fit."""
    if run.config.model.method == "ptuning":
        return prefix.load(causal, run.folder)
    return adapters.attach(causal, run.folder)


def _digest(folder: str) -> str | None:
    """What tells shards from others; None where there are none."""
    manifest = Path(folder) / MANIFEST
    return sha256(manifest) if manifest.is_file() else None
