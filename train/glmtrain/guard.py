"""What to do about a gradient unlike those before it, and a smooth loss for the log.

One bad batch can undo the work of a hundred good ones. Clipping bounds how far it moves the
weights, not where to. So such a step is left out (as OLMo-core's optimisers do), or the run goes
back to earlier weights and on with later data (Chowdhery et al. 2022, "PaLM", section 5.1). Mean
and deviation are exponentially weighted, as in Kumar et al. 2025, "ZClip".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from glmtrain import settings

Verdict: TypeAlias = Literal["fine", "skip", "rewind"]

WINDOW = 50  # steps that the mean and the deviation look back, about
WARM = 20  # steps before there is anything to compare with
LEAST_DEVIATION = 0.1  # of the logarithm: norms that hardly vary do not make 5 % more a spike
MOST_IN_A_ROW = 3  # one batch is odd, more are a new level


class Guard:
    """Judges gradient norms by their logarithm's distance from the exponentially weighted mean.

    Only what is too large is acted upon, and what is acted upon does not count in the mean. After
    three actions in a row the next norm is taken as a new level and all before it is forgotten.
    Everything follows from the norms, so all ranks that see the same norms decide alike.
    """

    def __init__(self, chosen: settings.Guard) -> None:
        self._chosen = chosen
        self._count = 0
        self._mean = 0.0
        self._variance = 0.0
        self._in_a_row = 0
        self._since_snapshot: int | None = None
        self._rewound = False

    def judge(self, norm: float) -> Verdict:
        """What to do with the step of this gradient norm, taken before clipping.

        skip: leave the step out. rewind: leave it out and put the snapshot back, at most once for
        each snapshot. A norm that is not a number is skipped and teaches nothing.
        """
        if not math.isfinite(norm):
            return "skip"
        if self._since_snapshot is not None:
            self._since_snapshot += 1
        if self._chosen.spikes == "off" or norm <= 0:
            return "fine"
        if not self._is_spike(math.log(norm)):
            self._in_a_row = 0
            self._learn(math.log(norm))
            return "fine"
        if self._in_a_row == MOST_IN_A_ROW:
            self._start_again(math.log(norm))
            return "fine"
        self._in_a_row += 1
        return self._action()

    @property
    def snapshot_due(self) -> bool:
        """Whether a snapshot should be taken now: at first, then every `memory` steps."""
        if self._chosen.spikes != "rewind" or self._in_a_row:
            return False
        return self._since_snapshot is None or self._since_snapshot >= self._chosen.memory

    def snapshot_taken(self) -> None:
        """To be called after each snapshot."""
        self._since_snapshot, self._rewound = 0, False

    def state(self) -> dict[str, Any]:
        """All that changes from step to step, for JSON.

        The snapshot itself is not kept in a checkpoint. Where one is taken whenever a checkpoint is
        saved or restored, a resumed run rewinds to the same weights as one that went through.
        """
        return {
            "count": self._count,
            "mean": self._mean,
            "variance": self._variance,
            "in_a_row": self._in_a_row,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Put back what `state` gave; raises KeyError where something is missing."""
        self._count, self._in_a_row = state["count"], state["in_a_row"]
        self._mean, self._variance = state["mean"], state["variance"]
        self._since_snapshot, self._rewound = None, False

    def _is_spike(self, value: float) -> bool:
        return self._count >= WARM and value > self._mean + self._limit()

    def _limit(self) -> float:
        return self._chosen.z_score * max(math.sqrt(self._variance), LEAST_DEVIATION)

    def _learn(self, value: float) -> None:
        """A plain mean and variance at first, exponentially weighted ones later."""
        if self._count >= WARM:
            value = max(value, self._mean - self._limit())
        self._count += 1
        weight = max(1 / self._count, 2 / (WINDOW + 1))
        distance = value - self._mean
        self._mean += weight * distance
        self._variance = (1 - weight) * (self._variance + weight * distance**2)

    def _start_again(self, value: float) -> None:
        self._count, self._mean, self._variance, self._in_a_row = 0, 0.0, 0.0, 0
        self._learn(value)

    def _action(self) -> Verdict:
        if self._chosen.spikes != "rewind" or self._rewound or self._since_snapshot is None:
            return "skip"
        self._rewound = True
        return "rewind"


class Snapshot:
    """Weights and the optimiser's memory of one moment, kept in the host's memory.

    As large as both together: megabytes for LoRA, but 12 bytes a weight for full fine-tuning with
    AdamW in float32, which is 113 GB for 9.4 billion weights, copied off the device every time.
    Of sliced weights (DTensor) every rank keeps its own slice.
    """

    def __init__(self) -> None:
        self._weights: dict[str, Tensor] = {}
        self._state: dict[str, dict[str, Any]] = {}

    def take(
        self, parameters: Mapping[str, nn.Parameter], optimiser: torch.optim.Optimizer
    ) -> None:
        """Copy everything, in place of what was taken before."""
        self._weights, self._state = {}, {}  # first, or both are in memory for a while
        for name, weight in parameters.items():
            self._weights[name] = _copied(weight)
            if weight in optimiser.state:
                state = optimiser.state[weight]
                self._state[name] = {key: _copied(value) for key, value in state.items()}

    def put_back(
        self, parameters: Mapping[str, nn.Parameter], optimiser: torch.optim.Optimizer
    ) -> None:
        """Make everything as it was; it can be done more than once."""
        for name, weight in parameters.items():
            _local(weight).copy_(self._weights[name])
            if name not in self._state:
                optimiser.state.pop(weight, None)
                continue
            state = optimiser.state[weight]
            for key, value in self._state[name].items():
                if isinstance(value, Tensor):
                    _local(state[key]).copy_(value)
                else:
                    state[key] = value

    @property
    def size(self) -> int:
        """Bytes."""
        values = [*self._weights.values(), *(v for s in self._state.values() for v in s.values())]
        return sum(value.nbytes for value in values if isinstance(value, Tensor))


def _copied(value: Any) -> Any:
    return _local(value).to("cpu", copy=True) if isinstance(value, Tensor) else value


def _local(value: Tensor) -> Tensor:
    """What this rank has of it."""
    return (value.to_local() if isinstance(value, DTensor) else value).detach()


class Smoothed:
    """An exponentially weighted mean, in which a value counts half after `half_life` more values.

    Divided by the sum of the weights, so that the first values are not drawn towards zero.
    """

    def __init__(self, half_life: float = 20.0) -> None:
        self._keep = 0.5 ** (1 / half_life)
        self._sum = 0.0
        self._weight = 0.0

    def feed(self, value: float) -> float | None:
        """The mean with this value, which is left out if it is not a number; None without any."""
        if math.isfinite(value):
            self._sum = self._keep * self._sum + (1 - self._keep) * value
            self._weight = self._keep * self._weight + (1 - self._keep)
        return self._sum / self._weight if self._weight else None

    def state(self) -> dict[str, Any]:
        """All that changes, for JSON."""
        return {"sum": self._sum, "weight": self._weight}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Put back what `state` gave; raises KeyError where something is missing."""
        self._sum, self._weight = state["sum"], state["weight"]
