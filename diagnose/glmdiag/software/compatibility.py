"""Versions that are known not to work together."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from glmprep.findings import Severity
from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

VISION_AHEAD = 15  # torch 2.N goes with torchvision 0.(N + 15), from 2.0 on
VISION_UNTIL = 10  # as far as that is known


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Versions that break together, how that shows, what mends it, and the thread that says so."""

    id: str
    when: Mapping[str, str]
    symptom: str
    install: str
    thread: str
    severity: Severity = Severity.ERROR


@dataclass(frozen=True, slots=True, kw_only=True)
class Clash:
    """A known pair among the versions that are there."""

    pair: Pair
    versions: Mapping[str, str]


def clashes(versions: Mapping[str, str]) -> Sequence[Clash]:
    """All known pairs among these versions."""
    known = [Clash(pair=p, versions=_part(p, versions)) for p in pairs() if holds(p, versions)]
    vision = _vision(versions)
    return [*known, *([vision] if vision else [])]


def holds(pair: Pair, versions: Mapping[str, str]) -> bool:
    """Whether all packages of a pair are there in these versions."""
    return all(
        name in versions and satisfies(versions[name], specifier)
        for name, specifier in pair.when.items()
    )


def satisfies(version: str, specifier: str) -> bool:
    """Whether a version is one of those; what is no version is none."""
    try:
        return Version(Version(version).public) in SpecifierSet(specifier, prereleases=True)
    except InvalidVersion:
        return False


@cache
def pairs() -> tuple[Pair, ...]:
    """The whole table."""
    file = resources.files("glmdiag.software").joinpath("compatibility.toml")
    entries = tomllib.loads(file.read_text(encoding="utf-8"))["pair"]
    return tuple(
        Pair(**(entry | {"severity": Severity(entry.get("severity", "error"))}))
        for entry in entries
    )


def _part(pair: Pair, versions: Mapping[str, str]) -> Mapping[str, str]:
    return {name: versions[name] for name in pair.when}


def _vision(versions: Mapping[str, str]) -> Clash | None:
    """torchvision is built for one torch; beside another, transformers fails to import."""
    names = ("torch", "torchvision")
    if not all(satisfies(versions.get(name, ""), ">=0") for name in names):
        return None
    torch, vision = (Version(versions[name]) for name in names)
    fits = f"0.{torch.minor + VISION_AHEAD}"
    judged = torch.major == 2 and torch.minor <= VISION_UNTIL
    if not judged or (vision.major == 0 and vision.minor == torch.minor + VISION_AHEAD):
        return None
    pair = Pair(
        id="torchvision",
        when={},
        symptom="operator torchvision::nms does not exist",
        install=f"torchvision=={fits}.*",
        thread="pytorch issue 157648",
    )
    return Clash(pair=pair, versions={name: versions[name] for name in names})
