"""A model folder's own code as it was written for earlier versions of transformers."""

from __future__ import annotations

MODELING_OLD = '''\
"""A chat model's own code."""

from transformers import GlmForCausalLM
from transformers.modeling_utils import find_pruneable_heads_and_indices
from transformers.generation.utils import standardize_cache_format


class ChatGLMForConditionalGeneration(GlmForCausalLM):
    pass
'''
MODELING = '''\
"""A chat model's own code."""

from transformers import GlmForCausalLM


class ChatGLMForConditionalGeneration(GlmForCausalLM):
    def _update_model_kwargs_for_generation(self, outputs, model_kwargs, **kwargs):
        model_kwargs["past_key_values"] = self._extract_past_from_model_output(
            outputs, standardize_cache_format=False
        )
        return model_kwargs
'''
TOKENIZATION = '''\
"""A chat model's own tokenizer."""

from transformers import PreTrainedTokenizer
from transformers.utils import PaddingStrategy


class ChatGLM4Tokenizer(PreTrainedTokenizer):
    model_input_names = ["input_ids", "attention_mask"]

    def __init__(self, **kwargs):
        super().__init__(pad_token="<|endoftext|>", **kwargs)

    @property
    def vocab_size(self):
        return 8

    def get_vocab(self):
        return {str(n): n for n in range(8)}

    def _tokenize(self, text):
        return list(text)

    def _convert_token_to_id(self, token):
        return 1

    def _pad(
        self,
        encoded_inputs,
        max_length=None,
        padding_strategy=PaddingStrategy.DO_NOT_PAD,
        pad_to_multiple_of=None,
        return_attention_mask=None,
    ):
        assert self.padding_side == "left"
        return encoded_inputs
'''
