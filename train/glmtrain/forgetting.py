"""How far a model has moved from its base on texts that it was not trained on.

The measure is the Kullback-Leibler divergence KL(base || model) of the next token's probabilities,
in nats, at every place of a text. At a divergence of d no more than sqrt(d / 2) of the probability
has moved to other tokens (Pinsker's inequality): 7 % at 0.01, 22 % at 0.1, 71 % at 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from glmprep.errors import InputError
from glmprep.families import Family
from glmprep.labels import tokenize
from glmprep.languages import LANGUAGES, languages
from glmprep.records import Conversation
from glmprep.source import Source
from glmprep.stream import Stream
from glmprep.tokenizer import Tokenizer
from torch import Tensor

from glmtrain.batches import Inputs
from glmtrain.evaluate import Mean, mean, summed
from glmtrain.learner import Learner
from glmtrain.loss import IGNORED, Objective
from glmtrain.model import CausalModel
from glmtrain.precision import Precision

GENERAL = ("sample:counselling", "sample:meetings", "sample:toolcalls")
TEXTS, TOKENS = 8, 256
"""So many texts of each file, and of each its first tokens."""
CHUNK = 128
"""Places at which both distributions over the vocabulary are held at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A model, and the one before training: `other`, or itself without its `adapter`."""

    causal: CausalModel
    precision: Precision
    adapter: Any | None = None
    other: CausalModel | None = None

    @contextmanager
    def base(self) -> Iterator[CausalModel]:
        """The model before training; as long as it is in use, the trained one may not be."""
        if self.other is not None:
            yield self.other
            return
        assert self.adapter is not None
        with self.adapter.disable_adapter():
            yield self.causal


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """The ids of a text, and its language (see `glmprep.languages`)."""

    ids: Sequence[int]
    language: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """Mean KL(base || model) in nats a token, of all texts and by language.

    `same` is the share of places at which both hold the same token for the likeliest.
    """

    all: Mean
    by_language: dict[str, Mean]
    same: float

    def as_json(self) -> dict[str, object]:
        """The means as JSON values."""
        return {
            "kl": self.all.value,
            "standard_error": self.all.error,
            "texts": self.all.rows,
            "tokens": self.all.tokens,
            "same_likeliest": self.same,
            "by_language": {name: each.value for name, each in self.by_language.items()},
        }


def general(paths: Sequence[str], family: Family, tokenizer: Tokenizer) -> list[Text]:
    """The beginnings of the first conversations of each file; raises InputError where none is."""
    found: list[Text] = []
    for path in paths:
        stream = Stream(Source(paths=(path,)))
        read = (item for item in stream.items() if isinstance(item, Conversation))
        conversations = list(islice(read, TEXTS))
        if not conversations:
            raise InputError(stream.nothing_left("holds a conversation"))
        tokens = tokenize(conversations, family, tokenizer)
        starts = tokens.offsets[:-1].tolist()
        ends = np.minimum(tokens.offsets[1:], tokens.offsets[:-1] + TOKENS).tolist()
        found += [
            Text(ids=tokens.ids[start:end].tolist(), language=LANGUAGES[language])
            for start, end, language in zip(starts, ends, languages(conversations), strict=True)
        ]
    return found


def divergence(pair: Pair, texts: Sequence[Text]) -> Divergence:
    """How far the model is from its base on these texts, of two tokens at least."""
    parts, same = [], 0
    for text in texts:
        moved, agreed = _of_text(pair, text.ids)
        parts.append(moved)
        same += agreed
    row = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    moved = np.concatenate(parts)
    spoken = np.array([text.language for text in texts])[row]
    return Divergence(
        all=mean(summed(row, moved)),
        by_language={
            name: mean(summed(row[spoken == name], moved[spoken == name]))
            for name in dict.fromkeys(spoken.tolist())
        },
        same=same / len(moved),
    )


def mean_loss(
    causal: CausalModel, precision: Precision, ids: Sequence[int], mask: Sequence[int]
) -> float:
    """Mean cross-entropy of the tokens of a text where the mask is 1, without training."""
    inputs = one_text(ids, mask).to(precision.device)
    learner = Learner(causal, objective=Objective(dtype=precision.dtype))
    with torch.no_grad(), precision.autocast():
        return float(learner(inputs, "each").double().mean())


def one_text(ids: Sequence[int], mask: Sequence[int]) -> Inputs:
    """A batch of one row, with labels where the mask is 1."""
    tokens, labelled = torch.tensor([ids]), torch.tensor([mask]) == 1
    return Inputs(
        input_ids=tokens,
        position_ids=torch.arange(len(ids)).unsqueeze(0),
        attention_mask=torch.ones_like(tokens),
        labels=tokens.where(labelled, IGNORED),
        tokens=len(ids),
        supervised=int(labelled.sum()),
    )


@torch.no_grad()
def _of_text(pair: Pair, ids: Sequence[int]) -> tuple[np.ndarray, int]:
    """The divergence at each place but the last, and at how many the likeliest is the same."""
    inputs = one_text(ids, [1] * len(ids)).to(pair.precision.device)
    with pair.precision.autocast():
        states = _states(pair.causal, inputs)
        with pair.base() as base:
            before = _states(base, inputs)
        parts, same = [], 0
        for start in range(0, len(states), CHUNK):
            chunk = slice(start, start + CHUNK)
            likely = _log_probabilities(pair.causal, states[chunk])
            with pair.base() as base:
                once = _log_probabilities(base, before[chunk])
            parts.append((once.exp() * (once - likely)).sum(-1).double().cpu())
            same += int((once.argmax(-1) == likely.argmax(-1)).sum())
    return torch.cat(parts).numpy(), same


def _states(causal: CausalModel, inputs: Inputs) -> Tensor:
    """The last hidden states of all places that predict one, [places, width]."""
    learner = Learner(causal, objective=Objective(dtype=torch.float32))
    return learner.states(inputs)[0, :-1]


def _log_probabilities(causal: CausalModel, states: Tensor) -> Tensor:
    logits: Tensor = causal.get_output_embeddings()(states)
    return logits.float().log_softmax(-1)
