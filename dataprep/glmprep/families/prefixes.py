"""A conversation rendered by a template: whole, and its first turns, which must open the whole."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cached_property

from glmprep.families.controls import Controls, Disguise
from glmprep.families.forms import Form, Said, forms_of
from glmprep.families.piece import Thinking
from glmprep.families.rendering import Renderer, Unrenderable
from glmprep.families.thought import END, parted
from glmprep.records import Conversation, Message

CHANGES = "the template changes earlier turns once more follow, as where it drops reasoning"


class Unstable(Unrenderable):
    """The template changes earlier turns once more follow."""


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """A conversation and its rendering.

    Of a turn that was cut, `marks` stand for the text of its pieces, by the number of the turn.
    """

    renderer: Renderer
    said: list[Said]
    tools: list[Form] | None
    thinking: bool
    disguise: Disguise
    marks: dict[int, str]

    @cached_property
    def whole(self) -> str:
        """The text of all messages; raises Unrenderable."""
        return self._text(len(self.said))

    def length(self, count: int, *, prompt: bool = False) -> int:
        """Where the first messages end in the whole, or with `prompt` where the next is asked for.

        Raises Unstable where they are written in another way when they stand alone.
        """
        if count == len(self.said) and not prompt:
            return len(self.whole)
        text = self._text(count, prompt=prompt)
        if not self.whole.startswith(text):
            raise Unstable(CHANGES)
        return len(text)

    def require_stable(self) -> None:
        """Raise Unstable where an answer does not stand behind what the model is asked with."""
        for place, said in enumerate(self.said):
            if said.form["role"] == "assistant":
                self.length(place, prompt=True)
                self.length(place + 1)

    def require_all(self) -> None:
        """Raise Unrenderable where the template leaves something out that was said."""
        for said in self.said:
            content = said.form["content"]
            if not self._shows(content) and not set(content) & set(self.marks.values()):
                turn = f"message {said.turn + 1}, {said.form['role']}"
                raise Unrenderable(f"the template changes {turn}, or leaves it out")
            for call in said.form.get("tool_calls", ()):
                if call["function"]["name"] not in self.whole:
                    raise Unrenderable(
                        f"the template leaves out the call in message {said.turn + 1}"
                    )
        for mark in self.marks.values():
            if self.whole.count(mark) != 1:
                raise Unrenderable("the template does not write a piece of a turn once")
        for tool in self.tools or ():
            name = tool.get("function", tool).get("name", "")
            if name not in self.whole:
                raise Unrenderable("the template leaves out the tools")

    def _shows(self, content: str) -> bool:
        text = content.strip()
        written = (text, json.dumps(text, ensure_ascii=False)[1:-1], json.dumps(text)[1:-1])
        return any(form in self.whole for form in written)

    def _text(self, count: int, *, prompt: bool = False) -> str:
        messages = [said.form for said in self.said[:count]]
        return self.renderer(messages, self.tools, prompt=prompt, thinking=self.thinking)


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """Renders conversations by one template; `reasons` says that it writes reasoning apart."""

    renderer: Renderer
    controls: Controls
    thinking: Thinking
    reasons: bool = True

    def __call__(self, conversation: Conversation) -> Rendered:
        """The conversation rendered, once it is asked for."""
        conversation = self.normal(conversation)
        said, tools = forms_of(conversation, self.renderer)
        disguise = Disguise([one.form for one in said], tools)
        marks: dict[int, str] = {}
        said = [_marked(one, disguise, marks) for one in said]
        if self.controls.in_any([[one.form for one in said], tools]):
            said = [one._replace(form=self.controls.hide(one.form, disguise)) for one in said]
            tools = self.controls.hide(tools, disguise)
        thinks = self.thinking == "on" or (
            self.thinking == "auto" and any(m.reasoning for m in conversation.messages)
        )
        return Rendered(
            renderer=self.renderer,
            said=said,
            tools=tools,
            thinking=thinks,
            disguise=disguise,
            marks=marks,
        )

    def normal(self, conversation: Conversation) -> Conversation:
        """The conversation with reasoning where the template reads it, none with thinking off."""
        messages = tuple(map(self._normal, conversation.messages))
        return replace(conversation, messages=messages)

    def _normal(self, message: Message) -> Message:
        if message.role != "assistant":
            return message
        apart = self.reasons and END in message.content and message.part is None
        if apart and not message.reasoning:
            reasoning, content = parted(message.content)
            message = replace(message, reasoning=reasoning, content=content)
        return replace(message, reasoning="") if self.thinking == "off" else message


def _marked(said: Said, disguise: Disguise, marks: dict[int, str]) -> Said:
    """The message with marks for its content where that is pieces of a turn."""
    if all(part.part is None for part in said.parts):
        return said
    for place, part in enumerate(said.parts):
        marks[said.turn + place] = disguise.hide(part.content)
    content = "".join(marks[said.turn + place] for place in range(len(said.parts)))
    return said._replace(form={**said.form, "content": content})
