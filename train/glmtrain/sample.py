"""Answers to measure a finished run by: of what it was trained on, and of what it was not."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from glmprep.errors import UsageError

from glmtrain import data, exchanges
from glmtrain.data import TrainingData
from glmtrain.exchanges import Exchange


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Answers with their prompts, the tokens that end one, and the largest id in the shards."""

    trained: Sequence[Exchange]
    held_out: Sequence[Exchange]
    stops: Collection[int]
    largest_id: int


def draw(
    folders: Sequence[str],
    held_out: str | None,
    *,
    seed: int,
    most: int = exchanges.MOST,
    tokens: int | None = None,
) -> Sample:
    """Draw `most` answers of the shards in `folders`, or until they hold `tokens`, and of others.

    Raises UsageError for held-out shards that are among those in `folders`, or not made alike, and
    as `data.load` does.
    """
    with TemporaryDirectory(prefix="glmtrain-") as unpacked:
        trained = data.load(folders, unpacked=Path(unpacked) / "trained")
        parts = [trained]
        if held_out is not None:
            parts.append(data.load([held_out], unpacked=Path(unpacked) / "held-out"))
            _check_held_out(held_out, parts[1], trained)
        limits = [tokens or int(part.rows.supervised.sum()) for part in parts]
        drawn = [
            exchanges.draw(part, limit, seed, most=most)
            for part, limit in zip(parts, limits, strict=True)
        ]
        return Sample(
            trained=drawn[0],
            held_out=drawn[1] if held_out is not None else [],
            stops={stop for manifest in trained.manifests for stop in manifest.stop_ids},
            largest_id=max(part.largest_id for part in parts),
        )


def _check_held_out(folder: str, held: TrainingData, trained: TrainingData) -> None:
    (digest,) = (each["manifest_sha256"] for each in held.fingerprints())
    if digest in [each["manifest_sha256"] for each in trained.fingerprints()]:
        raise UsageError(f"--validation {folder}: the run was trained on these very shards")
    if held.manifests[0].tokenizer != trained.manifests[0].tokenizer:
        raise UsageError(f"--validation {folder}: made with another tokenizer than the run's data")
