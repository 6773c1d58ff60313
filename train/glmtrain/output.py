"""The folder of a run: who may write there, what is recorded, and where the weights end up."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from glmprep.console import file_errors
from glmprep.errors import InputError, UsageError
from glmprep.files import write_atomically
from torch import Tensor

from glmtrain import checkpoint, evidence, methods
from glmtrain.config import Settings, as_dict, build, read_toml, to_toml
from glmtrain.data import TrainingData
from glmtrain.learner import Learner
from glmtrain.metrics import METRICS
from glmtrain.plan import Plan
from glmtrain.settings import Config

FORMAT = "glmtrain-run/1"
RESOLVED = "config.resolved.toml"
RECORD = "run.json"
WEIGHTS = ("adapter_config.json", "adapter_model.safetensors", "model*.safetensors*")
OURS = (RECORD, RESOLVED, METRICS, *WEIGHTS, "config.json", "generation_config.json")
# What a resumed run may not change: it decides which weights there are and which rows come next.
FIXED = (
    "model.method",
    "model.adapter",
    "data.order",
    "data.mixing",
    "data.stages",
    "data.tokens_per_batch",
    "data.accumulate",
    "optimiser.name",
    "lora.",
    "prefix.",
    "distill.",
    "run.seed",
    "run.sample_tokens",
)
SAME = ("manifest_sha256", "weight", "share")
"""What must be as it was of each shard folder; it may lie elsewhere now."""


@dataclass(frozen=True, slots=True)
class Output:
    """A run's folder."""

    folder: Path

    def check_free(self, *, resume: bool, overwrite: bool) -> None:
        """Raise UsageError where a run would be lost."""
        if self.folder.exists() and not self.folder.is_dir():
            raise UsageError(f"{self.folder}: is a file; name a folder with --output")
        holds_run = (self.folder / RECORD).exists()
        if holds_run and not (resume or overwrite):
            raise UsageError(
                f"{self.folder}: holds a run already; "
                "pass --resume to go on with it, --overwrite to replace it, or another --output"
            )

    def clear(self) -> None:
        """Remove what an earlier run left, if there was one."""
        if not (self.folder / RECORD).exists():
            return
        with file_errors(self.folder):
            for name in (checkpoint.FOLDER, evidence.FOLDER):
                shutil.rmtree(self.folder / name, ignore_errors=True)
            for path in [path for pattern in OURS for path in self.folder.glob(pattern)]:
                path.unlink()

    def new_record(
        self, base: Mapping[str, Any], data: TrainingData, trainable: int
    ) -> dict[str, Any]:
        """What is known of a run before its first step."""
        return {
            "format": FORMAT,
            "state": "unfinished",
            "base": dict(base),
            "trainable_parameters": trainable,
            "shards": data.fingerprints(),
            "tokenizer": dict(data.manifests[0].tokenizer),
            "added_tokens": data.manifests[0].added_ids,
            "family": data.manifests[0].family,
            "max_length": max(manifest.max_length for manifest in data.manifests),
            "prepared": dict(data.manifests[0].config),
            "versions": {name: version(name) for name in ("torch", "transformers", "peft")},
        }

    def continue_record(
        self, config: Config, base: Mapping[str, Any], shards: Sequence[Mapping[str, Any]]
    ) -> dict[str, Any]:
        """The record of the run that is gone on with.

        Raises UsageError where settings, base model or shards are not those of that run.
        """
        record = read_record(self.folder)
        before = build([resolved(self.folder)])
        changed = [name for name in _changed(before, config) if name.startswith(FIXED)]
        if changed:
            raise UsageError(
                f"{self.folder}: its run had another {changed[0]}; "
                "a resumed run keeps it, so leave the option out or name another --output"
            )
        for what, then, now in (
            ("base model", record["base"]["fingerprint"], base["fingerprint"]),
            (
                "shards",
                *([[s.get(n) for n in SAME] for s in side] for side in (record["shards"], shards)),
            ),
        ):
            if then != now:
                raise UsageError(
                    f"{self.folder}: the {what} changed since its run began, "
                    "so it cannot be resumed; start another with --output"
                )
        return record | {"state": "unfinished"}

    def write(self, record: Mapping[str, Any], plan: Plan) -> None:
        """Put the record and the resolved configuration in the folder."""
        course = {"steps": plan.steps, "steps_per_epoch": plan.steps_per_epoch}
        decisions = [str(decision) for decision in plan.decisions]
        text = json.dumps({**record, **course, "decisions": decisions}, indent=2, allow_nan=False)
        with file_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            resolved = to_toml(plan.config, notes=decisions)
            write_atomically(self.folder / RESOLVED, resolved.encode())
            write_atomically(self.folder / RECORD, text.encode() + b"\n")

    def place_weights(self, learner: Learner, weights: Mapping[str, Tensor]) -> None:
        """Save what was trained; weights come first, so that a configuration has its weights."""
        temporary = self.folder / ".weights.tmp"
        with file_errors(self.folder):
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
            methods.save(learner, temporary, weights)
            for path in sorted(temporary.iterdir(), key=lambda p: p.suffix != ".safetensors"):
                path.replace(self.folder / path.name)
            temporary.rmdir()


def resolved(folder: Path) -> tuple[str, Settings]:
    """The settings of the run in `folder`; raises UsageError where there is none."""
    path = folder / RESOLVED
    if not path.is_file():
        raise UsageError(f"{folder}: holds no run; leave out --resume to start one")
    return str(path), read_toml(path)


def _changed(before: Config, now: Config) -> list[str]:
    return [
        f"{section}.{name}"
        for section, values in as_dict(before).items()
        for name, value in values.items()
        if value != as_dict(now)[section][name]
    ]


def read_record(folder: Path) -> dict[str, Any]:
    """The record of the run in `folder`; raises InputError where there is none that can be read."""
    path = folder / RECORD
    try:
        record: dict[str, Any] = json.loads(path.read_bytes())
        if record["format"] != FORMAT:
            raise InputError(f"{path}: format {record['format']!r}, this version reads {FORMAT!r}")
        return record
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: not the record of a run ({error!r})") from error
