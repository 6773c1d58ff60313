"""Sound runs, as different as users' are; a diagnoser that finds fault with one of them is wrong.

Their seeds go round by number, so that each part of the split has runs of all sorts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import hugging
import ours
from hugging import LORA, Job
from plans import REGISTRY, SEEDS, Plan
from words import Row, take

Settings = Mapping[str, Mapping[str, Any]]
FULL: dict[str, dict[str, Any]] = {
    "model": {"method": "full"},
    "optimiser": {"learning_rate": 1e-3},
}


GENTLE = {"learning_rate": 2e-3}


def rows(seed: int, count: int = 32) -> list[Row]:
    """What most runs train on."""
    return take("toolcalls", count, seed)


def of_ours(
    name: str, settings: Settings, *, count: int = 32, card: str = "A100", **sharded: Any
) -> None:
    """Plan a run of the suite's trainer; `held_out` rows are taken from behind the others."""
    held_out = sharded.pop("held_out", 0)

    def work(seed: int) -> None:
        drawn = rows(seed, count + held_out)
        ours.shard(drawn[:count], **sharded)
        given = {section: dict(values) for section, values in settings.items()}
        if held_out:
            ours.shard(drawn[count:], "data/held-out")
            given.setdefault("data", {})["validation"] = "data/held-out"
        ours.train(given, seed)

    plan(name, "glmtrain", card, work)


def of_hf(name: str, job: Job, *, count: int = 32, card: str = "A100", held_out: int = 0) -> None:
    """Plan a run of Hugging Face's Trainer."""

    def work(seed: int) -> None:
        drawn = rows(seed, count + held_out)
        hugging.train(replace(job, rows=drawn[:count], held_out=drawn[count:]), seed)

    plan(name, "hf", card, work)


def plan(name: str, trainer: str, card: str, work: Callable[[int], None]) -> None:
    """Register a sound run under the next seed."""
    sound = sum(each.cause is None for each in REGISTRY)
    REGISTRY.add(
        Plan(
            kind=f"healthy-{name}",
            seed=SEEDS[sound % len(SEEDS)],
            cause=None,
            planted="nothing",
            trainer=trainer,
            card=card,
            work=work,
            keep=("run/checkpoints/*/state.json",),
        )
    )


def resumed(seed: int) -> None:
    """Stopped in the middle and gone on with, as it should be."""
    ours.shard(rows(seed))
    ours.train({"run": {"max_steps": 35}}, seed)
    ours.train({"run": {"max_steps": 70}}, seed, resume=True)


def resumed_hf(seed: int) -> None:
    """The same with the Trainer: nothing of the checkpoint is lost."""
    from faults_weights import stop_at

    arguments = {"max_steps": 80, "save_strategy": "steps", "save_steps": 40}
    job = Job(rows=rows(seed), arguments=arguments)
    hugging.train(replace(job, change=stop_at(40)), seed)
    hugging.train(replace(job, resume_from="run/checkpoint-40", narrowed=True), seed)


of_ours("lora", {})
of_ours("lora-packed", {"data": {"tokens_per_batch": 512}}, packed=512)
of_ours("lora-bf16", {"precision": {"dtype": "bf16"}, "run": {"max_steps": 60}}, card="H100")
of_ours("lora-fp16", {"precision": {"dtype": "fp16"}}, card="V100")
of_ours("lora-linear", {"schedule": {"decay": "linear", "final": 0.0}})
of_ours("lora-wsd", {"schedule": {"decay": "wsd", "warmup": 0.1}}, card="4090")
of_ours("lora-accumulated", {"data": {"accumulate": 2}, "run": {"max_steps": 50}})
of_ours(
    "lora-with-evaluation",
    {"evaluation": {"every": 10, "patience": 0}, "optimiser": {"learning_rate": 2e-3}},
    held_out=8,
    count=80,
)
of_ours("lora-long", {"run": {"max_steps": 140}}, count=60)
of_ours("lora-short-run", {"run": {"max_steps": 60}}, count=60, card="3090")
of_ours("full", FULL)
of_ours("full-packed", FULL, packed=512, card="H100")
of_ours("full-with-evaluation", {**FULL, "evaluation": {"every": 20}}, held_out=8, count=64)
of_ours("ptuning", {"model": {"method": "ptuning"}, "optimiser": {"learning_rate": 0.1}})
of_ours("qlora", {"model": {"method": "qlora"}, "precision": {"dtype": "bf16"}})
of_ours("lora-checkpointing", {"model": {"gradient_checkpointing": True}}, card="2080Ti")
plan("resumed", "glmtrain", "A100", resumed)

of_hf("lora-hf", Job(rows=[]))
of_hf("lora-llamafactory", Job(rows=[], form="llamafactory"))
of_hf("lora-swift", Job(rows=[], form="swift"), card="H100")
of_hf("lora-console", Job(rows=[], form="console"), card="4090")
of_hf("lora-hf-bf16", Job(rows=[], arguments={"bf16": True, "max_steps": 60}))
of_hf("lora-hf-four-rows", Job(rows=[], arguments={"per_device_train_batch_size": 4}))
of_hf(
    "lora-hf-accumulated",
    Job(
        rows=[],
        form="llamafactory",
        arguments={
            "per_device_train_batch_size": 1,
            "gradient_accumulation_steps": 4,
            "max_steps": 60,
        },
    ),
)
of_hf("lora-hf-constant", Job(rows=[], arguments={"lr_scheduler_type": "constant_with_warmup"}))
of_hf("lora-hf-linear", Job(rows=[], form="swift", arguments={"lr_scheduler_type": "linear"}))
of_hf("lora-hf-with-evaluation", Job(rows=[], arguments=GENTLE), held_out=8, count=80)
of_hf(
    "lora-llamafactory-with-evaluation",
    Job(rows=[], form="llamafactory", arguments=GENTLE),
    held_out=8,
    count=80,
)
of_hf("full-hf", Job(rows=[], lora=None, arguments={"learning_rate": 1e-3}))
of_hf("full-swift", Job(rows=[], lora=None, form="swift", arguments={"learning_rate": 1e-3}))
of_hf("lora-hf-rank-8", Job(rows=[], lora={**LORA, "r": 8, "lora_alpha": 16}), count=24)
plan("resumed-hf", "hf", "A100", resumed_hf)
