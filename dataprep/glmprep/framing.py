"""What a template puts around the text of a turn, measured on small conversations."""

from __future__ import annotations

from dataclasses import replace

from glmprep.families import Family
from glmprep.records import Conversation, Message, Origin, Role, ToolCall
from glmprep.sized import size
from glmprep.tokenizer import Tokenizer

NOWHERE = Origin("", 1)
QUESTION = Message(role="user", content="?")
CALL = Message(role="assistant", tool_calls=(ToolCall(name="f", arguments="{}"),))
BEFORE: dict[Role, tuple[Message, ...]] = {
    "system": (),
    "user": (),
    "assistant": (QUESTION,),
    "tool": (QUESTION, CALL),
}
"""What stands before a turn of each role in the smallest conversation that has one."""
BEHIND: dict[Role, tuple[Message, ...]] = {"system": (QUESTION,)}
"""What stands behind it there."""
WORD = "x"


class Framing:
    """Measures the turns of a family."""

    def __init__(self, family: Family, tokenizer: Tokenizer) -> None:
        self._family = family
        self._tokenizer = tokenizer
        self._rests: dict[Role, int] = {}

    def rest(self, role: Role) -> int:
        """Tokens around the text of the rest of a turn that was cut."""
        if role not in self._rests:
            self._rests[role] = self.around(Message(role=role, part=(1, 2)), "")
        return self._rests[role]

    def around(self, message: Message, lead: str) -> int:
        """Tokens of a turn beside its text and the `lead` that is encoded as one with it."""
        short = self.tokens(replace(message, content=WORD))
        return short - len(self._tokenizer.encode(lead + WORD))

    def tokens(self, message: Message) -> int:
        """Tokens of a turn, all that the template puts around its text among them."""
        (sized,) = size([_alone(message)], self._family, self._tokenizer)
        return sized.turn_tokens[len(BEFORE[message.role])]

    def lead(self, message: Message) -> str | None:
        """What is put before an answer's text and encoded as one with it.

        None where the text does not stand at the answer's end.
        """
        # An end token of the template's own, with a line break, may stand behind the text.
        for piece in reversed(self._family.pieces(_alone(message))):
            if piece.text.endswith(message.content):
                return piece.text.removesuffix(message.content)
        return None


def _alone(message: Message) -> Conversation:
    messages = (*BEFORE[message.role], message, *BEHIND.get(message.role, ()))
    return Conversation(id="", messages=messages, origin=NOWHERE)
