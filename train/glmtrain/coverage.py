"""How much of the base model lies in layers that learn, by what the layers are for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from glmreport.text import Text
from torch import nn

from glmtrain import layers, lora, quantised
from glmtrain.layers import Kind
from glmtrain.learner import Learner

ADAPTABLE = frozenset({"attention", "feed-forward", "experts"})
LOW = 0.5  # of the adaptable parameters: what is learned in less of the model may be too little


@dataclass(frozen=True, slots=True, kw_only=True)
class Covered:
    """Parameters of the base of one kind, and how many of them adapters (or training) change."""

    kind: Kind
    parameters: int
    adapted: int

    @property
    def share(self) -> float:
        """From 0 to 1."""
        return self.adapted / self.parameters


def coverage(learner: Learner) -> tuple[Covered, ...]:
    """What learns of the base, kind by kind in the order of the model's layers.

    Rows of new tokens count by themselves. A prefix changes no parameter, so it covers nothing.
    """
    causal = learner.causal
    changed = _changed(causal) if learner.adapter is not None else None
    own = learner.learning() if learner.adapter is not None else {}
    sizes = quantised.sizes(causal)
    parameters: Counter[Kind] = Counter()
    adapted: Counter[Kind] = Counter()
    for name, weight in causal.named_parameters():
        if name not in own:
            kind, size = layers.kind(name), sizes.get(id(weight), weight.numel())
            parameters[kind] += size
            adapted[kind] += size if changed is None else min(size, changed.get(id(weight), 0))
    return tuple(Covered(kind=k, parameters=n, adapted=adapted[k]) for k, n in parameters.items())


def share(covered: Sequence[Covered]) -> float:
    """Of all the base's parameters, those that learn or are adapted."""
    return sum(one.adapted for one in covered) / sum(one.parameters for one in covered)


def reason(covered: Sequence[Covered]) -> Text:
    """What to say of the share: where it is low, why, or what to do."""
    if share([one for one in covered if one.kind in ADAPTABLE] or covered) >= LOW:
        return Text("coverage.high")
    experts = any(one.kind == "experts" and not one.adapted for one in covered)
    return Text("coverage.without_experts" if experts else "coverage.low")


def _changed(causal: nn.Module) -> dict[int, int]:
    """How many numbers of each parameter adapters change, by its `id`; at most, where quantised."""
    from peft.tuners.trainable_tokens import TrainableTokensLayer

    sizes = quantised.sizes(causal)
    found = {}
    for part in causal.modules():
        for weight in lora.adapted(part):
            found[id(weight)] = sizes.get(id(weight), weight.numel())
        if isinstance(part, TrainableTokensLayer):
            rows = sum(delta.numel() for delta in part.trainable_tokens_delta.values())
            found[id(part.get_base_layer().weight)] = rows
    return found
