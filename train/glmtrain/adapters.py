"""Adapters on disk, as peft lays them out: written, read back, checked, gone on from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glmprep.console import file_errors
from glmprep.errors import InputError, UsageError, first_line
from torch import Tensor

from glmtrain import newtokens
from glmtrain.model import CausalModel
from glmtrain.settings import Lora

WEIGHTS = "adapter_model.safetensors"
CONFIGURATION = "adapter_config.json"
PREFIX = "base_model.model."  # of a model's names in peft's view of it
RECORD = "run.json"  # as in `output`, which needs this module


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A LoRA adapter in a folder; `lora` holds what its configuration says.

    `base` is the fingerprint of the base that it was trained on, None where it isn't recorded.
    """

    folder: Path
    lora: Lora
    base: str | None


def save(adapter: Any, folder: Path, weights: Mapping[str, Tensor] | None = None) -> None:
    """peft's own format, without the model card and the look at the hub of `save_pretrained`.

    `weights` has the adapter's weights by their names in the model it is in, where it holds but a
    slice of each.
    """
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    whole = None if weights is None else {PREFIX + name: w for name, w in weights.items()}
    told = get_peft_model_state_dict(adapter, state_dict=whole, save_embedding_layers=False)
    contiguous = {name: weight.detach().cpu().contiguous() for name, weight in told.items()}
    save_file(contiguous, folder / WEIGHTS, metadata={"format": "pt"})
    settings = adapter.peft_config["default"]
    training, settings.inference_mode = settings.inference_mode, True
    settings.save_pretrained(folder)
    settings.inference_mode = training


def load(adapter: Any, folder: Path) -> None:
    """Put a folder's weights into an adapter of the same shape.

    Raises InputError for other layers, ranks or shapes, and for weights that are not numbers.
    """
    from peft import get_peft_model_state_dict, set_peft_model_state_dict
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights = load_file(folder / WEIGHTS)
        expected = get_peft_model_state_dict(adapter, save_embedding_layers=False)
        _check(weights, expected)
        set_peft_model_state_dict(adapter, weights)
    except (OSError, SafetensorError, RuntimeError, KeyError, ValueError) as error:
        raise InputError(
            f"{folder}: its weights do not fit the model ({first_line(error)})"
        ) from error


def attach(causal: CausalModel, folder: Path) -> Any:
    """Put a folder's adapter in a base model that has none, with room for its new tokens.

    Returns peft's view of the model. Raises InputError where it does not fit.
    """
    from peft import PeftModel
    from safetensors import SafetensorError

    settings = _read_json(folder / CONFIGURATION)
    try:
        newtokens.make_room(causal, max(_token_rows(settings), default=0))
        adapter = PeftModel.from_pretrained(causal, str(folder))
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
        raise InputError(
            f"{folder}: its adapter does not fit the model ({first_line(error)})"
        ) from error
    # What has no weights in the file would be left as it was made, which peft only warns of.
    load(adapter, folder)
    return adapter


def read(folder: Path) -> Found:
    """The LoRA adapter in a folder, to go on from.

    Raises InputError where there is none, UsageError for one of another kind.
    """
    if not (folder / CONFIGURATION).is_file() or not (folder / WEIGHTS).is_file():
        raise InputError(
            f"{folder}: no {CONFIGURATION} with {WEIGHTS}, so no adapter; name the "
            "folder of a finished run, or give a whole model as model.path"
        )
    settings = _read_json(folder / CONFIGURATION)
    kind = settings.get("peft_type")
    if kind != "LORA":
        hint = "--set model.method=ptuning" if kind == "PREFIX_TUNING" else "a LoRA adapter"
        raise UsageError(f"{folder}: an adapter of kind {kind}, not LORA; it takes {hint}")
    try:
        return Found(folder=folder, lora=_lora(settings), base=_base(folder))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{folder / CONFIGURATION}: malformed ({first_line(error)})") from error


def check_same(found: Found, lora: Lora, fingerprint: str) -> None:
    """Raise UsageError where an adapter is for another base, or of another shape than `lora`."""
    if found.base is not None and found.base != fingerprint:
        raise UsageError(
            f"{found.folder}: adapts another base model than this one; "
            f"set model.path as its {RECORD} says, or leave model.adapter out"
        )
    for name in ("rank", "alpha", "rslora", "dora", "target_modules"):
        theirs, ours = getattr(found.lora, name), getattr(lora, name)
        if theirs != (tuple(sorted(ours)) if name == "target_modules" else ours):
            raise UsageError(
                f"lora.{name} = {_shown(ours)}, but {found.folder} was trained with "
                f"{_shown(theirs)}; leave the setting out to go on as it was"
            )


def _lora(settings: Mapping[str, Any]) -> Lora:
    """What an adapter's configuration says, with its targets sorted."""
    modules, weights = settings["target_modules"] or [], settings.get("target_parameters") or []
    if isinstance(modules, str) or settings.get("rank_pattern") or settings.get("modules_to_save"):
        raise ValueError("a pattern of layers or ranks, or whole modules, is not supported")
    return Lora(
        rank=int(settings["r"]),
        alpha=float(settings["lora_alpha"]),
        dropout=float(settings.get("lora_dropout") or 0),
        rslora=bool(settings.get("use_rslora")),
        dora=bool(settings.get("use_dora")),
        target_modules=tuple(sorted([*modules, *weights])),
    )


def _token_rows(settings: Mapping[str, Any]) -> list[int]:
    """The rows of new tokens that an adapter holds, of one layer or several."""
    rows = settings.get("trainable_token_indices") or []
    listed = rows.values() if isinstance(rows, dict) else [rows]
    return [int(row) for ids in listed for row in ids]


def _base(folder: Path) -> str | None:
    if not (folder / RECORD).is_file():
        return None
    return str(_read_json(folder / RECORD)["base"]["fingerprint"])


def _check(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    if weights.keys() != expected.keys():
        missing, other = expected.keys() - weights.keys(), weights.keys() - expected.keys()
        told = [_first(missing, "missing"), _first(other, "unknown")]
        raise ValueError(f"other layers: {', '.join(filter(None, told))}")
    for name, weight in weights.items():
        if weight.shape != expected[name].shape:
            shapes = f"{list(weight.shape)} for {list(expected[name].shape)}"
            raise ValueError(f"{name} is {shapes}")
        if not weight.isfinite().all():
            raise ValueError(f"{name} holds NaN or infinity")


def _first(names: Iterable[str], what: str) -> str:
    listed = sorted(names)
    return f"{len(listed)} {what}, as {listed[0]}" if listed else ""


def _read_json(path: Path) -> dict[str, Any]:
    with file_errors(path):
        text = path.read_text(encoding="utf-8")
    try:
        value = json.loads(text)
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({first_line(error)})") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: not a JSON object")
    return value


def _shown(value: object) -> str:
    return ", ".join(value) if isinstance(value, tuple) else str(value)
