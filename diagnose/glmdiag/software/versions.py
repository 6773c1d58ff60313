"""Versions of packages: of this Python, or from a text that another machine's pip wrote."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from glmprep.console import file_errors
from glmprep.errors import InputError
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

RELEVANT = (
    *("torch", "torchvision", "transformers", "tokenizers", "huggingface-hub", "safetensors"),
    *("peft", "accelerate", "datasets", "numpy", "bitsandbytes", "deepspeed", "flash-attn"),
    *("triton", "trl", "llamafactory", "axolotl", "ms-swift", "liger-kernel", "vllm"),
    *("torch-npu", "nvidia-ml-py", "sentencepiece", "tiktoken", "glm-finetune-suite"),
)
CHECKED = (
    *("torch", "transformers", "tokenizers", "peft", "accelerate", "bitsandbytes", "deepspeed"),
    *("flash-attn", "trl", "llamafactory", "datasets", "vllm", "axolotl", "ms-swift"),
)
"""Packages whose own requirements are looked at."""
MOST_BYTES, MOST_LINES = 2 << 20, 20_000
PINNED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,99})\s*(?:===?|=|\s+)\s*([0-9][^\s;#=]{0,60})")
LOOSE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\s*(?:\[[^\]]*\]\s*)?(?:[<>!~@;].*)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """Versions by canonical name, and how many lines named a package without one, or nothing."""

    versions: Mapping[str, str]
    unpinned: Sequence[str] = ()
    skipped: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Unmet:
    """What a package asks of another: the version that is there, None where it is missing."""

    package: str
    requirement: str
    found: str | None


def installed() -> Listed:
    """The relevant packages of this Python."""
    found = {name: version for name in RELEVANT if (version := _installed(name)) is not None}
    return Listed(versions=found)


def read(path: Path) -> Listed:
    """`pip freeze`, `pip list`, `conda list`, a requirements or constraints file.

    Lines that are none of these are passed over and counted. Raises InputError for a file that
    cannot be read, is too large, or names no package at all.
    """
    with file_errors(path):
        if path.stat().st_size > MOST_BYTES:
            raise InputError(f"{path}: too large for a list of versions; give pip freeze's output")
        text = path.read_bytes().decode("utf-8", "replace")
    lines = [line.strip() for line in text.splitlines()[:MOST_LINES]]
    versions: dict[str, str] = {}
    unpinned, skipped = [], 0
    for line in (line for line in lines if line and not line.startswith("#")):
        pinned = PINNED.match(line)
        if pinned and _is_version(pinned[2]):
            versions[canonicalize_name(pinned[1])] = pinned[2]
        elif LOOSE.fullmatch(line):
            unpinned.append(canonicalize_name(re.split(r"[\s\[<>!~@;]", line)[0]))
        else:
            skipped += 1
    if not versions and not unpinned:
        raise InputError(f"{path}: names no package; give what pip freeze wrote")
    return Listed(versions=versions, unpinned=unpinned, skipped=skipped)


def unmet() -> Sequence[Unmet]:
    """What the relevant packages ask of others and do not get, extras left out."""
    return [each for name in CHECKED for each in _unmet(name)]


def _unmet(name: str) -> list[Unmet]:
    try:
        required = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return []
    return [
        Unmet(package=name, requirement=f"{asked.name}{asked.specifier}", found=found)
        for asked in map(_requirement, required)
        if asked is not None and (asked.marker is None or asked.marker.evaluate({"extra": ""}))
        for found in [_installed(asked.name)]
        if found is None or not asked.specifier.contains(found, prereleases=True)
    ]


def _requirement(text: str) -> Requirement | None:
    try:
        return Requirement(text)
    except InvalidRequirement:
        return None


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _is_version(text: str) -> bool:
    try:
        Version(text)
    except InvalidVersion:
        return False
    return True
