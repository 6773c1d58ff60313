"""Where this process stands among those that train together, and what they tell one another.

Processes are started by torchrun or `accelerate launch`; their environment says how many there are
and how they find one another. Without a launcher there is one process and no network.

What they tell one another outside the model is small and goes over gloo, from main memory, also
where NCCL carries the gradients. Proven with gloo on CPU, under torchrun and `accelerate launch`;
NCCL and several machines were not tried.

If a process dies, torchrun ends the others within seconds. Started otherwise, they notice at their
next exchange (gloo: at once, NCCL: after `devices.timeout_s`) and end with one line.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from glmprep.errors import InputError, SuiteError, UsageError

from glmtrain import settings
from glmtrain.probe import default_device

SLICING: frozenset[settings.Strategy] = frozenset({"fsdp2", "zero2", "zero3"})
"""Strategies that cut weights, gradients or moments into one slice a process."""

# How the libraries below begin their messages when another process is gone or silent.
_LOST = ("gloo", "nccl", "connection closed", "connection reset", "timed out", "broken pipe")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One process among `ranks`; `local_rank` counts those of its machine, `local_ranks` of them.

    Every method but `main` is a joint act, for all ranks together. With one rank they cost nothing.
    """

    rank: int
    ranks: int
    local_rank: int
    local_ranks: int
    device: torch.device
    strategy: settings.Strategy

    @property
    def main(self) -> bool:
        """Whether this process prints and writes; one does."""
        return self.rank == 0

    def total(self, values: Sequence[float]) -> list[float]:
        """The sum over all ranks of each value, in float64."""
        if self.ranks == 1:
            return list(values)
        sums = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(sums)
        found: list[float] = sums.tolist()
        return found

    def any(self, flag: bool) -> bool:
        """Whether it is so on any rank."""
        return self.total([flag])[0] > 0

    def share(self, value: Any) -> Any:
        """What rank 0 passes, on every rank; anything that JSON can hold."""
        if self.ranks == 1:
            return value
        # Not torch's own way for objects, which unpickles what comes over the network.
        data = json.dumps(value).encode() if self.main else b""
        (size,) = self.total([len(data)])
        buffer = torch.zeros(int(size), dtype=torch.uint8)
        if self.main:
            buffer.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
        dist.broadcast(buffer, src=0)
        return json.loads(bytes(buffer.tolist()))

    def barrier(self) -> None:
        """Wait until every rank has come here."""
        self.total([0.0])

    @contextmanager
    def turn(self) -> Iterator[None]:
        """One process of each machine after the other, where a strategy slices what is loaded.

        Each loads the whole model into main memory before it keeps its slice on the device; in
        turn, a machine holds one whole model at a time. With fsdp2 nothing inside may be a joint
        act, and up to the end of `strategies.make` nothing is. ddp, zero2 and zero3 exchange
        weights as they are made, so with them all load at once and this does nothing.
        """
        turns = self.local_ranks if self.strategy == "fsdp2" else 1
        for _ in range(self.local_rank if turns > 1 else 0):
            self.barrier()
        yield
        for _ in range(turns - self.local_rank if turns > 1 else 0):
            self.barrier()


@contextmanager
def join(chosen: settings.Devices) -> Iterator[Place]:
    """Take the place that the launcher gave this process, for as long as the run lasts.

    Once a process: the launcher's meeting point remembers the addresses of the first time.

    Raises UsageError for settings that contradict the launcher, SuiteError where another process
    is lost on the way.
    """
    ranks = _number("WORLD_SIZE", 1)
    local_rank = _number("LOCAL_RANK", 0)
    place = Place(
        rank=_number("RANK", 0),
        ranks=ranks,
        local_rank=local_rank,
        local_ranks=_number("LOCAL_WORLD_SIZE", ranks),
        device=_device(local_rank, _number("LOCAL_WORLD_SIZE", ranks)),
        strategy=strategy(chosen, os.environ),
    )
    if ranks == 1 and place.strategy == "single":
        yield place
        return
    if place.device.type == "cpu":
        # DeepSpeed says on stdout that it found nothing better, whoever imports it first.
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    _connect(place, timedelta(seconds=chosen.timeout_s))
    try:
        yield place
    except RuntimeError as error:
        if not _is_lost(error):
            raise
        raise SuiteError(
            f"process {place.rank} of {ranks} lost the others; what ended the first of them "
            f"stands further up ({_last_line(error)})"
        ) from error
    finally:
        dist.destroy_process_group()


def strategy(chosen: settings.Devices, environment: Mapping[str, str]) -> settings.Strategy:
    """The strategy asked for, else that of `accelerate launch`, else ddp for several processes.

    Raises UsageError for one that cannot be had here.
    """
    ranks = int(environment.get("WORLD_SIZE", "1"))
    name = chosen.strategy
    if name == "auto":
        name = _launched(environment) or ("ddp" if ranks > 1 else "single")
    if name == "single" and ranks > 1:
        raise UsageError(
            f"devices.strategy = single, but {ranks} processes were started; "
            "take ddp, fsdp2, zero2 or zero3, or start one"
        )
    if name == "ddp" and ranks == 1:
        name = "single"  # it is the same
    if name in ("zero2", "zero3") and find_spec("deepspeed") is None:
        raise UsageError(
            f"devices.strategy = {name} needs deepspeed: "
            "pip install 'glm-finetune-suite[deepspeed]', or take fsdp2"
        )
    if chosen.offload and name not in SLICING:
        raise UsageError(f"devices.offload has no effect with {name}: take fsdp2, zero2 or zero3")
    return name


def _launched(environment: Mapping[str, str]) -> settings.Strategy | None:
    """What `accelerate launch` was told to use, as far as there is an equal."""
    if environment.get("ACCELERATE_USE_FSDP", "").lower() == "true":
        return "fsdp2"  # version 1 slices the same; its other settings are torch's own business
    if environment.get("ACCELERATE_USE_DEEPSPEED", "").lower() != "true":
        return None
    stages: dict[str, settings.Strategy] = {"2": "zero2", "3": "zero3"}
    stage = _zero_stage(environment)
    if stage not in stages:
        raise UsageError(
            f"accelerate launch asks for ZeRO stage {stage}; there are 2 and 3: set "
            "zero_stage there, or devices.strategy here"
        )
    return stages[stage]


def _zero_stage(environment: Mapping[str, str]) -> str:
    """Its own option, or what stands in the DeepSpeed configuration that it names."""
    path = environment.get("ACCELERATE_DEEPSPEED_CONFIG_FILE")
    if path is None or path == "None":
        return environment.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", "2")
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        return str(content["zero_optimization"]["stage"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: names no zero_optimization.stage ({error!r})") from error


def _device(local_rank: int, local_ranks: int) -> torch.device:
    device = default_device()
    if device.type == "cpu" or local_ranks == 1:
        return device
    there = torch.accelerator.device_count()
    if local_rank >= there:
        raise UsageError(
            f"{local_ranks} processes on this machine, but {there} accelerators: "
            f"start {there} (torchrun --nproc-per-node {there})"
        )
    return torch.device(device.type, local_rank)


def _connect(place: Place, timeout: timedelta) -> None:
    """Make the process group. Slicing needs one also alone; that one is without a network."""
    carrier = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl"}.get(place.device.type)
    if place.device.type != "cpu":
        torch.accelerator.set_device_index(place.device)
    if place.ranks == 1:
        store = dist.HashStore()  # type: ignore[attr-defined]
        dist.init_process_group(carrier, store=store, rank=0, world_size=1, timeout=timeout)
        return
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise UsageError(
            f"WORLD_SIZE = {place.ranks}, but no {', '.join(missing)}: start it with torchrun or "
            "accelerate launch"
        )
    try:
        dist.init_process_group(carrier, timeout=timeout)
    except (RuntimeError, ValueError) as error:
        raise SuiteError(
            f"process {place.rank} of {place.ranks} found no others at "
            f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']} ({_last_line(error)})"
        ) from error


def _number(name: str, otherwise: int) -> int:
    text = os.environ.get(name, str(otherwise))
    if not text.isdecimal():
        raise UsageError(f"environment {name} = {text!r} is no number")
    return int(text)


def _is_lost(error: RuntimeError) -> bool:
    said = str(error).lower()
    return isinstance(error, dist.DistError) or any(part in said for part in _LOST)


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1][:120]
