"""The model that an adapter belongs to: names and shapes of its weights, without loading them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from glmprep.errors import InputError, first_line
from glmtrain import model
from safetensors import SafetensorError, safe_open
from torch import Tensor

from glmdiag.checkpoints.files import CONFIG, listed, read_json, tensor_files
from glmdiag.checkpoints.tensors import headers

DENSE = frozenset({"glm", "glm4", "llama", "qwen2", "qwen3", "mistral"})
"""Kinds of models whose weights have the same names in memory and on disk."""
HEAD, TABLE = "lm_head.weight", "model.embed_tokens.weight"


@dataclass(frozen=True, kw_only=True)
class Base:
    """A base model in `folder`, None for the built-in tiny one; `shapes` by a weight's name."""

    folder: Path | None
    config: Mapping[str, Any]
    shapes: Mapping[str, tuple[int, ...]]
    files: Mapping[str, Path]

    @property
    def layers(self) -> int | None:
        """How many layers it says it has."""
        said = self.config.get("num_hidden_layers", self.config.get("num_layers"))
        return said if isinstance(said, int) else None

    @cached_property
    def whole(self) -> bool:
        """Whether its weights are here, all that an index names; often config.json alone is."""
        named = set() if self.folder is None else listed(self.folder).keys()
        return bool(self.shapes) and named <= self.shapes.keys()

    @cached_property
    def fingerprint(self) -> str | None:
        """The trainer's fingerprint of these weights.

        None where names differ in memory, and where weights are missing.
        """
        if self.folder is None:
            return model.fingerprint(_tiny())
        if self.config.get("model_type") not in DENSE or not self.whole:
            return None
        names = set(self.shapes)
        if self.config.get("tie_word_embeddings") and HEAD not in names and TABLE in names:
            names.add(HEAD)
        digest = hashlib.sha256()
        for name in sorted(names):
            weight = self.weight(name if name in self.shapes else TABLE)
            flat = weight.reshape(-1)
            sample = flat[:: max(1, flat.numel() // model.SAMPLED_VALUES)]
            digest.update(f"{name}{tuple(weight.shape)}".encode())
            digest.update(sample.to(torch.bfloat16).float().numpy().tobytes())
        return digest.hexdigest()

    def weight(self, name: str) -> Tensor:
        """One weight; raises KeyError for a name that there is not."""
        if self.folder is None:
            weight: Tensor = _tiny().state_dict()[name].detach()
            return weight
        with safe_open(self.files[name], framework="pt") as file:
            found: Tensor = file.get_tensor(name)
            return found


def read_base(path: str | Path) -> Base:
    """A model's folder, or `tiny`; raises InputError for what is none."""
    if str(path) == model.TINY:
        tiny = {name: tuple(weight.shape) for name, weight in _tiny().state_dict().items()}
        return Base(folder=None, config=model.tiny_config(), shapes=tiny, files={})
    folder = Path(path)
    if not folder.is_dir() or not (folder / CONFIG).is_file():
        raise InputError(f"{path}: no folder of a model (no {CONFIG})")
    shapes: dict[str, tuple[int, ...]] = {}
    files: dict[str, Path] = {}
    for file, names in _headers(folder):
        shapes |= names
        files |= dict.fromkeys(names, file)
    return Base(folder=folder, config=read_json(folder / CONFIG), shapes=shapes, files=files)


def _headers(folder: Path) -> Iterator[tuple[Path, dict[str, tuple[int, ...]]]]:
    for file in tensor_files(folder, "model"):
        if file.suffix != ".safetensors":
            continue
        try:
            yield file, headers(file)
        except (SafetensorError, OSError) as error:
            raise InputError(f"{file}: cannot be read ({first_line(error)})") from error


_TINY: list[Any] = []


def _tiny() -> Any:
    """The built-in model, made once."""
    if not _TINY:
        with model.quiet_libraries():
            _TINY.append(model.tiny())
    return _TINY[0]
