"""Answers to several prompts at once, padded on the left so that all of them end together."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor

from glmtrain.generate import Sampler, Speaker


@torch.inference_mode()
def speak(
    speaker: Speaker,
    prompts: Sequence[Sequence[int]],
    samplers: Sequence[Sampler],
    *,
    stops: Collection[int],
    most: int,
) -> list[list[int]]:
    """At most `most` tokens behind each prompt; the last is a stop where the model ended.

    In exact arithmetic the tokens are those of each prompt alone: padding is masked, and positions
    count from a prompt's own beginning. Sums of another order round otherwise, though, so that two
    tokens of nearly the same score may change places, in bf16 and fp16 more often than in fp32.
    """
    said: list[list[int]] = [[] for _ in prompts]
    read, seen = _padded(prompts, speaker.precision.device)
    cache: Any = None
    for _ in range(most):
        scores, cache = _read(speaker, read, seen, cache)
        for row, (tokens, sampler) in enumerate(zip(said, samplers, strict=True)):
            if not (tokens and tokens[-1] in stops):
                tokens.append(sampler(scores[row, : speaker.vocabulary]))
        if all(tokens[-1] in stops for tokens in said):
            break
        # A row that has ended reads its stop again and again; nothing of it is kept.
        read = torch.tensor([[tokens[-1]] for tokens in said], device=read.device)
        seen = torch.cat((seen, torch.ones_like(read)), dim=1)
    return said


def _read(speaker: Speaker, ids: Tensor, seen: Tensor, cache: Any) -> tuple[Tensor, Any]:
    """The scores behind each row, [rows, vocabulary], and keys and values of all that was read."""
    positions = (seen.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
    with speaker.precision.autocast():
        read = speaker.causal.get_decoder()(
            input_ids=ids,
            attention_mask=seen,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
        )
        scores: Tensor = speaker.causal.get_output_embeddings()(read.last_hidden_state[:, -1])
    return scores, read.past_key_values


def _padded(prompts: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids and what of them is text, [rows, longest]; padding takes id 0, which no one reads."""
    longest = max(map(len, prompts))
    ids = [[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
    seen = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(ids, device=device), torch.tensor(seen, device=device)
