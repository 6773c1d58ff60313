"""Whether the first steps threw the model off: it began well and never was as good again."""

from __future__ import annotations

import math
from dataclasses import dataclass

NEAR = 6  # logged steps within which losses belong to one event
WRECKED = 9.0  # nats; text costs about 7.5 to who knows nothing but how often each token comes

OPENING = 20  # losses; what is thrown up later is a spike or a divergence


@dataclass(slots=True)
class Thrown:
    """The first loss, the least since, and where two losses close to each other were beyond sense.

    `wrecked` is the step of the second of them, None where there were none.
    """

    first: float = math.inf
    step: int = 0
    count: int = 0
    least: float = math.inf
    most: float = 0.0
    wrecked: int | None = None
    _last: int | None = None

    def add(self, loss: float, step: int) -> None:
        """Take the next loss."""
        self.count += 1
        if self.count == 1:
            self.first, self.step = loss, step
            return
        self.least, self.most = min(self.least, loss), max(self.most, loss)
        if loss < WRECKED or self.wrecked is not None or self.count > OPENING:
            return
        if self._last is not None and self.count - self._last <= NEAR:
            self.wrecked = step
        self._last = self.count
