"""What a run from a recipe made: the results of its stages, and how much was done before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from glmprep.bucket import Result as Shards


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A stage's result, and how many rows came in and went out."""

    result: Any
    came: int
    went: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What each stage did that makes text, by its name, and the shards."""

    stages: Mapping[str, Done]
    shards: Shards

    @property
    def reject_share(self) -> float:
        """The largest share of rows that a stage left out."""
        results = [*(done.result for done in self.stages.values()), self.shards]
        return max([float(result.reject_share) for result in results])

    def as_json(self) -> dict[str, Any]:
        """All of it as plain JSON values."""
        stages = {name: done.result.as_json() for name, done in self.stages.items()}
        return {**stages, "shards": self.shards.as_json()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What was made to train on, and what of the rows that are held out; and the effort.

    `blocks` are the parts of the input, of which so many were `kept` from an earlier run.
    """

    training: Made
    validation: Made | None
    blocks: int
    kept: int
    input_bytes: int
    seconds: float

    @property
    def stages(self) -> Mapping[str, Done]:
        """What each stage did to what is trained on, and before it was parted."""
        return self.training.stages

    @property
    def shards(self) -> Shards:
        """The shards to train on."""
        return self.training.shards

    @property
    def reject_share(self) -> float:
        """The largest share of rows that a stage left out."""
        made = [self.training, self.validation] if self.validation else [self.training]
        return max([each.reject_share for each in made])

    def as_json(self) -> dict[str, Any]:
        """All of it as plain JSON values."""
        return {
            **self.training.as_json(),
            **({"validation": self.validation.as_json()} if self.validation else {}),
            "blocks": self.blocks,
            "kept": self.kept,
            "input_bytes": self.input_bytes,
            "seconds": self.seconds,
        }
