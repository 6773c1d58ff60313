"""Small tokenizers and model folders for tests of templates."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import tokenizers
from glmprep.ranks import WORDS
from tokenizers import decoders, models, pre_tokenizers, trainers

from .chats import FRAGMENTS

ROLES = ("<|system|>", "<|user|>", "<|assistant|>", "<|observation|>")
GLM4 = ("<|endoftext|>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>", *ROLES)
GLM45 = (*GLM4, "/nothink", "<think>", "</think>", "<tool_call>", "</tool_call>")


def write_folder(
    folder: Path, added: tuple[str, ...], template: str | None = None, **config: Any
) -> str:
    """A model's folder with a small vocabulary that splits words as GLM-4 does."""
    folder.mkdir(exist_ok=True)
    whole = tokenizers.Tokenizer.from_str(_small())
    whole.add_special_tokens([tokenizers.AddedToken(text, normalized=False) for text in added])
    whole.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    if template is not None:
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    return str(folder)


@cache
def _small() -> str:
    whole = tokenizers.Tokenizer(models.BPE())
    whole.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    whole.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, show_progress=False)
    whole.train_from_iterator([*FRAGMENTS, ">\n", "\n\n", "assistant\n"], trainer)
    text: str = whole.to_str()
    return text
