"""What ids and masks should be: the models' templates as transformers renders them, and nothing of
glmprep.

A reference takes a row in OpenAI's form and gives its ids and its mask. The ids are those of the
rendered text, tokenized whole, with the stop token behind it that templates leave out. Trained is
what lies behind the generation prompt, which is found by rendering the messages before an answer.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

Row = dict[str, Any]
Message = dict[str, Any]
Expected = tuple[list[int], list[int]]

USER, ASSISTANT, OBSERVATION = "<|user|>", "<|assistant|>", "<|observation|>"
THINKS = ("<think>", "</think>")
TAGS = ("tool_call", "tool_response", "arg_key", "arg_value")
REST = (*(f"<{slash}{tag}>" for tag in TAGS for slash in ("", "/")), "/nothink")
FIRST_ID = 151343
BEFORE = (
    *(f"<|{edge}_of_{what}|>" for what in ("audio", "transcription") for edge in ("begin", "end")),
    *(f"<|code_{part}|>" for part in ("prefix", "middle", "suffix")),
)
"""What stands before `<think>` (151350) in the vocabularies from GLM-4.5 on, from FIRST_ID."""


def vocabulary(tokenizer_json: bytes, tokens: Iterable[str]) -> bytes:
    """A tokenizer.json with more added tokens, which are not special, as from GLM-4.5 on."""
    config = json.loads(tokenizer_json)
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    config["added_tokens"] += [
        {"id": number, "content": token, **flags}
        for number, token in enumerate((*BEFORE, *tokens), FIRST_ID)
    ]
    return json.dumps(config).encode()


@cache
def _official(tokenizer_json: bytes) -> Any:
    from transformers import PreTrainedTokenizerFast

    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        Path(file.name).write_bytes(tokenizer_json)
        return PreTrainedTokenizerFast(tokenizer_file=file.name)


class Template:
    """A chat template and a tokenizer, as transformers uses them."""

    def __init__(self, tokenizer_json: bytes, template: str) -> None:
        self.tokenizer = _official(tokenizer_json)
        self._template = template

    def render(self, messages: Sequence[Message], tools: Any, **options: Any) -> str:
        return str(
            self.tokenizer.apply_chat_template(
                list(messages),
                tools=tools or None,
                chat_template=self._template,
                tokenize=False,
                **options,
            )
        )

    def encode(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def masked(self, text: str, spans: Sequence[tuple[int, int]]) -> Expected:
        """Ids of a text, and for each whether it lies in one of the spans of characters."""
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        trained = bytearray(len(text))
        for first, last in spans:
            trained[first:last] = b"\1" * (last - first)
        mask = [int(all(trained[start:end])) for start, end in encoded["offset_mapping"]]
        return list(encoded["input_ids"]), mask


@dataclass(frozen=True)
class Reference:
    """A family's template, and what is to be known of it.

    `native` makes of a row's messages those that the template takes; with `flat`, calls are
    messages of their own. `stops` are the role tokens that may end an answer.
    """

    template: Template
    native: Callable[[Row], list[Message]]
    stops: tuple[str, ...]
    thinking: str = "off"
    tools_in_message: bool = False
    switched: bool = False
    """Whether the template has the option `enable_thinking`."""
    prompt_tells: bool = False
    """Whether the generation prompt tells if the answer is to have reasoning (GLM-4.7)."""
    hides: bool = False
    """Whether the template never shows reasoning (GLM-Z1)."""

    def __call__(self, row: Row) -> Expected:
        row = self.seen(row)
        messages = self.native(row)
        if self.hides and row["messages"][-1].get("reasoning_content"):
            return self._with_hidden_reasoning(row, messages)
        text = self.text(row, messages)
        spans = [
            self._span(text, row, messages, place)
            for place, message in enumerate(messages)
            if message["role"] == "assistant" and message.get("weight") != 0
        ]
        return self.template.masked(text, spans)

    def seen(self, row: Row) -> Row:
        """The row without reasoning, where the mode leaves it out."""
        if self.thinking == "off":
            return row | {"messages": [_without_reasoning(m) for m in row["messages"]]}
        return row

    def options(self, row: Row) -> dict[str, Any]:
        reasons = any(message.get("reasoning_content") for message in row["messages"])
        off = self.thinking == "off" or (self.thinking == "auto" and not reasons)
        return {"enable_thinking": False} if off and self.switched else {}

    def text(self, row: Row, messages: list[Message] | None = None) -> str:
        """The rendered text and the stop token behind it."""
        messages = self.native(row) if messages is None else messages
        said = self._render(row, messages)
        last = messages[-1]
        if last["role"] != "assistant":
            return said
        return said + (OBSERVATION if last.get("tool_calls") or last.get("metadata") else USER)

    def _render(self, row: Row, messages: Sequence[Message], **more: Any) -> str:
        tools = None if self.tools_in_message else row.get("tools")
        return self.template.render(messages, tools, **{**self.options(row), **more})

    def _span(self, text: str, row: Row, messages: list[Message], place: int) -> tuple[int, int]:
        """From the end of the generation prompt to and with the stop token."""
        asked: dict[str, Any] = {"add_generation_prompt": True}
        if self.prompt_tells and not messages[place].get("reasoning_content"):
            asked["enable_thinking"] = False
        prompt = self._render(row, messages[:place], **asked)
        if self.hides:  # the template shows no answer behind the prompt that it asks with
            prompt = prompt.removesuffix("\n<think>")
        said = self._render(row, messages[: place + 1])
        assert said.startswith(prompt)
        assert text.startswith(said)
        stop = next((stop for stop in self.stops if text.startswith(stop, len(said))), "")
        return len(prompt), len(said) + len(stop)

    def _with_hidden_reasoning(self, row: Row, messages: list[Message]) -> Expected:
        """GLM-Z1: what stands behind the generation prompt that asks it to think."""
        place = max(at for at, said in enumerate(messages) if said.get("reasoning_content"))
        before, last, calls = messages[:place], messages[place], messages[place + 1 :]
        prompt = self._render(row, before, add_generation_prompt=True)
        spans = [
            self._span(prompt, row, before, at)
            for at, message in enumerate(before)
            if message["role"] == "assistant" and message.get("weight") != 0
        ]
        ids, mask = self.template.masked(prompt, spans)
        said = f"\n{last['reasoning_content'].strip()}\n</think>"
        if last["content"]:
            said += f"\n{last['content']}"
        for call in calls:
            said += f"{ASSISTANT}{call['metadata']}\n{call['content']}"
        answer = self.template.encode(said + (OBSERVATION if calls else USER))
        return ids + answer, mask + [1] * len(answer)


def _without_reasoning(message: Message) -> Message:
    return {name: value for name, value in message.items() if name != "reasoning_content"}


def tagged(row: Row) -> list[Message]:
    """For GLM-4.5 and later: arguments as mappings."""
    messages = []
    for message in row["messages"]:
        made = message | {"content": message["content"] or ""}
        if message.get("tool_calls"):
            made["tool_calls"] = [
                {"function": {"name": name, "arguments": json.loads(arguments)}}
                for name, arguments in _calls(message)
            ]
        messages.append(made)
    return messages


def flat(row: Row) -> list[Message]:
    """For GLM-4-0414 and GLM-Z1: calls as messages with metadata, system messages in front."""
    return sorted(_flat(row), key=lambda message: message["role"] != "system")


def flat_with_tools(row: Row) -> list[Message]:
    """For GLM-4-9B-chat: the tools in a system message, and no empty messages."""
    messages = [message for message in _flat(row) if message["content"]]
    if row.get("tools"):
        messages.insert(0, {"role": "system", "content": "", "tools": row["tools"]})
    return messages


def _flat(row: Row) -> Iterator[Message]:
    for message in row["messages"]:
        weight = message.get("weight", 1)
        role = "observation" if message["role"] == "tool" else message["role"]
        said = {"role": role, "content": _text(message["content"]), "weight": weight}
        reasoning = message.get("reasoning_content")
        if reasoning:
            said["reasoning_content"] = reasoning
        if said["content"] or reasoning or not message.get("tool_calls"):
            yield said
        for name, arguments in _calls(message):
            yield {"role": role, "content": arguments, "metadata": name, "weight": weight}


def _calls(message: Message) -> Iterator[tuple[str, str]]:
    for call in message.get("tool_calls") or ():
        arguments = call["function"]["arguments"]
        if not isinstance(arguments, str):
            arguments = json.dumps(arguments, ensure_ascii=False)
        yield call["function"]["name"], arguments


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "".join(part["text"] for part in content)
    return content or ""


def _glm4(tokenizer_json: bytes, template: str, thinking: str) -> Reference:
    stops = (USER, OBSERVATION, ASSISTANT)
    made = Template(tokenizer_json, template)
    return Reference(made, flat_with_tools, stops, tools_in_message=True)


def _glm4_0414(tokenizer_json: bytes, template: str, thinking: str) -> Reference:
    return Reference(Template(tokenizer_json, template), flat, (USER, OBSERVATION, ASSISTANT))


def _glm_z1(tokenizer_json: bytes, template: str, thinking: str) -> Reference:
    made = Template(tokenizer_json, template)
    return Reference(made, flat, (USER, OBSERVATION, ASSISTANT), thinking, hides=True)


def _glm46(tokenizer_json: bytes, template: str, thinking: str) -> Reference:
    return Reference(
        Template(tokenizer_json, template), tagged, (USER, OBSERVATION), thinking, switched=True
    )


def _glm47(tokenizer_json: bytes, template: str, thinking: str) -> Reference:
    made = Template(tokenizer_json, template)
    stops = (USER, OBSERVATION)
    return Reference(made, tagged, stops, thinking, switched=True, prompt_tells=True)


@dataclass(frozen=True)
class Setup:
    """How a family's reference is made: its template, the tokens that its vocabulary adds."""

    template: str
    make: Callable[[bytes, str, str], Reference]
    tokens: tuple[str, ...] = ()


REFERENCES: dict[str, Setup] = {
    "glm4": Setup("glm-4-9b-chat.jinja", _glm4),
    "glm4-0414": Setup("GLM-4-0414.RECONSTRUCTED.jinja", _glm4_0414),
    "glm-z1": Setup("GLM-Z1-0414.jinja", _glm_z1),
    "glm4.5": Setup("GLM-4.6.jinja", _glm46, (*THINKS, *REST)),
    "glm4.6": Setup("GLM-4.6.jinja", _glm46, (*THINKS, *REST)),
    "glm4.7": Setup("GLM-4.7-Flash.jinja", _glm47, (*THINKS, *REST)),
}
"""One entry a family that is compared; the templates lie in the assets' folder `templates`."""
