"""Several optimisers as one, for weights that are best trained in different ways."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch


class Together(torch.optim.Optimizer):
    """Optimisers of different weights that make their steps together.

    The groups and the state of the whole are those of the parts, so that a learning rate is set,
    gradients are unscaled and a state is read as with any other optimiser.
    """

    def __init__(self, parts: Sequence[torch.optim.Optimizer]) -> None:
        self.parts = tuple(parts)
        super().__init__([group for part in self.parts for group in part.param_groups], {})
        self._share()

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Let every part make its step; a closure, which each would call anew, is refused."""
        if closure is not None:
            raise TypeError("a closure cannot be called once for several optimisers")
        for part in self.parts:
            part.step()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As any optimiser's."""
        super().load_state_dict(state_dict)
        self._share()

    def _share(self) -> None:
        """Have the parts work on the groups and the state of the whole."""
        begin = 0
        for part in self.parts:
            end = begin + len(part.param_groups)
            part.param_groups, part.state = self.param_groups[begin:end], self.state
            begin = end
