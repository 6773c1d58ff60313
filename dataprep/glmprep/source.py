"""What is read, and how: the settings that all data commands share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

TrainOn = Literal["all", "last", "last-and-tool-calls"]
TRAIN_ON: tuple[TrainOn, ...] = ("all", "last", "last-and-tool-calls")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Files, and what decides how their rows become conversations.

    `roles` maps further role names; `take` is the side of a preference row that is read, without
    which such rows are rejected; `repair` mends what is safe to mend; `train_on` says which
    of the assistant's turns are trained (see `glmprep.policy`).
    """

    paths: Sequence[str]
    roles: Mapping[str, str] = field(default_factory=dict)
    take: Literal["chosen"] | None = None
    repair: bool = False
    train_on: TrainOn = "all"

    def settings(self) -> dict[str, Any]:
        """What of this decides the bytes of an output, for its manifest; no path is part of it."""
        return {
            "roles": dict(self.roles),
            "take": self.take,
            "repair": self.repair,
            "train_on": self.train_on,
        }
