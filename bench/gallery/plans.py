"""What is to be run: a plan for each run of the gallery, registered by the modules that list them.

A plan's work is done in a process of its own, in an empty folder, with relative paths alone, so
that nothing of this machine enters a record. It leaves behind what a user would have:

    run/      the trainer's output     config/   what the user wrote
    data/     what was trained on      base/     the base model's folder, without its weights
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SEEDS = (1, 2, 3)
Work = Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One run. `cause` is None for a healthy one; `card` is the card it is said to run on."""

    kind: str
    seed: int
    cause: str | None
    planted: str
    trainer: str
    work: Work
    card: str = "A100"
    keep: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name of its record."""
        return f"{self.kind}-s{self.seed}"

    def truth(self) -> dict[str, Any]:
        """What a diagnoser is judged by, and never reads."""
        names = ("kind", "cause", "trainer", "seed", "planted")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, slots=True)
class Registry:
    """All plans, by their names."""

    plans: dict[str, Plan] = field(default_factory=dict)

    def fault(
        self,
        cause: str,
        kind: str,
        planted: str,
        *,
        trainer: str | Mapping[int, str] = "hf",
        card: str | Mapping[int, str] = "A100",
        keep: tuple[str, ...] = (),
    ) -> Callable[[Work], Work]:
        """Register a function of the seed as the three runs of a kind."""

        def register(work: Work) -> Work:
            for seed in SEEDS:
                self.add(
                    Plan(
                        kind=f"{cause.lower()}-{kind}",
                        seed=seed,
                        cause=cause,
                        planted=planted,
                        trainer=_of(trainer, seed),
                        card=_of(card, seed),
                        work=work,
                        keep=keep,
                    )
                )
            return work

        return register

    def add(self, plan: Plan) -> None:
        """Register one run."""
        if plan.name in self.plans:
            raise ValueError(f"two plans are called {plan.name}")
        self.plans[plan.name] = plan

    def __iter__(self) -> Iterator[Plan]:
        return iter(self.plans.values())


REGISTRY = Registry()
fault = REGISTRY.fault


def write_json(path: str, value: Any) -> None:
    """A small JSON file of the record."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", "utf-8")


def write_yaml(path: str, values: Mapping[str, Any]) -> None:
    """A flat YAML file, as people write them."""
    lines = [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in values.items()]
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("\n".join(lines) + "\n", "utf-8")


def _of(given: str | Mapping[int, str], seed: int) -> str:
    return given if isinstance(given, str) else given[seed]
