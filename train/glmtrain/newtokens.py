"""Rows of the embeddings for tokens that the base does not know.

A new token begins as the mean of the tokens of its description, or of its own text where it has
none (the idea of Hewitt 2021, "Initializing New Word Embeddings for Pretrained Language Models",
with a mean over the few tokens that speak of it instead of over all). GLM's vocabulary is padded,
so that most new ids have a row already; it was never trained, so it begins in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from glmprep.errors import UsageError
from glmprep.shards import Manifest
from glmprep.tokenizer import Tokenizer
from torch import Tensor, nn

from glmtrain import layers, vocabulary
from glmtrain.model import CausalModel

MULTIPLE = 64  # of rows: what matrix products on GPUs like


@dataclass(frozen=True, slots=True, kw_only=True)
class NewToken:
    """A token that was added for the data; `pieces` are the known ids that it begins from.

    They are None for one that the model was trained with before.
    """

    text: str
    id: int
    pieces: Sequence[int] | None


def of_data(manifests: Sequence[Manifest], path: str) -> tuple[NewToken, ...]:
    """The new tokens of shards that were made with one tokenizer, for the model at `path`.

    Of one that several describe the first counts. Raises UsageError where the tokenizer is not at
    hand that tells what they begin from.
    """
    made_with, added = manifests[0].tokenizer, manifests[0].added_ids
    known = added.items() & vocabulary.trained_with(path).items()
    before = tuple(NewToken(text=text, id=token, pieces=None) for text, token in sorted(known))
    fresh = [text for text, token in added.items() if (text, token) not in known]
    if not fresh:
        return before
    tokenizer = vocabulary.find(vocabulary.at_hand(path), made_with["sha256"], added)
    if tokenizer is None:
        raise UsageError(
            f"{path}: the shards add tokens to the tokenizer {made_with['name']!r}, which is not "
            "in the model's folder; copy its files there"
        )
    descriptions: dict[str, str] = {}
    for manifest in reversed(manifests):
        descriptions |= manifest.added_descriptions
    return before + of_texts(fresh, tokenizer, descriptions)


def of_texts(
    added: Sequence[str], tokenizer: Tokenizer, descriptions: Mapping[str, str] | None = None
) -> tuple[NewToken, ...]:
    """The added tokens of a manifest, with what they begin from.

    Raises InputError where the tokenizer has no such token.
    """
    described = descriptions or {}
    return tuple(
        NewToken(
            text=text,
            id=tokenizer.added_id(text),
            pieces=tokenizer.plain.encode(described.get(text, text)),
        )
        for text in added
    )


def extend(model: CausalModel, tokens: Sequence[NewToken]) -> None:
    """Give each new token its first row, in the input embeddings and in an untied output layer.

    Raises UsageError for one that begins from an id that the model has no row for.
    """
    if not tokens:
        return
    new = {token.id for token in tokens}
    known = _rows(model)
    for token in tokens:
        if any(piece in new or piece >= known for piece in token.pieces or ()):
            raise UsageError(
                f"new token {token.text}: its description holds a token that the model has no "
                "trained row for; describe it in plain words"
            )
    make_room(model, max(new))
    with torch.no_grad():
        for weight in _matrices(model):
            for token in tokens:
                if token.pieces is not None:
                    weight[token.id] = _mean(weight[list(token.pieces) or slice(known)])


def make_room(model: CausalModel, largest: int) -> None:
    """Resize a model without a row for id `largest`, to a multiple of 64 rows.

    The rows in between are the mean of the rows before, so that the same base always becomes the
    same model and an adapter that was trained on one gives the same logits on another.
    """
    known = _rows(model)
    if largest < known:
        return
    model.resize_token_embeddings(-(-(largest + 1) // MULTIPLE) * MULTIPLE, mean_resizing=False)
    with torch.no_grad():
        for weight in _matrices(model):
            weight[known:] = _mean(weight[:known])


def trained_rows(model: CausalModel, tokens: Sequence[NewToken]) -> dict[str, list[int]]:
    """The rows that learn, by the last name of their layer; a tied output layer has no own ones."""
    if not tokens:
        return {}
    names = [layers.embeddings_name(model)]
    if not _tied(model):
        names.append(layers.head_name(model))
    return {name.rpartition(".")[2]: sorted({token.id for token in tokens}) for name in names}


def _matrices(model: CausalModel) -> list[nn.Parameter]:
    embeddings = model.get_input_embeddings().weight
    return [embeddings] if _tied(model) else [embeddings, model.get_output_embeddings().weight]


def _tied(model: CausalModel) -> bool:
    return model.get_input_embeddings().weight is model.get_output_embeddings().weight


def _rows(model: CausalModel) -> int:
    return len(model.get_input_embeddings().weight)


def _mean(rows: Tensor) -> Tensor:
    return rows.float().mean(dim=0).to(rows.dtype)
