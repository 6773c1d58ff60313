"""One logged training step, as every log can be told."""

from __future__ import annotations

import math
from typing import NamedTuple


class Step(NamedTuple):
    """What a log says of one step; None is what it does not say. To be made by keywords.

    A tuple, because logs have a million of them and a frozen dataclass takes five times as long.

    `loss` is None where none was logged; `nonfinite` then says "nan" or "inf" if that is why.
    `event` is what the trainer noted: "overflow" for a step that loss scaling skipped, "skipped",
    "spike", "rewound", "split" and "resumed" as in `glmtrain.metrics`, "oom" and "crash" for an
    end that a console shows, with its line in `detail`, and "evaluation" in `during` if it was in
    one. `memory` is in bytes, `seconds` those of the step, `bucket` the length that its rows were
    padded to, `padding` the share of the batch that is padding, `planned` the run's last step,
    `max_grad_norm` what gradients are clipped at.
    """

    step: int
    loss: float | None = None
    grad_norm: float | None = None
    learning_rate: float | None = None
    nonfinite: str | None = None
    event: str | None = None
    epoch: float | None = None
    eval_loss: float | None = None
    tokens: float | None = None
    supervised_tokens: float | None = None
    tokens_per_second: float | None = None
    samples_per_second: float | None = None
    seconds: float | None = None
    memory: float | None = None
    loss_scale: float | None = None
    bucket: float | None = None
    padding: float | None = None
    planned: int | None = None
    max_grad_norm: float | None = None
    detail: str | None = None
    during: str | None = None

    @property
    def finite_loss(self) -> float | None:
        """The loss, unless it is missing, not finite, or a NaN that was logged as 0.0."""
        loss = self.loss
        if loss is None or not math.isfinite(loss):
            return None
        return None if loss == 0.0 and self.hidden else loss

    @property
    def broken(self) -> str | None:
        """Why the loss is not a number: "nan", "inf" or "-inf"; None when it is one."""
        if self.nonfinite:
            return self.nonfinite
        return None if self.loss is None or math.isfinite(self.loss) else str(self.loss)

    @property
    def hidden(self) -> bool:
        """Whether a loss of exactly 0.0 comes with a gradient that cannot belong to it."""
        return self.loss == 0.0 and (
            self.grad_norm is not None
            and (self.grad_norm == 0.0 or not math.isfinite(self.grad_norm))
        )

    @property
    def speed(self) -> float | None:
        """Tokens a second, else samples or steps a second: whatever tells how fast it went."""
        if self.tokens_per_second is not None:
            return self.tokens_per_second
        if self.samples_per_second is not None:
            return self.samples_per_second
        return 1 / self.seconds if self.seconds else None
