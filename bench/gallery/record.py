"""From a run's working folder to its record, and from records to the committed archives."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import base
from cache import RECORDS, once
from plans import Plan, write_json
from words import VOCABULARY, words

LARGEST = 160_000  # bytes of a file of weights; whole models are left out
DROPPED = ("training_args.bin", "README.md", "*.begun")
FOLDERS = ("checkpoints", "checkpoint-*")
MOMENT = (2026, 1, 1, 0, 0, 0)


def begin(folder: Path, seed: int = 0) -> None:
    """What a run finds: the base model's folder."""
    shutil.copytree(base.base(seed), folder / "base")


def finish(plan: Plan, folder: Path) -> Path:
    """Take from the working folder what is recorded, and add what the diagnoser and we know."""
    for model in [path for path in folder.iterdir() if (path / "config.json").exists()]:
        if model.name != "run":
            _without_weights(model)
    for file in [path for path in folder.glob("run/**/*") if path.is_file()]:
        _without_what_is_large(file, plan, folder)
    write_json(str(folder / "machine.json"), {"card": plan.card})
    write_json(str(folder / "truth.json"), plan.truth())
    target = RECORDS / plan.name
    shutil.rmtree(target, ignore_errors=True)
    return once(target, lambda begun: shutil.copytree(folder, begun))


def pack(plans: Sequence[Plan], folder: Path) -> list[Path]:
    """Write an archive for each kind that is whole; the same records give the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for kind in sorted({_archive(plan) for plan in plans}):
        names = sorted(plan.name for plan in plans if _archive(plan) == kind)
        if all((RECORDS / name / "truth.json").exists() for name in names):
            made.append(_archived(folder / f"{kind}.zip", names))
    return made


def _archive(plan: Plan) -> str:
    """Healthy runs of one trainer and seed share an archive."""
    return plan.kind if plan.cause else f"healthy-{plan.trainer}-s{plan.seed}"


def _archived(target: Path, names: Sequence[str]) -> Path:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in names:
            for file in sorted(path for path in (RECORDS / name).rglob("*") if path.is_file()):
                inside = zipfile.ZipInfo(f"{name}/{file.relative_to(RECORDS / name)}", MOMENT)
                inside.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(inside, file.read_bytes())
    return target


def _without_weights(model: Path) -> None:
    """A model's folder as a user has it, ids in GLM-4's numbers, its weights left out."""
    for file in model.glob("*.safetensors*"):
        file.unlink()
    for name in ("config.json", "generation_config.json"):
        if (model / name).exists():
            values = json.loads((model / name).read_bytes())
            write_json(str(model / name), outside(values))


def outside(values: dict[str, Any]) -> dict[str, Any]:
    """A configuration's ids in GLM-4's numbers; those that are so already stay."""
    found = dict(values)
    if found.get("vocab_size") == len(words()):
        found["vocab_size"] = VOCABULARY
    for name in base.TOKEN_IDS:
        if isinstance(found.get(name), list):
            found[name] = [_outside(token) for token in found[name]]
        elif found.get(name) is not None:
            found[name] = _outside(found[name])
    return found


def _outside(token: int) -> int:
    return int(words().known[token]) if token < len(words()) else token


def _without_what_is_large(file: Path, plan: Plan, folder: Path) -> None:
    inside = file.relative_to(folder)
    kept = any(inside.match(pattern) for pattern in plan.keep)
    of_checkpoint = any(part.match(p) for part in _parts(inside) for p in FOLDERS)
    large = file.suffix == ".safetensors" and file.stat().st_size > LARGEST
    dropped = any(inside.match(pattern) for pattern in DROPPED)
    if dropped or large or (of_checkpoint and not kept):
        file.unlink()
    elif file.name in ("config.json", "generation_config.json"):
        write_json(str(file), outside(json.loads(file.read_bytes())))


def _parts(path: Path) -> Iterator[Path]:
    yield from (Path(part) for part in path.parts)
