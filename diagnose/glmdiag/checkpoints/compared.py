"""What only a loaded model tells: a merge answers as base and adapter do, a prefix comes back.

Models are loaded whole here, so this is done only where it is asked for.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from glmprep.errors import InputError
from glmtrain import adapters, model, parity, precision, prefix, settings
from glmtrain.parity import Parity
from glmtrain.precision import DTYPES, Precision
from glmtrain.probe import default_device
from glmtrain.settings import DType
from safetensors.torch import load_file

from glmdiag.checkpoints.files import CONFIG, read_json

NAMES: dict[str, DType] = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reloaded:
    """A prefix put into its base and written again: `same` values, and what it does to logits."""

    same: bool
    effect: float | None


def merged(folder: Path, base: str, whole: Path, shards: Sequence[str]) -> Parity:
    """The logits of a merged model beside those of the base with its adapter.

    Raises InputError for what cannot be loaded.
    """
    chosen = _precision(whole)
    with model.quiet_libraries():
        causal = model.load(base, DTYPES[chosen.name]).to(chosen.device)
        asked, _ = parity.prompts(shards, len(model.head_weight(causal)))
        without = parity.logits(causal.eval(), asked, chosen)
        adapters.attach(causal, folder)
        expected = parity.logits(causal.eval(), asked, chosen)
        del causal
        again = model.load(str(whole), DTYPES[chosen.name]).to(chosen.device).eval()
        if len(model.head_weight(again)) != expected.shape[1]:
            raise InputError(f"{whole}: has another vocabulary than the base with its adapter")
        return parity.compare(expected, parity.logits(again, asked, chosen), without, chosen.name)


def reload_prefix(folder: Path, base: str) -> Reloaded:
    """Load a prefix into its base, write it again, and see what it changes.

    Raises InputError for one that does not fit.
    """
    with model.quiet_libraries(), tempfile.TemporaryDirectory() as place:
        chosen = precision.choose(settings.Precision(dtype="fp32"), default_device())
        causal = model.load(base, DTYPES["fp32"]).to(chosen.device).eval()
        prefixed = prefix.load(causal, folder)
        prefix.save(prefixed, Path(place))
        held, again = (load_file(Path(at) / adapters.WEIGHTS) for at in (folder, Path(place)))
        same = all(name in again and held[name].float().equal(again[name].float()) for name in held)
        asked, _ = parity.prompts([], len(model.head_weight(causal)))
        with prefixed.disable_adapter():
            without = parity.logits(causal, asked, chosen)
        found = parity.logits(causal, asked, chosen)
    effect = float((found - without).abs().mean() / without.std())
    return Reloaded(same=same, effect=effect if effect == effect else None)


def _precision(folder: Path) -> Precision:
    """The number format in which a model's folder says that it is."""
    config = read_json(folder / CONFIG)
    name = str(config.get("dtype") or config.get("torch_dtype") or "float32")
    return precision.choose(settings.Precision(dtype=NAMES.get(name, "fp32")), default_device())
