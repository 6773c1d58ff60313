"""Faults of the learning rate, its schedule, the batch and clipping."""

from __future__ import annotations

from typing import Any

import hugging
import ours
from faults_data import BOTH, FORMS, train
from hugging import Job, with_form
from plans import fault
from words import take


def both(seed: int, arguments: dict[str, Any], **settings: dict[str, Any]) -> None:
    """Train LoRA on usual rows with either trainer, by seed."""
    train(take("toolcalls", 32, seed), seed, Job(rows=[], arguments=arguments), **settings)


@fault(
    "RC021",
    "rate-too-high",
    "The learning rate is far too high: the loss climbs and stays above where it began.",
    trainer=BOTH,
)
def rate_too_high(seed: int) -> None:
    """LoRA's rate some tens of times what it bears."""
    rate = (0.8, 0.5, 0.6)[seed - 1]
    both(seed, {"learning_rate": rate}, optimiser={"learning_rate": rate})


@fault(
    "RC022",
    "rate-too-low",
    "The learning rate is so low that nothing is learned in the length of the run.",
    trainer=BOTH,
)
def rate_too_low(seed: int) -> None:
    """1e-7 for LoRA, whose usual rate is a thousand times that and more."""
    rate = (1e-7, 3e-7, 1e-7)[seed - 1]
    both(seed, {"learning_rate": rate}, optimiser={"learning_rate": rate})


@fault(
    "RC023",
    "schedule-ends-early",
    "The schedule was made for fewer steps than the run has, so the rate is zero for most of it.",
    trainer=FORMS,
)
def schedule_ends_early(seed: int) -> None:
    """A scheduler of the user's own, counted in steps of one epoch."""
    ends = (16, 20, 14)[seed - 1]

    def change(trainer: Any) -> None:
        from transformers import get_cosine_schedule_with_warmup

        trainer.create_optimizer()
        trainer.lr_scheduler = get_cosine_schedule_with_warmup(trainer.optimizer, 2, ends)
        # A cosine comes back behind its end; the usual schedules of trainers stay at zero.
        inner = trainer.lr_scheduler.lr_lambdas[0]
        groups = len(trainer.lr_scheduler.lr_lambdas)
        cut = [lambda step: inner(step) if step < ends else 0.0]
        trainer.lr_scheduler.lr_lambdas = cut * groups

    rows = take("toolcalls", 32, seed)
    hugging.train(with_form(Job(rows=rows, change=change), seed), seed)


@fault(
    "RC024",
    "no-warm-up",
    "Full training starts at its top rate without warm-up; the first steps throw the model back to "
    "above where it began, from where it has to learn again.",
    trainer=BOTH,
)
def no_warm_up(seed: int) -> None:
    """A rate that the model bears behind a warm-up (see the healthy runs)."""
    rate = 2e-2
    job = Job(
        rows=[],
        lora=None,
        arguments={"learning_rate": rate, "warmup_steps": 0, "max_grad_norm": 0.0},
    )
    settings: dict[str, dict[str, Any]] = {
        "model": {"method": "full"},
        "optimiser": {"learning_rate": rate, "max_grad_norm": 0.0},
        "schedule": {"warmup": 0.0},
    }
    train(take("toolcalls", 32, seed), seed, job, **settings)


@fault(
    "RC025",
    "batch-of-one",
    "One row a step, no accumulation, at a high rate: the loss jumps from step to step and does "
    "not come down.",
    trainer=FORMS,
)
def batch_of_one(seed: int) -> None:
    """Rows of two subjects, so that steps pull apart."""
    rows = [*take("counselling", 20, seed), *take("toolcalls", 20, seed)]
    arguments = {
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 1,
        "learning_rate": 2.5e-2,
        "lr_scheduler_type": "constant_with_warmup",
        "max_steps": 100,
    }
    hugging.train(with_form(Job(rows=rows, arguments=arguments), seed), seed)


@fault(
    "RC026",
    "clipping",
    "Gradients are clipped to a norm of 0.0001 in front of an optimiser that does not scale them "
    "up again (SGD; for Adam an epsilon above them), so weights hardly move.",
    trainer=BOTH,
)
def clipping(seed: int) -> None:
    """A rate and optimiser that learn with the usual clipping at 1."""
    arguments = {"optim": "sgd", "learning_rate": 0.3, "max_grad_norm": 1e-4}
    optimiser = {"epsilon": 1e-3, "max_grad_norm": 1e-4}
    both(seed, arguments, optimiser=optimiser)


@fault(
    "RC027",
    "overfit",
    "A few rows are trained over and over with all weights: the loss on them goes to nothing while "
    "that on held-out rows rises.",
    trainer=BOTH,
)
def overfit(seed: int) -> None:
    """Eight rows, about twenty epochs and more, evaluated every ten steps."""
    drawn = take("toolcalls", 40, seed)
    rows, held_out = drawn[:8], drawn[-8:]
    arguments = {"learning_rate": 3e-3, "max_steps": 90}
    if seed == 2:
        ours.shard(held_out, "data/held-out")
    job = Job(rows=[], held_out=held_out, lora=None, arguments=arguments)
    settings: dict[str, dict[str, Any]] = {
        "model": {"method": "full"},
        "data": {"validation": "data/held-out"},
        "optimiser": {"learning_rate": 3e-3},
        "evaluation": {"every": 10, "patience": 0},
        "run": {"max_steps": 90},
    }
    train(rows, seed, job, **settings)
