"""The configurations of `memory.py`: what differs from one row of 256 tokens, LoRA, fp32."""

from __future__ import annotations

from typing import Any

SMALL = {
    "hidden_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "intermediate_size": 688,
    "vocab_size": 2048,
}
EXPERTS = {
    "num_attention_heads": 8,
    "head_dim": 32,
    "n_routed_experts": 8,
    "num_experts_per_tok": 3,
    "moe_intermediate_size": 96,
    "n_shared_experts": 1,
    "first_k_dense_replace": 1,
}
DEEP = {
    "hidden_size": 192,
    "num_hidden_layers": 7,
    "num_attention_heads": 6,
    "num_key_value_heads": 1,
    "head_dim": 48,
    "intermediate_size": 480,
    "vocab_size": 5000,
}
SIZES: dict[str, dict[str, Any]] = {
    "small": SMALL,
    "wide": {**SMALL, "hidden_size": 384, "num_hidden_layers": 2, "intermediate_size": 512},
    "vocabulary": {**SMALL, "num_hidden_layers": 2, "vocab_size": 16_384},
    "experts": {**SMALL, **EXPERTS},
    "many experts": {**SMALL, **EXPERTS, "n_routed_experts": 32, "num_experts_per_tok": 4},
    "deep": DEEP,
    "deep experts": {
        **DEEP,
        "n_routed_experts": 12,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 160,
        "n_shared_experts": 2,
        "first_k_dense_replace": 2,
    },
}

FULL: dict[str, Any] = {"method": "full"}
QLORA: dict[str, Any] = {"method": "qlora"}
PREFIX: dict[str, Any] = {"method": "ptuning"}
BF16: dict[str, Any] = {"dtype": "bf16"}
AGAIN: dict[str, Any] = {"checkpointing": True}
GLM4: dict[str, Any] = {"kind": "Glm4"}
MIXTURE: dict[str, Any] = {"kind": "Glm4Moe", "sizes": "experts"}
MANY: dict[str, Any] = {"kind": "Glm4Moe", "sizes": "many experts", "length": 64}
WORDS: dict[str, Any] = {"sizes": "vocabulary"}
PAIR: dict[str, Any] = {"rows": 2, "length": 128}
HF: dict[str, Any] = {"trainer": "hf"}
EVALUATION: dict[str, Any] = {"phase": "evaluation"}
ANSWERS: dict[str, Any] = {"phase": "generation", "method": "full"}
RESUME: dict[str, Any] = {"phase": "resume"}

CASES: list[dict[str, Any]] = [
    FULL,
    {**FULL, **AGAIN, **PAIR},
    {**FULL, **AGAIN, "sizes": "wide", "rows": 4, "length": 64},
    {**FULL, **BF16, "length": 128},
    {**FULL, **BF16, **AGAIN, "rows": 2, "length": 64},
    {**FULL, **BF16, "pure": True, "length": 128},
    {**FULL, "tied": True},
    {**FULL, **WORDS, **AGAIN},
    {**FULL, "accumulate": 2},
    {**FULL, "optimiser": "adafactor"},
    {**FULL, "optimiser": "adamw8bit"},
    {**FULL, "optimiser": "muon"},
    {**FULL, "optimiser": "lion"},
    {**FULL, **GLM4, "length": 512},
    {"length": 512},
    {**AGAIN, "length": 512},
    {"rows": 4, "length": 64},
    {**AGAIN, "sizes": "wide", "rows": 2},
    {**AGAIN, **WORDS, **PAIR},
    {**BF16, "rows": 2, "length": 64},
    {**BF16, **AGAIN, "length": 128},
    BF16,
    {**BF16, "pure": True},
    GLM4,
    {**GLM4, **AGAIN, **PAIR},
    {"dropout": 0.1},
    {**AGAIN, "dropout": 0.1},
    {**PAIR, "accumulate": 2},
    {"optimiser": "adamw8bit"},
    {**QLORA, "rows": 2, "length": 64},
    {**QLORA, **AGAIN},
    {**QLORA, **GLM4},
    PREFIX,
    {**PREFIX, **AGAIN, **PAIR, "sizes": "wide"},
    {**PREFIX, **GLM4},
    {**MIXTURE, **FULL},
    {**MIXTURE, **FULL, **AGAIN},
    {**MIXTURE, **FULL, **BF16, "length": 128},
    MIXTURE,
    {**MIXTURE, **AGAIN},
    {**MIXTURE, **BF16, "length": 128},
    {**MIXTURE, "head_norms": True},
    {**MIXTURE, "rows": 4, "length": 64},
    {**MIXTURE, **QLORA},
    {**MIXTURE, **QLORA, **AGAIN},
    {**MIXTURE, **PREFIX},
    {**MANY, **FULL},
    MANY,
    {**MANY, **AGAIN},
    {**MANY, **BF16, **AGAIN},
    {**HF, **FULL, **WORDS, "rows": 2},
    {**HF, **FULL, **WORDS, **PAIR, **BF16},
    {**HF, **FULL, **WORDS, **PAIR, **BF16, "pure": True},
    {**HF, **WORDS, **PAIR, **BF16},
    {**HF, **WORDS, **AGAIN, "rows": 2},
    {**HF, **GLM4, **FULL, "rows": 4, "length": 64},
    {**HF, **GLM4, **AGAIN, **WORDS},
    {**EVALUATION, "length": 512},
    {**EVALUATION, "rows": 2},
    {**EVALUATION, **BF16, "rows": 2},
    {**EVALUATION, **FULL, **WORDS, "length": 512},
    {**EVALUATION, **FULL, **BF16},
    {**EVALUATION, **QLORA},
    {**EVALUATION, **MIXTURE},
    {**EVALUATION, **MIXTURE, **FULL},
    {**EVALUATION, **HF, **FULL, **WORDS, "rows": 2},
    {**ANSWERS, "rows": 2, "length": 512},
    {**ANSWERS, "rows": 4, "length": 32},
    {**ANSWERS, **BF16},
    {**ANSWERS, **MIXTURE},
    {**RESUME, **FULL},
    RESUME,
    {**RESUME, "optimiser": "lion", **FULL},
    {**RESUME, "optimiser": "adafactor", **FULL},
]

NEW: dict[str, Any] = {"sizes": "deep"}
NEW_MIXTURE: dict[str, Any] = {"kind": "Glm4Moe", "sizes": "deep experts"}
UNSEEN: list[dict[str, Any]] = [
    {**NEW, **QLORA, "length": 320},
    {**NEW, **QLORA, **AGAIN, "rows": 3, "length": 96},
    {**NEW, "rows": 3, "length": 200},
    {**NEW, **GLM4, **AGAIN, "length": 384},
    {**NEW, **FULL, **AGAIN, "length": 160, "tied": True},
    {**NEW, **GLM4, **PREFIX, "rows": 2, "length": 144},
    {**NEW, **BF16, **AGAIN, "length": 96},
    {**NEW, **FULL, **HF, "rows": 2, "length": 120},
    {**NEW_MIXTURE, "length": 120},
    {**NEW_MIXTURE, **AGAIN, "rows": 2, "length": 160},
    {**NEW_MIXTURE, **QLORA, "length": 120},
    {**NEW_MIXTURE, **QLORA, **AGAIN, "length": 240},
    {**NEW_MIXTURE, **FULL, **AGAIN, "length": 160},
    {**NEW_MIXTURE, **EVALUATION, "length": 200},
    {**NEW, **ANSWERS, "rows": 3, "length": 48},
]
"""Shapes on which nothing was worked out: what the error is elsewhere."""
