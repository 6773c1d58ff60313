"""Random models of each kind, small enough to be made anew for a test."""

from __future__ import annotations

from typing import Any

import torch
from glmtrain.model import quiet_libraries

SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
}
HEADS = {"num_key_value_heads": 1, "head_dim": 16}
EXPERTS = {
    "moe_intermediate_size": 32,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_shared_experts": 1,
    "n_group": 1,
    "topk_group": 1,
}
LATENT = {
    "kv_lora_rank": 16,
    "q_lora_rank": 16,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 16,
    "v_head_dim": 16,
    "num_key_value_heads": 2,
    "mlp_layer_types": ["dense", "sparse"],
}
KINDS: dict[str, dict[str, Any]] = {
    "Glm": HEADS,
    "Glm4": HEADS,
    "Glm4Moe": HEADS | EXPERTS | {"first_k_dense_replace": 1},
    "Glm4MoeLite": EXPERTS | LATENT,
}


def make(kind: str = "Glm", *, vocabulary: int = 320, tied: bool = False) -> Any:
    """A random model in float32, the same each time."""
    with quiet_libraries():
        import transformers

        config = getattr(transformers, f"{kind}Config")(
            vocab_size=vocabulary, tie_word_embeddings=tied, **SHAPE, **KINDS[kind]
        )
        torch.manual_seed(0)
        model = getattr(transformers, f"{kind}ForCausalLM")(config)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.normal_(0, 0.2)
    model.config.use_cache = False
    return model.eval()


def text(length: int = 24) -> torch.Tensor:
    """Random ids, [2, length]."""
    return torch.randint(1, 300, (2, length), generator=torch.Generator().manual_seed(1))


def logits(model: Any, ids: torch.Tensor | None = None) -> torch.Tensor:
    """What the model says of a text, [2, length, vocabulary]."""
    with torch.no_grad(), quiet_libraries():
        found: torch.Tensor = model.eval()(input_ids=text() if ids is None else ids).logits
    return found


def loss(model: Any) -> torch.Tensor:
    """A loss with a gradient to all that learns."""
    with quiet_libraries():
        found: torch.Tensor = model.train()(input_ids=text(), labels=text()).loss
    return found


def scatter(learner: Any) -> None:
    """Give all that learns other values, as training would."""
    torch.manual_seed(3)
    with torch.no_grad():
        for weight in learner.learning().values():
            weight.add_(torch.randn_like(weight) * 0.1)
