"""What vLLM needs on a GPU: a LoRA adapter in its layout, and the commands that start it.

vLLM fuses other layers than transformers does, and takes adapters by the names of the layers apart:
gate_proj and up_proj where transformers' GLM has gate_up_proj, and every expert by itself where it
has one parameter for all. Both are exact: the halves of a fused layer share lora_A, and an expert's
adapter is its slice. vLLM adapters hold no DoRA magnitudes and no rows of embeddings.

The layout follows vLLM's source; vLLM itself needs a GPU, and was not run here.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, TypeAlias

from glmprep.console import file_errors
from glmprep.errors import InputError, UsageError
from torch import Tensor

from glmtrain import adapters, serving, trained
from glmtrain.inference import Asked
from glmtrain.model import TINY
from glmtrain.prefix import WHY_NOT_MERGED

RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""What `--max-lora-rank` may be."""
KEPT = ("peft_type", "task_type", "base_model_name_or_path", "r", "lora_alpha", "use_rslora")
FUSED, PARTS = "gate_up_proj", ("gate_proj", "up_proj")
EXPERTS = re.compile(r"^(.*\.experts)((?:\.base_layer)*)$")
PARSERS = {"glm4.5": "glm45", "glm4.6": "glm45", "glm4.7": "glm47"}
"""vLLM's parsers of tool calls by template; their reasoning is read by glm45."""
Pair: TypeAlias = tuple[Tensor, Tensor]
"""lora_A [rank, in] and lora_B [out, rank] of a layer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """An adapter for vLLM: where, of how many weights, and how vLLM is started with it."""

    output: Path
    weights: int
    rank: int
    command: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {
            "output": str(self.output),
            "weights": self.weights,
            "rank": self.rank,
            "command": list(self.command),
        }


def export(folder: Path, output: Path, *, overwrite: bool = False) -> Exported:
    """Write a run's LoRA adapter in vLLM's layout.

    Raises UsageError for an adapter that vLLM cannot take, InputError for a damaged one.
    """
    from safetensors.torch import load_file, save_file

    run = trained.read(folder)
    if run.config.model.method not in ("lora", "qlora"):
        raise UsageError(f"{folder}: trained by {run.config.model.method}, so it has no LoRA")
    if run.config.model.path == TINY:
        raise UsageError(f"{folder}: adapts the model {TINY!r}, which vLLM cannot read")
    if output.exists() and not (overwrite and (output / adapters.WEIGHTS).is_file()):
        raise UsageError(f"{output}: is there already; name another --output")
    with file_errors(folder):
        settings = json.loads((folder / adapters.CONFIGURATION).read_text("utf-8"))
        weights = load_file(folder / adapters.WEIGHTS)
    _require_takeable(folder, settings)
    layers = dict(_layers(weights, int(settings["r"])))
    tensors = {
        f"{name}.{side}.weight": half.contiguous()
        for name, pair in layers.items()
        for side, half in zip(("lora_A", "lora_B"), pair, strict=True)
    }
    modules = sorted({name.rpartition(".")[2] for name in layers})
    told = {name: settings[name] for name in KEPT} | {"target_modules": modules, "bias": "none"}
    with file_errors(output):
        output.absolute().parent.mkdir(parents=True, exist_ok=True)
        place = Path(mkdtemp(prefix=f".{output.name}.", dir=output.absolute().parent))
        place.chmod(0o755)
        save_file(tensors, place / adapters.WEIGHTS, metadata={"format": "pt"})
        text = json.dumps(told, indent=2) + "\n"
        (place / adapters.CONFIGURATION).write_text(text, encoding="utf-8")
        if output.is_dir():
            shutil.rmtree(output)
        place.rename(output)
    line = [*_serve(run.config.model.path, folder.resolve().name), "--enable-lora"]
    line += ["--max-lora-rank", str(_limit(folder, settings["r"]))]
    line += ["--lora-modules", f"{folder.resolve().name}-lora={output}"]
    if run.config.model.method == "qlora":
        line += ["--quantization", "bitsandbytes"]
    return Exported(
        output=output, weights=len(tensors), rank=int(settings["r"]), command=(shlex.join(line),)
    )


def command(asked: Asked, *, host: str, port: int, name: str, keyed: bool) -> list[str]:
    """The lines that serve a model by vLLM on a GPU; an adapter is merged first.

    vLLM ends answers at the stops of the folder's generation_config.json, which `merge` writes.
    """
    if not keyed:
        serving.require_key(host, None)
    lines, more = [], ["--host", host, "--port", str(port)]
    path, length = asked.model, asked.prepared.get("max_length")
    if asked.adapter is not None:
        run = trained.read(asked.adapter)
        if run.config.model.method == "ptuning":
            raise UsageError(f"{asked.adapter}: vLLM takes no prefix, and {WHY_NOT_MERGED}")
        path = f"{asked.adapter.resolve()}-merged"
        lines.append(shlex.join(["glmtrain", "merge", str(asked.adapter.resolve()), "-o", path]))
        length = length or run.prepared.cutting.max_length
        if run.family in PARSERS:
            more += ["--enable-auto-tool-choice", "--tool-call-parser", PARSERS[run.family]]
            more += ["--reasoning-parser", "glm45"]
    if path is None or path == TINY:
        raise UsageError("--model tiny: vLLM reads folders; name one, or --adapter RUN_DIR")
    if length:
        more += ["--max-model-len", str(length)]
    key = f' --api-key "${serving.KEY_VARIABLE}"' if keyed else ""
    return [*lines, shlex.join([*_serve(path, name), *more]) + key]


def _serve(path: str, name: str) -> list[str]:
    return ["vllm", "serve", path, "--served-model-name", name]


def _require_takeable(folder: Path, settings: Mapping[str, Any]) -> None:
    """Raise UsageError for an adapter that holds what vLLM cannot take."""
    amiss = {
        "use_dora": "DoRA magnitudes",
        "trainable_token_indices": "rows of new tokens",
        "modules_to_save": "whole layers",
    }
    for name, what in amiss.items():
        if settings.get(name):
            raise UsageError(
                f"{folder}: holds {what}, which vLLM takes in no adapter; leave out --vllm to "
                "merge it into the model"
            )
    _limit(folder, settings["r"])


def _limit(folder: Path, rank: int) -> int:
    """The smallest limit of vLLM that has room for a rank."""
    for limit in RANKS:
        if rank <= limit:
            return limit
    raise UsageError(
        f"{folder}: rank {rank}, and vLLM takes {RANKS[-1]} at most; leave out --vllm to merge it"
    )


def _layers(weights: Mapping[str, Tensor], rank: int) -> Iterator[tuple[str, Pair]]:
    """Each of vLLM's layers with its pair."""
    names = sorted({name.rsplit(".lora_", 1)[0] for name in weights})
    pairs = {name: (_one(weights, name, "A"), _one(weights, name, "B")) for name in names}
    experts: dict[str, list[Pair]] = {}
    for name, pair in pairs.items():
        match = EXPERTS.match(name)
        if match is not None:
            experts.setdefault(match[1], []).append(pair)
        else:
            yield from _split(name, pair)
    for name, found in experts.items():
        yield from _of_experts(name, found, rank)


def _one(weights: Mapping[str, Tensor], name: str, side: str) -> Tensor:
    try:
        return weights[f"{name}.lora_{side}.weight"]
    except KeyError as error:
        raise InputError(f"{name}: no lora_{side} in the adapter; it is damaged") from error


def _split(name: str, pair: Pair) -> Iterator[tuple[str, Pair]]:
    """A layer as vLLM names it: the halves of a fused one apart."""
    before, _, last = name.rpartition(".")
    if last != FUSED:
        yield name, pair
        return
    first, second = pair
    for part, half in zip(PARTS, second.chunk(2), strict=True):
        yield f"{before}.{part}", (first.clone(), half)


def _of_experts(name: str, found: list[Pair], rank: int) -> Iterator[tuple[str, Pair]]:
    """The experts' adapters apart; peft keeps lora_A [experts x rank, in], lora_B [out, rank x
    experts].
    """
    for (first, second), last in zip(found, _roles(name, found), strict=True):
        count = len(first) // rank
        ups = second.reshape(len(second), rank, count)
        for place, down in enumerate(first.reshape(count, rank, -1)):
            yield from _split(f"{name}.{place}.{last}", (down, ups[:, :, place]))


def _roles(name: str, found: Iterable[Pair]) -> tuple[str, ...]:
    """Which parameter each pair adapts; peft's names don't say, but the shapes do."""
    sizes = [(first.shape[1], len(second)) for first, second in found]
    if len(sizes) == 2:
        (a_in, a_out), (b_in, b_out) = sizes
        if a_out == 2 * b_in and a_in == b_out:
            return FUSED, "down_proj"
        if b_out == 2 * a_in and b_in == a_out:
            return "down_proj", FUSED
    raise UsageError(
        f"{name}: vLLM needs adapters of both parameters of the experts; leave out --vllm to "
        "merge it into the model"
    )
