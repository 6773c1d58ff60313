"""When memory runs out in a step: the same rows again, in smaller batches.

What was computed of the step is dropped on all ranks together, the token budget of a batch is
halved, and the step is done again. Losses are divided by the labelled tokens of the whole step, so
its gradient does not depend on how its rows are batched.

The ranks agree after each has its own gradients and before these are exchanged; an exchange that
one rank has left would have the others wait for ever. Where weights are sharded (FSDP2, ZeRO-3)
every layer is an exchange, so there memory must be made sure of beforehand, by `--dry-run`.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from glmprep.errors import SuiteError
from glmprep.shards import Int64

from glmtrain.batches import Batch

T = TypeVar("T")
SIGNS = (
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "can't allocate memory",
)
"""What libraries say that do not raise torch.OutOfMemoryError."""


@dataclass(slots=True, kw_only=True)
class Fallback:
    """Does the batches of a step, in smaller ones once memory has run out.

    `lengths` are the tokens of each row, `budget` what a batch may hold, padding included; it
    stays where it was lowered to. `forget` drops the gradients so far, `agree` tells whether any
    rank says yes, and `note` is told of each lower budget.
    """

    lengths: Int64
    budget: int
    forget: Callable[[], None]
    note: Callable[[str], None]
    agree: Callable[[bool], bool] = bool
    _lowered: bool = False

    def step(self, batches: Sequence[Batch], one: Callable[[Batch], T]) -> tuple[list[T], bool]:
        """What `one` gives for each batch, and whether they had to be done in smaller ones.

        `one` adds the gradients of a batch and exchanges nothing. Raises SuiteError where a single
        row does not fit; any other error of `one` is passed on.
        """
        again = False
        while True:
            smaller = split(batches, self.lengths, self.budget) if self._lowered else [*batches]
            results, culprit = _try(smaller, one)
            if not self.agree(culprit is not None):
                return results, again
            results.clear()
            self._make_room(culprit)
            again = True

    def _make_room(self, culprit: Batch | None) -> None:
        self.forget()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        alone = culprit is not None and len(culprit.rows) == 1
        if self.agree(alone):
            raise SuiteError(self._hopeless(culprit if alone else None))
        self.budget, self._lowered = max(1, self.budget // 2), True
        self.note(
            "memory ran out: the step is done again, and all from here on, in batches of at most "
            f"{self.budget:,} tokens; the gradient of a step stays the same"
        )

    def _hopeless(self, culprit: Batch | None) -> str:
        if culprit is None:
            return "another rank ran out of memory with a batch of one row; see what it says"
        row = int(culprit.rows[0])
        return (
            f"row {row} of {int(self.lengths[row]):,} tokens does not fit into memory, even alone; "
            "set model.gradient_checkpointing (then model.offload_activations), take "
            "--method qlora, or cut longer rows to pieces: glmprep bucket --max-length"
        )


def split(batches: Sequence[Batch], lengths: Int64, budget: int) -> list[Batch]:
    """The same rows in batches of at most `budget` tokens, padding included; no row is cut.

    A row longer than the budget is a batch of its own, a batch that fits stays as it is.
    """
    return [part for batch in batches for part in _parts(batch, lengths, budget)]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error is that of an accelerator's or a machine's memory that is used up."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in SIGNS)


def _try(batches: Sequence[Batch], one: Callable[[Batch], T]) -> tuple[list[T], Batch | None]:
    """The results until memory runs out, and the batch at which it does."""
    results: list[T] = []
    for batch in batches:
        try:
            results.append(one(batch))
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            return results, batch
    return results, None


def _parts(batch: Batch, lengths: Int64, budget: int) -> list[Batch]:
    own = lengths[batch.rows]
    if not len(own) or len(own) * int(own.max()) <= budget:
        return [batch]
    parts, rows = [], batch.rows[np.argsort(-own, kind="stable")]
    while len(rows):
        most = max(1, budget // int(lengths[rows[0]]))
        parts.append(replace(batch, rows=rows[:most]))
        rows = rows[most:]
    return parts
