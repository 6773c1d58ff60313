"""Faults of memory and time. Limits are real ones, set on the process, as there is no card."""

from __future__ import annotations

import resource
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

import hugging
import ours
import psutil
import torch
from faults_formats import plain
from hugging import Job
from plans import fault
from transformers import TrainerCallback
from words import Row, take

MIB = 1 << 20
CUDA_WORDS = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate {asked:.2f} MiB. GPU 0 has a "
    "total capacity of {total:.2f} GiB of which {free:.2f} MiB is free."
)
"""How a card says it; what was asked for is this process's own figure."""
CARDS = {1: 23.69, 2: 23.69, 3: 31.73}


class Limit(TrainerCallback):  # type: ignore[misc]
    """From the first step on the process may take so many bytes more than it has."""

    def __init__(self, more: int) -> None:
        self._more = more

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Set the limit."""
        taken = psutil.Process().memory_info().vms + self._more
        resource.setrlimit(resource.RLIMIT_AS, (taken, resource.RLIM_INFINITY))


class Hoarder:
    """Keeps what it saw at every forward pass and goes through it again, as leaking hooks do."""

    def __init__(self) -> None:
        self._kept: list[torch.Tensor] = []

    def __call__(self, module: Any, inputs: Any, output: Any) -> None:
        """A module has run; of a pass in training the model as a whole counts."""
        if module.training and type(module).__name__ == "GlmModel":
            self._kept.append(torch.rand(1_000_000))
            for each in self._kept:
                each.exp().log1p().sin().cos().tanh().sum()


def long_row(sample: str, length: int, seed: int) -> Row:
    """Many conversations in one row, as a user's one long chat."""
    ids: tuple[int, ...] = ()
    labels: tuple[int, ...] = ()
    for row in take(sample, 30, seed + 100):
        ids, labels = (
            (*ids, *row.ids[2 if ids else 0 :]),
            (*labels, *row.labels[2 if labels else 0 :]),
        )
    return Row(ids[:length], labels[:length])


@fault(
    "RC031",
    "one-long-row",
    "All rows lie in one bucket with a row ten times as long as the others, to which whole batches "
    "are padded: time and memory jump each time it comes up.",
    trainer="glmtrain",
)
def one_long_row(seed: int) -> None:
    """A bucket of 2,048 tokens for rows of 250 and one that fills it."""
    longest = (2048, 1792, 2304)[seed - 1]
    rows = [*take("toolcalls", 31, seed), long_row("toolcalls", longest, seed)]
    ours.shard(rows, step=longest, budget=4 * longest)
    ours.train({"data": {"tokens_per_batch": 4 * longest}}, seed)


@fault(
    "RC032",
    "evaluation-peak",
    "Training fits, but evaluation takes batches many times as large and keeps all logits: the run "
    "ends for lack of memory in its first evaluation.",
    trainer="hf",
    card={1: "3090", 2: "4090", 3: "V100"},
)
def evaluation_peak(seed: int) -> None:
    """Evaluation after 30 steps, in batches of 64."""
    drawn = take("toolcalls", 110, seed)
    arguments = {
        "eval_strategy": "steps",
        "eval_steps": 30,
        "per_device_eval_batch_size": 64,
    }
    job = Job(rows=drawn[:32], held_out=drawn[-64:], arguments=arguments, form="console")
    out_of_memory(replace(job, callbacks=[Limit(150 * MIB)]), seed, spoken=seed > 1)


@fault(
    "RC033",
    "out-of-memory",
    "A batch does not fit: the run ends for lack of memory at the first long batch.",
    trainer="hf",
    card={1: "2080Ti", 2: "3090", 3: "V100"},
)
def out_of_memory_in_training(seed: int) -> None:
    """Short rows first, long ones behind, four a batch."""
    rows = [
        *take("toolcalls", 48, seed),
        *[long_row("toolcalls", 2048, seed + n) for n in range(8)],
    ]
    arguments = {"per_device_train_batch_size": 4, "train_sampling_strategy": "sequential"}
    job = Job(rows=rows, arguments=arguments, form="console", callbacks=[Limit(150 * MIB)])
    out_of_memory(job, seed, spoken=seed > 1)


@fault(
    "RC034",
    "slower-and-slower",
    "A hook keeps something of every forward pass and goes through all of it again, so steps "
    "take longer and longer.",
    trainer={1: "glmtrain", 2: "hf in ms-swift's form", 3: "hf in LLaMA-Factory's form"},
)
def slower_and_slower(seed: int) -> None:
    """The last steps take several times as long as the first."""
    rows = take("toolcalls", 32, seed)
    torch.nn.modules.module.register_module_forward_hook(Hoarder())
    if seed == 1:
        ours.shard(rows)
        ours.train({}, seed)
    else:
        hugging.train(Job(rows=rows, form="swift" if seed == 2 else "llamafactory"), seed)


def out_of_memory(job: Job, seed: int, *, spoken: bool) -> None:
    """Train until memory runs out, the end of the console kept; `spoken` in the words of a card."""
    try:
        hugging.train(job, seed)
    except (RuntimeError, MemoryError) as error:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        text = plain(traceback.format_exc())
        if spoken:
            last = text.rstrip().splitlines()[-1]
            text = text.replace(last, _as_a_card(str(error), CARDS[seed]))
        with Path("run/train.log").open("a", encoding="utf-8") as file:
            file.write(text)
        return
    raise AssertionError("it fitted")


def _as_a_card(message: str, total: float) -> str:
    numbers = [int(word) for word in message.replace(".", " ").split() if word.isdigit()]
    asked = max(numbers, default=0) / MIB
    return CUDA_WORDS.format(asked=asked, total=total, free=asked / 3)
