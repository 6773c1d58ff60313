"""Loss on shards: of every labelled token, and as means by length, turn, place and kind.

All that is added up is sums over rows, so that processes can each take a share of the batches and
add theirs together.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from glmprep.families.roles import OBSERVATION
from glmprep.families.thought import END
from glmprep.labels import ranges
from glmprep.shards import Int64
from glmprep.tokenizer import Tokenizer
from torch import nn

from glmtrain import settings
from glmtrain.batches import Batch, collate
from glmtrain.course import Course, Places
from glmtrain.data import TrainingData
from glmtrain.loss import IGNORED
from glmtrain.precision import Precision

Bool = npt.NDArray[np.bool_]
Float64 = npt.NDArray[np.float64]

GROUPS: Mapping[str, Sequence[str]] = {
    "all": ("all",),
    "length": ("short", "medium", "long"),
    "turn": ("first", "second", "later"),
    "place": ("1", "2-4", "5-16", "17-64", "65-256", "257+"),
    "kind": ("text", "tool_call", "reasoning"),
}
"""How labelled tokens are parted: by the tokens of their conversation (thirds of all that there
are), by which answer of it they are in, by their place in that answer, and by what they write."""
PLACES_UP_TO = (1, 4, 16, 64, 256)
SUMS = 6
"""Per group: rows, tokens, loss, and the sums over rows of loss², loss x tokens and tokens²."""
OVERFLOWS = 700.0
"""Above this the exponential is no longer a number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """Columns over labelled tokens: row, place in the row, and cross-entropy."""

    row: Int64
    position: Int64
    loss: Float64


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """Ids that tell where answers end and what is in them; None where that is not known.

    `calls` ends a tool call, `thought` ends the reasoning before an answer.
    """

    stops: Collection[int]
    calls: int | None = None
    thought: int | None = None

    @classmethod
    def of(cls, stops: Collection[int], tokenizer: Tokenizer) -> Marks:
        """The marks of a vocabulary."""
        calls, thought = (tokenizer.added.get(text) for text in (OBSERVATION, END))
        return cls(stops=stops, calls=calls, thought=thought)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mean:
    """The mean, in nats, over so many tokens in so many rows, and its standard error.

    Tokens of a row are not independent, so the error is that of a ratio of sums over rows
    (Cochran, Sampling Techniques, 1977, chapter 6); it is NaN for one row.
    """

    rows: int
    tokens: int
    value: float
    error: float

    @property
    def perplexity(self) -> float:
        """The exponential of the mean, where it is one of losses."""
        return math.exp(self.value) if self.value < OVERFLOWS else math.inf

    def as_json(self) -> dict[str, float | int]:
        """A mean loss as JSON values."""
        loss = {"loss": self.value, "perplexity": self.perplexity, "standard_error": self.error}
        return {"rows": self.rows, "tokens": self.tokens, **loss}


@dataclass(frozen=True, slots=True)
class Sums:
    """Sums by group, [groups, SUMS] in the order of GROUPS; those of several processes add up."""

    array: Float64

    def __add__(self, other: Sums) -> Sums:
        return Sums(self.array + other.array)

    @property
    def all(self) -> Mean:
        """The mean over all tokens; raises ValueError where there are none."""
        found = self.means("all")
        if not found:
            raise ValueError("no labelled token")
        return found["all"]

    def means(self, by: str) -> dict[str, Mean]:
        """The mean of each group that has tokens, `by` one of GROUPS."""
        names = [(kind, name) for kind, names in GROUPS.items() for name in names]
        rows = {name: self.array[at] for at, (kind, name) in enumerate(names) if kind == by}
        return {name: mean(sums) for name, sums in rows.items() if sums[1]}

    @property
    def gap(self) -> tuple[float, float] | None:
        """What a token of a long conversation costs more than one of a short one, and its error.

        None where all conversations are of one length.
        """
        found = self.means("length")
        if not {"short", "long"} <= found.keys():
            return None
        long, short = found["long"], found["short"]
        return long.value - short.value, math.hypot(long.error, short.error)

    def as_json(self) -> dict[str, dict[str, dict[str, float | int]]]:
        """All means as JSON values."""
        return {by: {n: m.as_json() for n, m in self.means(by).items()} for by in GROUPS}


def drawn(
    data: TrainingData, tokens: int, *, tokens_per_batch: int, seed: int, ranks: int = 1
) -> Places:
    """Random batches for each process, until they hold `tokens` labelled tokens or are all."""
    asked = settings.Data(order="shuffled", tokens_per_batch=tokens_per_batch)
    places = Course(data, asked, seed=seed, ranks=ranks).batches(0)
    supervised = data.rows.supervised
    sums = np.cumsum([sum(int(supervised[b.rows].sum()) for b in place) for place in places])
    return places[: int(np.searchsorted(sums, tokens)) + 1]


def losses(
    model: nn.Module, data: TrainingData, batches: Iterable[Batch], precision: Precision
) -> Losses:
    """The cross-entropy of each labelled token, in the order of the batches, without training.

    `model` is a `Learner`, or what shares its work among devices.
    """
    training = model.training
    model.eval()
    try:
        with torch.no_grad(), precision.autocast():
            parts = [_of_batch(model, data, batch, precision.device) for batch in batches]
    finally:
        model.train(training)
    row, position, loss = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Losses(row=row, position=position, loss=loss)


class Groups:
    """Knows the group of each labelled token; `edges` are the longest of the short and medium."""

    def __init__(self, data: TrainingData, marks: Marks) -> None:
        self._data, self._marks = data, marks
        starts = np.flatnonzero(data.rows.position_ids == 0)
        lengths = np.diff(starts, append=len(data.rows.position_ids))
        thirds = np.quantile(lengths, [1 / 3, 2 / 3], method="lower")
        self.edges: tuple[int, int] = (int(thirds[0]), int(thirds[1]))

    def sums(self, found: Losses) -> Sums:
        """The losses, which cover whole rows, added up by group."""
        rows = found.row[np.flatnonzero(np.diff(found.row, prepend=-1))]
        row = np.repeat(np.arange(len(rows)), self._data.rows.supervised[rows])
        groups = self._groups(rows)
        array = [
            summed(row[chosen], found.loss[chosen])
            for by, names in GROUPS.items()
            for chosen in (groups[by] == place for place in range(len(names)))
        ]
        return Sums(np.array(array))

    def _groups(self, rows: Int64) -> dict[str, Int64]:
        """For each labelled token of these rows, in order, its place among the names of GROUPS."""
        shards = self._data.rows
        at = ranges(shards.offsets[rows], shards.lengths[rows])
        ids, trained = shards.input_ids[at], shards.loss_mask[at] == 1
        first = shards.position_ids[at] == 0
        begins = answer_begins(ids, trained, first, self._marks.stops)
        answer, segment = np.cumsum(begins) - 1, np.cumsum(first) - 1
        length = np.bincount(segment)[segment[trained]]
        before = np.searchsorted(np.flatnonzero(begins), np.flatnonzero(first))
        turn = answer - before[segment]
        place = np.arange(len(ids)) - np.flatnonzero(begins)[answer]
        return {
            "all": np.zeros(len(length), np.int64),
            "length": np.searchsorted(self.edges, length),
            "turn": np.minimum(turn[trained], 2),
            "place": np.searchsorted(PLACES_UP_TO, place[trained] + 1),
            "kind": self._kinds(ids[trained], answer[trained]),
        }

    def _kinds(self, ids: npt.NDArray[np.int32], answer: Int64) -> Int64:
        """What each token of an answer writes; the reasoning goes on to the mark that ends it."""
        last = ids[np.flatnonzero(np.diff(answer, append=-1))]
        number = np.cumsum(np.diff(answer, prepend=-1) != 0) - 1
        kinds: Int64 = (last == self._marks.calls)[number].astype(np.int64)
        if self._marks.thought is not None:
            ends = np.full(len(last), -1)
            thought = np.flatnonzero(ids == self._marks.thought)
            ends[number[thought]] = thought
            kinds[np.arange(len(ids)) <= ends[number]] = 2
        return kinds


def answer_begins(
    ids: npt.NDArray[np.int32], trained: Bool, first: Bool, stops: Collection[int]
) -> Bool:
    """Where answers begin: at a trained token behind one that is not, or behind a stop.

    `first` marks where segments begin, of which the first token is never trained.
    """
    behind = np.zeros(len(ids), np.bool_)
    behind[1:] = trained[:-1] & ~np.isin(ids[:-1], list(stops))
    return np.asarray(trained & (~behind | first))


def summed(row: Int64, values: Float64) -> list[float]:
    """What is kept of values per token, see SUMS."""
    tokens, total = np.bincount(row).astype(np.float64), np.bincount(row, values)
    products = [float(total @ total), float(total @ tokens), float(tokens @ tokens)]
    return [float(np.count_nonzero(tokens)), float(len(row)), float(values.sum()), *products]


def mean(sums: Sequence[float]) -> Mean:
    """The mean of what was `summed`."""
    rows, tokens, total, squares, mixed, counts = map(float, sums)
    value, error = total / tokens, math.nan
    if rows > 1:
        apart = max(0.0, squares - 2 * value * mixed + value**2 * counts)
        error = math.sqrt(apart * rows / (rows - 1)) / tokens
    return Mean(rows=int(rows), tokens=int(tokens), value=value, error=error)


def _of_batch(
    model: nn.Module, data: TrainingData, batch: Batch, device: torch.device
) -> tuple[Int64, Int64, Float64]:
    inputs = collate(data.rows, batch, data.pad_id)
    place, position = np.nonzero(inputs.labels[:, 1:].numpy() != IGNORED)
    found = model(inputs.to(device), "each").double().cpu().numpy()
    return batch.rows[place], position + 1, found
