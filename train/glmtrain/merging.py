"""A run's adapter merged into its base: a model that stands by itself, proven to answer alike.

OUTPUT/
    model*.safetensors, config.json    the merged weights, in one number format
    generation_config.json             ends answers at the stops of the training data
    tokenizer.json, …, chat_template.jinja    where they are at hand
    merged.json                        what was merged, and the proof

The folder appears when it is whole and proven; else nothing is left there.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from glmprep import families, shards
from glmprep.console import file_errors
from glmprep.errors import InputError, SuiteError, UsageError
from torch import Tensor

from glmtrain import adapters, model, parity, precision, pretrained, settings, trained
from glmtrain.inference import tokenizer_of
from glmtrain.model import CausalModel
from glmtrain.parity import Parity
from glmtrain.precision import Precision
from glmtrain.prefix import WHY_NOT_MERGED
from glmtrain.probe import default_device
from glmtrain.prompt import Prompter
from glmtrain.settings import DType
from glmtrain.trained import Trained

RECORD = "merged.json"
FORMAT = "glmtrain-merged/1"
SHARD = "5GB"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be merged, and where to; None leaves it to the run."""

    run: Path
    output: Path
    base: str | None = None
    tokenizer: str | None = None
    template: Path | None = None
    dtype: DType | None = None
    overwrite: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """A merge: `written` is False where the proof failed, `remarks` are for a person."""

    output: Path
    dtype: DType
    stops: tuple[int, ...]
    proof: Parity
    compared_on: str
    remarks: tuple[str, ...]

    @property
    def written(self) -> bool:
        """Whether the folder is there."""
        return self.proof.holds

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {
            "output": str(self.output),
            "written": self.written,
            "dtype": self.dtype,
            "stops": list(self.stops),
            "parity": self.proof.as_json(),
            "compared_on": self.compared_on,
            "remarks": list(self.remarks),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kit:
    """What goes beside the weights: tokenizer files if there are any, and the stops."""

    tokenizer: Any | None
    stops: tuple[int, ...]
    remarks: tuple[str, ...]


def merge(wanted: Wanted) -> Merged:
    """Merge, write, load again and compare; raises SuiteError (and its kinds) for what is amiss."""
    run = trained.read(wanted.run)
    if run.config.model.method == "ptuning":
        raise UsageError(f"{run.folder}: a prefix cannot be merged: {WHY_NOT_MERGED}")
    _require_free(wanted)
    path = wanted.base or (str(run.folder) if run.whole else run.config.model.path)
    chosen = _precision(wanted.dtype or run.config.precision.dtype)
    with model.quiet_libraries(), _place(wanted.output) as place:
        kit = _kit(wanted, path, run)
        causal, adapter = _adapted(path, run, chosen)
        asked, compared_on = parity.prompts(run.config.data.shards, len(model.head_weight(causal)))
        expected, base = _answers(causal, adapter, asked, chosen)
        if adapter is not None:
            causal = _merge_in(adapter, run)
        _write(causal, kit, place)
        del causal, adapter
        again = model.load(str(place), chosen.dtype).to(chosen.device).eval()
        found = parity.logits(again, asked, chosen)
        proof = parity.compare(expected, found, base, chosen.name)
        merged = Merged(
            output=wanted.output,
            dtype=chosen.name,
            stops=kit.stops,
            proof=proof,
            compared_on=compared_on,
            remarks=(*kit.remarks, *_remarks(run, proof)),
        )
        if merged.written:
            _record(place, run, merged)
            _put(place, wanted.output)
    return merged


def _precision(dtype: DType) -> Precision:
    return precision.choose(settings.Precision(dtype=dtype), default_device())


def _require_free(wanted: Wanted) -> None:
    """Raise UsageError where something would be lost."""
    output = wanted.output
    if output.exists() and not output.is_dir():
        raise UsageError(f"{output}: is a file; name a folder with --output")
    if not output.is_dir() or not any(output.iterdir()):
        return
    if not (output / RECORD).is_file():
        raise UsageError(f"{output}: holds other files; name another --output")
    if not wanted.overwrite:
        raise UsageError(f"{output}: holds a merged model; pass --overwrite to replace it")


@contextmanager
def _place(output: Path) -> Iterator[Path]:
    """A new folder beside the output; what is still there afterwards is removed."""
    with file_errors(output):
        output.absolute().parent.mkdir(parents=True, exist_ok=True)
        place = Path(mkdtemp(prefix=f".{output.name}.", dir=output.absolute().parent))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _adapted(path: str, run: Trained, chosen: Precision) -> tuple[CausalModel, Any | None]:
    """The base with its adapter, and peft's view of it, which is None for a whole model."""
    if run.whole:
        return model.load(path, chosen.dtype).to(chosen.device).eval(), None
    causal = trained.base(path, run, chosen).to(chosen.dtype)
    adapter = adapters.attach(causal, run.folder)
    causal.to(chosen.device).eval()
    return causal, adapter


def _answers(
    causal: CausalModel, adapter: Any | None, asked: list[list[int]], chosen: Precision
) -> tuple[Tensor, Tensor | None]:
    """Logits with the adapter, and without it."""
    expected = parity.logits(causal, asked, chosen)
    if adapter is None:
        return expected, None
    with adapter.disable_adapter():
        return expected, parity.logits(causal, asked, chosen)


def _merge_in(adapter: Any, run: Trained) -> CausalModel:
    """The base with the adapter in its weights, one layer at a time."""
    try:
        return adapter.merge_and_unload(safe_merge=True)
    except ValueError as error:  # what peft raises for weights that are no longer numbers
        raise InputError(f"{run.folder}: merging gives weights that are not numbers") from error


def _write(causal: CausalModel, kit: _Kit, place: Path) -> None:
    """The model's folder, with what ends its answers."""
    causal.config.use_cache = True
    own = causal.generation_config
    # Without its mark "made from the configuration", by which it would be made anew when loaded.
    kept = {name: x for name, x in own.to_diff_dict().items() if not name.startswith("_")}
    causal.generation_config = type(own)(**kept | {"use_cache": True})
    if kit.stops:
        causal.generation_config.eos_token_id = list(kit.stops)
        causal.config.eos_token_id = list(kit.stops)
    with file_errors(place):
        causal.save_pretrained(place, max_shard_size=SHARD)
        if kit.tokenizer is not None:
            kit.tokenizer.save_pretrained(place)


def _kit(wanted: Wanted, path: str, run: Trained) -> _Kit:
    """The run's tokenizer and template, as far as they are at hand, and the stop contract."""
    try:
        tokenizer = tokenizer_of(wanted.tokenizer, path, run)
        built_in = run.family in families.FAMILIES
        name = run.family if built_in and wanted.template is None else "auto"
        thinking = run.prepared.thinking
        family = families.load(name, tokenizer, template=wanted.template, thinking=thinking)
        if family.name != run.family:
            raise UsageError(f"no template {run.family} is at hand; pass it as --template FILE")
        made = pretrained.load(tokenizer, family, wanted.template)
    except SuiteError as error:
        if wanted.tokenizer is not None or wanted.template is not None:
            raise
        remark = f"no tokenizer is written: {error}"
        return _Kit(tokenizer=None, stops=_told_stops(run), remarks=(remark,))
    stops = Prompter(family, tokenizer, thinks=False).stops
    return _Kit(tokenizer=made, stops=tuple(sorted({*stops, *_told_stops(run)})), remarks=())


def _told_stops(run: Trained) -> tuple[int, ...]:
    """The stops that the manifests of the run's shards name, as far as they are still there."""
    found: set[int] = set()
    for folder in run.config.data.shards:
        try:
            found |= set(shards.read_manifest(Path(folder)).stop_ids)
        except InputError:
            continue
    return tuple(sorted(found))


def _remarks(run: Trained, proof: Parity) -> Iterator[str]:
    """What a person should know of this merge."""
    if run.whole:
        yield "the run trained the whole model, so there was no adapter; it is written as it is"
    if run.config.model.method == "qlora":
        yield (
            "QLoRA: the base is written with the values that its four bits stand for, which the "
            "adapter was trained on; the base's own weights would not give the same logits"
        )
    if proof.lost is not None and proof.lost > parity.LOST:
        yield (
            f"rounding to the number format takes {proof.lost:.0%} of what the adapter changes; "
            "--dtype fp32 keeps it, and so does using the adapter as it is"
        )


def _record(place: Path, run: Trained, merged: Merged) -> None:
    record: Mapping[str, Any] = {
        "format": FORMAT,
        "base": run.base,
        "base_path": run.config.model.path,
        "method": run.config.model.method,
        "dtype": merged.dtype,
        "family": run.family,
        "tokenizer": dict(run.tokenizer),
        "added_tokens": dict(run.added_tokens),
        "max_length": run.prepared.cutting.max_length,
        "stops": list(merged.stops),
        "parity": merged.proof.as_json(),
        "compared_on": merged.compared_on.partition(" of ")[0],
    }
    with file_errors(place):
        (place / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _put(place: Path, output: Path) -> None:
    """Move the folder to where it belongs, in place of an earlier one."""
    with file_errors(output):
        place.chmod(0o755)
        if output.is_dir():
            shutil.rmtree(output)
        place.rename(output)
