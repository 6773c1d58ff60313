"""Tokens out of a model, one after the other."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from glmprep.errors import InputError, UsageError
from glmprep.tokenizer import Tokenizer
from torch import Tensor

from glmtrain.model import CausalModel
from glmtrain.precision import Precision

REPLACEMENT = "\ufffd"
"""What a decoder writes for bytes that are no character (yet)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How a token is chosen: the most likely one at temperature 0, else at random.

    Only the `top_k` most likely are drawn from (0: all), and of these the fewest whose
    probabilities sum to `top_p` (Holtzman et al. 2020, nucleus sampling).
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 42

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise UsageError(f"--temperature {self.temperature}: 0 for the likeliest, or more")
        if not 0 < self.top_p <= 1:
            raise UsageError(f"--top-p {self.top_p}: more than 0, and at most 1")
        if self.top_k < 0:
            raise UsageError(f"--top-k {self.top_k}: 0 for all, or a count")
        if not 0 <= self.seed < 2**32:
            raise UsageError(f"--seed {self.seed}: from 0 to {2**32 - 1}")


class Sampler:
    """Chooses tokens; the same seed and the same scores give the same choices on any device."""

    def __init__(self, settings: Sampling) -> None:
        self._settings = settings
        self._random = torch.Generator().manual_seed(settings.seed)

    def __call__(self, scores: Tensor) -> int:
        """A token from its scores (logits), [vocabulary]; raises InputError where they are NaN."""
        scores = scores.float().cpu()
        if scores.isnan().any():
            raise InputError(
                "the model's output is not a number; its weights are damaged, "
                "or too large for the number format: try --dtype fp32"
            )
        if self._settings.temperature == 0:
            return int(scores.argmax())
        likely, tokens = self._allowed(scores / self._settings.temperature)
        return int(tokens[likely.multinomial(1, generator=self._random)])

    def _allowed(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities and tokens that may be drawn, the likeliest first."""
        count = min(self._settings.top_k or len(scores), len(scores))
        highest, tokens = scores.topk(count)
        likely = highest.softmax(0)
        # A token stays while those before it fall short of top_p; the first one always does.
        kept = likely.cumsum(0) - likely < self._settings.top_p
        return likely[kept], tokens[kept]


@dataclass(frozen=True, slots=True, kw_only=True)
class Speaker:
    """A model that answers; `vocabulary` is how many ids mean something, others are not chosen."""

    causal: CausalModel
    precision: Precision
    vocabulary: int

    def tokens(
        self, prompt: Sequence[int], sampler: Sampler, *, stops: Collection[int], most: int
    ) -> Iterator[int]:
        """At most `most` tokens behind the prompt; the last is a stop where the model ended."""
        cache: Any = None
        unread = list(prompt)
        for _ in range(most):
            scores, cache = self._read(unread, cache)
            token = sampler(scores[: self.vocabulary])
            yield token
            if token in stops:
                return
            unread = [token]

    @torch.inference_mode()
    def _read(self, ids: list[int], cache: Any) -> tuple[Tensor, Any]:
        """The scores of the token behind `ids`, and keys and values of all that was read."""
        inputs = torch.tensor([ids], device=self.precision.device)
        with self.precision.autocast():
            read = self.causal.get_decoder()(
                input_ids=inputs, past_key_values=cache, use_cache=True
            )
            scores: Tensor = self.causal.get_output_embeddings()(read.last_hidden_state[0, -1])
        return scores, read.past_key_values


class Decoder:
    """Text of tokens as they come; a character that is spelt by several tokens comes whole."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._held: list[int] = []

    def add(self, token: int) -> str:
        """The text that this token completes."""
        self._held.append(token)
        text = self._tokenizer.decode(self._held)
        if text.endswith(REPLACEMENT):
            return ""
        self._held.clear()
        return text

    def rest(self) -> str:
        """What was held back to the end."""
        text = self._tokenizer.decode(self._held)
        self._held.clear()
        return text
