"""The tokenizer and the chat template as transformers reads them, for a model by itself.

What is written is what the run was trained with: its vocabulary, its template, and how the answers
of that template are told apart into text, reasoning and calls (a "response template").
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from glmprep import families
from glmprep.encoders import embedded
from glmprep.errors import SuiteError, UsageError
from glmprep.families import Family
from glmprep.families.folder import own_template, read_template
from glmprep.families.thought import END, START
from glmprep.tokenizer import Tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

ResponseTemplate: TypeAlias = dict[str, Any]
TEXT_END = "<|endoftext|>"
ROLES = ("<|user|>", "<|observation|>", "<|assistant|>", "<|system|>", TEXT_END)
WITHOUT_REASONING = ("chatglm3", "glm4", "glm4-0414")
CALL = {"type": "function", "function": {"name": "{name}", "arguments": "{content}"}}


def load(
    tokenizer: Tokenizer, family: Family, template: Path | None = None
) -> PreTrainedTokenizerFast:
    """transformers' own tokenizer with the same ids, and with the family's template.

    `template` is the file of a template of one's own. Raises UsageError for a vocabulary that
    transformers has only by code from the model's folder, and where the template is not at hand.
    """
    made = _embedded() if tokenizer.folder is None else _from_folder(tokenizer)
    added = sorted(tokenizer.added, key=tokenizer.added.__getitem__)
    made.add_tokens([text for text in added if _id(made, text) is None], special_tokens=True)
    _add(made, tokenizer.new)
    known = tokenizer.added | tokenizer.new
    wrong = [text for text, token in known.items() if _id(made, text) != token]
    if wrong:
        raise UsageError(f"{tokenizer.name}: transformers has another id for {wrong[0]}")
    made.chat_template = chat_template(tokenizer, family, template)
    made.response_template = response_template(family)
    return made


def chat_template(tokenizer: Tokenizer, family: Family, template: Path | None = None) -> str:
    """The text of the family's template; raises UsageError where it is not at hand."""
    if template is not None:
        return read_template(template)
    own = None if tokenizer.folder is None else own_template(tokenizer.folder)
    if own is not None and _detected(tokenizer) == family.name:
        return own[1]
    asset = getattr(family, "asset", family.name)
    file = resources.files("glmprep").joinpath(f"assets/{asset}.jinja")
    if not file.is_file():
        raise UsageError(f"no file of the template {family.name} is at hand; pass --template FILE")
    return file.read_text("utf-8")


def response_template(family: Family) -> ResponseTemplate:
    """How an answer of the family is parted, in the form that transformers' parser takes."""
    text = {"close_pattern": rf"\A\n|{_any(ROLES)}", "content_args": {"strip": False}}
    fields: dict[str, Any] = {"content": text}
    if family.name not in WITHOUT_REASONING:
        thought = {"open_pattern": rf"\s*{START}\n?", "close_pattern": rf"\n?{END}\n*"}
        fields["reasoning_content"] = thought
    if family.name.startswith(("glm4.5", "glm4.6", "glm4.7")):
        fields["tool_calls"] = {
            "open_pattern": r"\s*<tool_call>\s*(?P<name>[^\s<]+)\s*",
            "close": "</tool_call>",
            "repeats": True,
            "content": "xml-inline",
            "content_args": {
                "tag_pattern": r"<arg_key>\s*(?P<key>.*?)\s*</arg_key>\s*"
                r"<arg_value>(?P<value>.*?)</arg_value>",
                "value_parser": {"name": "json", "args": {"allow_non_json": True}},
            },
            "transform": CALL,
        }
    elif family.name in families.FAMILIES and family.name != "chatglm3":
        fields["tool_calls"] = {
            "open_pattern": r"(?:\A|<\|assistant\|>)(?P<name>[^\s{<]+)\n(?=\{)",
            "close_pattern": f"(?={_any(ROLES)})",
            "repeats": True,
            "content": "json",
            "content_args": {"allow_non_json": True},
            "transform": CALL,
        }
    return {
        "defaults": {"role": "assistant"},
        "start_anchor": "<|assistant|>",
        "fields": fields,
    }


def _any(texts: tuple[str, ...]) -> str:
    return "|".join(text.replace("|", r"\|") for text in texts)


def _detected(tokenizer: Tokenizer) -> str | None:
    """The family of the tokenizer's folder, None where it is of none."""
    try:
        return families.detect(tokenizer).family.name
    except SuiteError:
        return None


def _embedded() -> PreTrainedTokenizerFast:
    import tokenizers
    from transformers import PreTrainedTokenizerFast

    whole = tokenizers.Tokenizer.from_str(embedded.whole().decode())
    named = {"eos_token": TEXT_END, "pad_token": TEXT_END}
    return PreTrainedTokenizerFast(tokenizer_object=whole, padding_side="left", **named)


def _from_folder(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    folder = str(tokenizer.folder)
    try:
        made = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _unknown(folder) from error
    if not isinstance(made, PreTrainedTokenizerFast):
        raise _unknown(folder)
    return made


def _add(made: PreTrainedTokenizerFast, texts: Iterable[str]) -> None:
    """Tokens that a person added: found in content, and never left out of a text."""
    import tokenizers

    made.add_tokens([tokenizers.AddedToken(text, normalized=False) for text in texts])


def _unknown(folder: str) -> UsageError:
    return UsageError(
        f"{folder}: transformers has this tokenizer only by code from the folder; "
        "take the '-hf' edition's, which has a tokenizer.json"
    )


def _id(made: PreTrainedTokenizerFast, text: str) -> int | None:
    found: int | None = made.get_added_vocab().get(text)
    return found
