"""Did it learn: the same few trained answers before and after, and a control with wrong answers.

The loss of the answers says whether anything was learned. That of the same answers behind prompts
they do not belong to says what: where it fell as much, the model took on how answers are written,
and not what is answered to what.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

import torch
from glmprep.findings import Finding
from torch import Tensor

from glmtrain import rules
from glmtrain.batches import Inputs
from glmtrain.exchanges import Exchange, shuffled
from glmtrain.generate import Sampler, Sampling, Speaker
from glmtrain.measuring import Call

NOTICEABLE = 0.02  # of the loss before; less is within what a change of batches does
ANSWERS_AGAIN, MOST_AGAIN = 4, 32
"""How many answers are generated again, and how many tokens of them."""

Verdict: TypeAlias = Literal["learned", "unchanged", "worse"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Mean loss of a token of the answers, of the same behind other prompts, and of ending.

    `stop` is the mean probability of the token that ends a turn, where it has to come; None where
    no answer ends in one.
    """

    loss: float
    shuffled: float
    stop: float | None

    @property
    def gap(self) -> float:
        """How much better an answer fits its own prompt than another."""
        return self.shuffled - self.loss

    def as_json(self) -> dict[str, float | None]:
        """The same as JSON values; what is not a number is null."""
        return {name: _finite(value) for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Measured:
        """What `as_json` gave."""
        known = {name: math.nan if values[name] is None else values[name] for name in values}
        return cls(loss=known["loss"], shuffled=known["shuffled"], stop=values["stop"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """The same `answers` with `tokens` trained tokens, before and after the run.

    `exact` is the share of a few short ones that the model writes again word for word, None where
    that was not tried.
    """

    before: Measured
    after: Measured
    answers: int
    tokens: int
    exact: float | None = None

    @property
    def verdict(self) -> Verdict:
        """Whether the loss fell, stayed, or rose."""
        if not self.after.loss < self.before.loss * (1 + NOTICEABLE):  # so that NaN counts as worse
            return "worse"
        return "learned" if self.after.loss < self.before.loss * (1 - NOTICEABLE) else "unchanged"

    def as_json(self) -> dict[str, Any]:
        """The comparison as JSON values; what is not a number is null."""
        counts = {"answers": self.answers, "tokens": self.tokens, "exact": self.exact}
        sides = {"before": self.before.as_json(), "after": self.after.as_json()}
        return {"verdict": self.verdict, **sides, **counts}


def measure(call: Call, exchanges: Sequence[Exchange], device: torch.device) -> Measured:
    """Measure the exchanges by a learner's way in, which `measuring` gives."""
    own = losses(call, (exchange.inputs() for exchange in exchanges), device)
    other = losses(call, shuffled(exchanges), device)
    ends = [losses[-1] for e, losses in zip(exchanges, own, strict=True) if e.stops]
    return Measured(
        loss=float(torch.cat(own).mean()),
        shuffled=float(torch.cat(other).mean()),
        stop=float(torch.stack(ends).neg().exp().mean()) if ends else None,
    )


def losses(call: Call, rows: Iterable[Inputs], device: torch.device) -> list[Tensor]:
    """The cross-entropy of each token of an answer, [labelled] for each row, in float32."""
    return [call(inputs.to(device), "each").float() for inputs in rows]


def exact(speaker: Speaker, exchanges: Sequence[Exchange], stops: Collection[int]) -> float:
    """The share of the shortest answers that greedy generation writes again, token by token.

    Long answers are compared as far as MOST_AGAIN tokens.
    """
    shortest = sorted(exchanges, key=lambda exchange: len(exchange.answer))[:ANSWERS_AGAIN]
    made = [again(speaker, exchange, stops, MOST_AGAIN) for exchange in shortest]
    wanted = [exchange.answer[:MOST_AGAIN].tolist() for exchange in shortest]
    same: list[bool] = [one == other for one, other in zip(made, wanted, strict=True)]
    return sum(same) / len(same)


def again(speaker: Speaker, exchange: Exchange, stops: Collection[int], most: int) -> list[int]:
    """What greedy generation writes behind the prompt: as many tokens as the answer, or `most`."""
    prompt, length = exchange.prompt.tolist(), min(most, len(exchange.answer))
    return list(speaker.tokens(prompt, Sampler(Sampling()), stops=stops, most=length))


def judge(learned: Learned) -> list[Finding]:
    """Findings on what the run came to."""
    found = []
    for each in (rules.nothing_learned, rules.only_manner_learned, rules.stop_unlikely):
        data = each(learned)
        if data is not None:
            found.append(each.finding("run", **data))
    return found


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
