"""What a folder holds, and all that is measured of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from glmprep import shards
from glmprep.errors import InputError, SuiteError
from glmreport.text import Catalogue, Text

from glmdiag.checkpoints.adapter import Adapter, read_adapter
from glmdiag.checkpoints.base import Base, read_base
from glmdiag.checkpoints.changes import Change, by_layer, of_adapter, of_whole
from glmdiag.checkpoints.files import ADAPTER, CONFIG, listed, read_json, tensor_files
from glmdiag.checkpoints.optimiser import Optimiser, read_optimiser
from glmdiag.checkpoints.tensors import Weights, measure

Kind = Literal["run", "checkpoint", "adapter", "transformers", "model"]
RECORD, MERGED, STATE, TRAINER_STATE = "run.json", "merged.json", "state.json", "trainer_state.json"
GENERATION = "generation_config.json"
STEP = re.compile(r"^(?:step|checkpoint)-(\d+)$")
SERIES = 4
"""So many of the latest checkpoints are compared."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A folder taken apart; what it does not hold is None or empty.

    `series` has the weights of the latest checkpoints by step. `listed` is what the index of a
    model in parts promises. `stops` are the ids that training ended answers at, `ends` those at
    which the folder ends generation. `tokenizer_size` is one more than the largest id of the
    tokenizer beside it, or of the added tokens that a run records. `notes` say what was not seen.
    """

    folder: Path
    kind: Kind
    weights: Weights
    weights_folder: Path
    record: Mapping[str, Any] | None = None
    config: Mapping[str, Any] | None = None
    adapter_config: Mapping[str, Any] | None = None
    adapter: Adapter | None = None
    base: Base | None = None
    optimiser: Optimiser | None = None
    state: Mapping[str, Any] | None = None
    step: int | None = None
    told_steps: Mapping[str, int] | None = None
    series: Mapping[int, Weights] | None = None
    listed: Mapping[str, str] | None = None
    changes: Sequence[Change] = ()
    stops: Sequence[int] | None = None
    ends: Sequence[int] | None = None
    tokenizer_size: int | None = None
    damaged: Mapping[str, str] | None = None
    unread: Mapping[str, str] | None = None
    notes: Sequence[Text] = ()

    @property
    def changed(self) -> list[tuple[int | None, float]]:
        """|ΔW| / |W| of each layer; None for what is in none."""
        return by_layer(self.changes)

    def as_json(self) -> dict[str, Any]:
        """What was measured, as JSON values."""
        return {
            "folder": str(self.folder),
            "kind": self.kind,
            "step": self.step,
            "tensors": len(self.weights.tensors),
            "parameters": self.weights.parameters,
            "number_formats": self.weights.bytes_by_dtype,
            "adapter": self.adapter
            and {
                "kind": self.adapter.kind,
                "rank": self.adapter.rank,
                "scale": self.adapter.scale,
                "modules": len(self.adapter.pairs),
            },
            "base": None if self.base is None else str(self.base.folder or "tiny"),
            "change_by_layer": [
                {"layer": layer, "relative": _number(x)} for layer, x in self.changed
            ],
            "optimiser": self.optimiser and self.optimiser.as_json(),
            "checkpoints": sorted(self.series or {}),
            "damaged": dict(self.damaged or {}),
            "unread": dict(self.unread or {}),
            "notes": [Catalogue.load("en").say(note) for note in self.notes],
        }


def read(folder: Path, base: str | Path | None = None) -> Checkpoint:
    """Examine a run, a checkpoint, an adapter or a model; raises InputError for none of these.

    `base` is the folder of the base model, or `tiny`; without it what the folder names is taken
    where it is at hand.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    kind = _kind(folder)
    if kind is None:
        raise InputError(
            f"{folder}: holds no run, checkpoint, adapter or model (no {RECORD}, {ADAPTER}, "
            f"{TRAINER_STATE} or weights in safetensors)"
        )
    steps = _steps(folder)
    newest = folder if kind != "run" and not steps else (steps or {-1: folder})[max(steps or {-1})]
    return _read(folder, kind, newest, steps, base)


def _read(
    folder: Path, kind: Kind, newest: Path, steps: Mapping[int, Path], told: str | Path | None
) -> Checkpoint:
    files = _weight_files(folder) or _weight_files(newest)
    place = files[0].parent if files else folder
    weights = measure(files)
    config = read_json(place / ADAPTER) if (place / ADAPTER).is_file() else None
    adapter = None if config is None else read_adapter(config, weights.tensors)
    record = _optional(folder / RECORD) or _optional(folder.parent.parent / RECORD)
    notes: list[Text] = []
    base = _base(told, record, adapter, notes)
    optimiser, damaged, unread = read_optimiser(newest)
    state = _optional(newest / STATE) or _optional(newest / TRAINER_STATE)
    merged = _optional(folder / MERGED)
    return Checkpoint(
        folder=folder,
        kind=kind,
        weights=weights,
        weights_folder=place,
        record=record,
        config=_optional(place / CONFIG),
        adapter_config=config,
        adapter=adapter,
        base=base,
        optimiser=optimiser,
        state=state,
        step=_step(newest),
        told_steps=_told_steps(state),
        series=_series(folder, steps),
        listed=listed(place) if kind in ("model", "transformers", "run") else {},
        changes=list(_changes(weights, adapter, base, place)),
        stops=_stops(record, merged),
        ends=_ends(folder),
        tokenizer_size=_tokenizer_size(place, record),
        damaged={**weights.damaged, **damaged},
        unread={**weights.unread, **unread},
        notes=notes,
    )


def _kind(folder: Path) -> Kind | None:
    if (folder / RECORD).is_file():
        return "run"
    if (folder / STATE).is_file() and (folder / "weights.safetensors").is_file():
        return "checkpoint"
    if (folder / TRAINER_STATE).is_file() or any(folder.glob("checkpoint-*/" + TRAINER_STATE)):
        return "transformers"
    if (folder / ADAPTER).is_file() or tensor_files(folder, "adapter"):
        return "adapter"
    if (folder / CONFIG).is_file() or tensor_files(folder, "model"):
        return "model"
    return "checkpoint" if tensor_files(folder, "weights") else None


def _weight_files(folder: Path) -> list[Path]:
    for kind in ("adapter", "model", "weights"):
        if found := tensor_files(folder, kind):
            return found
    return []


def _steps(folder: Path) -> dict[int, Path]:
    """The checkpoints of a run by step."""
    found = [*folder.glob("checkpoints/step-*"), *folder.glob("checkpoint-*")]
    return {step: path for path in found if (step := _step(path)) is not None and path.is_dir()}


def _step(folder: Path) -> int | None:
    found = STEP.match(folder.name)
    return int(found[1]) if found else None


def _series(folder: Path, steps: Mapping[int, Path]) -> dict[int, Weights]:
    """The weights of the latest checkpoints of a run, or of a checkpoint and the one before it."""
    own = _step(folder)
    if own is not None:
        beside = [*folder.parent.glob("step-*"), *folder.parent.glob("checkpoint-*")]
        all_steps = {step: path for path in beside if (step := _step(path)) is not None}
        before = [step for step in sorted(all_steps) if step <= own][-2:]
        steps = {step: all_steps[step] for step in before}
    latest = sorted(steps)[-SERIES:]
    found = {step: measure(_weight_files(steps[step])) for step in latest}
    return {step: weights for step, weights in found.items() if weights.tensors}


def _base(
    told: str | Path | None,
    record: Mapping[str, Any] | None,
    adapter: Adapter | None,
    notes: list[Text],
) -> Base | None:
    """The base that was named, or the one that the folder names where it is at hand."""
    if told is not None:
        return read_base(told)
    recorded = record.get("base") if record else None
    path = recorded.get("path") if isinstance(recorded, dict) else None
    path = path if isinstance(path, str) else adapter and adapter.base_path
    if not path:
        return None
    try:
        return read_base(path)
    except InputError:
        notes.append(Text("diag.checkpoint.absent", path=path[:200]))
        return None


def _changes(
    weights: Weights, adapter: Adapter | None, base: Base | None, place: Path
) -> Iterator[Change]:
    if base is None:
        return
    if adapter is not None:
        yield from of_adapter(adapter, base, place)
    else:
        yield from of_whole(weights, base, place)


def _told_steps(state: Mapping[str, Any] | None) -> dict[str, int]:
    """The steps that the state of a checkpoint names."""
    names = ("step", "global_step")
    said = {name: (state or {}).get(name) for name in names}
    return {name: step for name, step in said.items() if isinstance(step, int)}


def _stops(
    record: Mapping[str, Any] | None, merged: Mapping[str, Any] | None
) -> Sequence[int] | None:
    """The ids at which training ended answers, as recorded or as the shards still say."""
    said = (merged or {}).get("stops")
    if isinstance(said, list):
        return [stop for stop in said if isinstance(stop, int)]
    found: set[int] = set()
    sources = (record or {}).get("shards")
    for source in sources if isinstance(sources, list) else []:
        folder = source.get("folder") if isinstance(source, dict) else None
        try:
            found |= set(shards.read_manifest(Path(str(folder))).stop_ids)
        except (SuiteError, OSError):
            continue
    return sorted(found) or None


def _ends(folder: Path) -> Sequence[int] | None:
    said = (_optional(folder / GENERATION) or {}).get("eos_token_id")
    ids = [one for one in (said if isinstance(said, list) else [said]) if isinstance(one, int)]
    return ids or None


def _tokenizer_size(place: Path, record: Mapping[str, Any] | None) -> int | None:
    """One more than the largest id that text can come to."""
    added = (record or {}).get("added_tokens")
    ids = [one for one in added.values() if isinstance(one, int)] if isinstance(added, dict) else []
    tokens = (_optional(place / "tokenizer.json") or {}).get("added_tokens")
    for token in tokens if isinstance(tokens, list) else []:
        if isinstance(token, dict) and isinstance(token.get("id"), int):
            ids.append(token["id"])
    return max(ids) + 1 if ids else None


def _optional(path: Path) -> dict[str, Any] | None:
    """A JSON object where there is one."""
    return read_json(path) if path.is_file() else None


def _number(value: float) -> float | None:
    return value if value == value and abs(value) != float("inf") else None
