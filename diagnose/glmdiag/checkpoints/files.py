"""Which files of a folder hold what."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from glmprep.console import file_errors
from glmprep.errors import InputError, first_line

CONFIG = "config.json"
ADAPTER = "adapter_config.json"
INDEX = ".index.json"
LARGEST_JSON = 64 << 20
PATTERNS = {
    "adapter": ("adapter_model.safetensors", "adapter_model.bin"),
    "model": ("model*.safetensors", "pytorch_model*.bin"),
    "weights": ("weights.safetensors",),
}
"""The files of each kind of weights; of two patterns the second where the first has none."""


def tensor_files(folder: Path, kind: str) -> list[Path]:
    """The files with weights of a kind, in order."""
    for pattern in PATTERNS[kind]:
        found = sorted(folder.glob(pattern))
        if found:
            return found
    return []


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; raises InputError for anything else."""
    with file_errors(path):
        if path.stat().st_size > LARGEST_JSON:
            raise InputError(f"{path}: larger than {LARGEST_JSON >> 20} MiB")
        text = path.read_bytes()
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({first_line(error)})") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: not a JSON object")
    return value


def listed(folder: Path) -> dict[str, str]:
    """The file of each tensor as the index of a model in parts names it; empty without one."""
    path = next(iter(sorted(folder.glob(f"*{INDEX}"))), None)
    if path is None:
        return {}
    names = read_json(path).get("weight_map")
    if not isinstance(names, dict):
        raise InputError(f"{path}: no weight_map, so no index of tensors")
    return {str(name): str(file) for name, file in names.items()}
