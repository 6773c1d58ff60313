"""Attention over a trainable prefix: keys and values that every token sees before the text's own.

A prefix put in a key and value cache, as peft does, is lost to gradient checkpointing and takes the
mask off packed rows. Here it is joined to the keys and values inside attention, behind a cache, so
that neither a cache nor the way a text is divided among rows knows of it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from glmprep.errors import UsageError
from torch import Tensor, nn
from torch.nn.functional import pad

PREFIX = "prefix"
"""The parameter of an attention layer, [2 (keys, values), heads, tokens, width of a head]."""
KINDS = ("sdpa", "eager")


def require(kind: str) -> None:
    """Raise UsageError for a kind of attention that takes no mask of any shape."""
    if kind not in KINDS:
        raise UsageError(
            f"model.attention = {kind!r}: a prefix needs {' or '.join(KINDS)}; "
            "set model.attention to sdpa, or model.method to lora"
        )


def register(kind: str, tokens: int) -> str:
    """Make attention of this kind known with a prefix before it; its name for transformers."""
    from transformers import AttentionInterface, AttentionMaskInterface

    name = f"{kind}_behind_{tokens}"
    AttentionInterface.register(name, partial(attend, kind=kind))
    AttentionMaskInterface.register(name, partial(mask, kind=kind, tokens=tokens))
    return name


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    kind: str,
    **options: Any,
) -> tuple[Tensor, Tensor | None]:
    """Attention over the layer's prefix and `key`, `value`, [rows, heads, length, width]."""
    if attention_mask is None:  # then the first keys would be taken for the text's own
        raise UsageError(f"{type(module).__name__}: attends without a mask; it can have no prefix")
    keys, values = getattr(module, PREFIX)
    return _plain(module, kind)(
        module, query, _joined(keys, key), _joined(values, value), attention_mask, **options
    )


def mask(*, kind: str, tokens: int, **options: Any) -> Tensor:
    """The mask of a kind of attention, with columns in front that every token sees.

    Padding sees them too: it is read by no one, and a row that sees nothing would be NaN.
    """
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

    # Attention that is causal by a flag instead of a mask counts the prefix as text.
    own: Tensor = ALL_MASK_ATTENTION_FUNCTIONS[kind](**{**options, "allow_is_causal_skip": False})
    seen = own.dtype == torch.bool  # 0 in an additive mask
    return pad(own, (tokens, 0), value=seen)


def shifted(
    _module: nn.Module, args: tuple[Any, ...], options: dict[str, Any], *, tokens: int
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A rotary embedding's arguments, (states, position_ids), with text behind the prefix."""
    if "position_ids" in options:
        return args, {**options, "position_ids": options["position_ids"] + tokens}
    states, position_ids, *rest = args
    return (states, position_ids + tokens, *rest), options


def _plain(module: nn.Module, kind: str) -> Callable[..., tuple[Tensor, Tensor | None]]:
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    # Every family has an eager function of its own, beside its classes.
    eager = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
    plain: Callable[..., Any] = ALL_ATTENTION_FUNCTIONS.get_interface(kind, eager)
    return plain


def _joined(prefix: Tensor, text: Tensor) -> Tensor:
    """The prefix before each row's keys or values, in their number format."""
    rows = prefix.to(text.dtype).expand(len(text), -1, -1, -1)
    return torch.cat((rows, text), dim=2)
