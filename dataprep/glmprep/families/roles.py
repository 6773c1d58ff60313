"""What the templates from GLM-4 on share: prefix, role tokens, and how a turn ends.

GLM has no token that ends a turn: the next role token does, `<|user|>` after an answer and
`<|observation|>` after a tool call. Templates leave out the last one, so rows here carry it as
their closing stop.
"""

from __future__ import annotations

from glmprep.families.piece import NO_TOKEN
from glmprep.records import Conversation, Message
from glmprep.tokenizer import Tokenizer

SYSTEM, USER, ASSISTANT, OBSERVATION = (
    f"<|{role}|>" for role in ("system", "user", "assistant", "observation")
)
PREFIX = ("[gMASK]", "<sop>")
PAD = "<|endoftext|>"
LINE = "\n"


class Roles:
    """The role tokens of a tokenizer; raises InputError where it lacks one."""

    note = ""

    def __init__(self, tokenizer: Tokenizer) -> None:
        token = tokenizer.added_id
        self.prefix: tuple[int, ...] = tuple(token(text) for text in PREFIX)
        self.system, self.user = token(SYSTEM), token(USER)
        self.assistant, self.observation = token(ASSISTANT), token(OBSERVATION)
        self.pad_id = token(PAD)
        self.headers = {
            "system": self.system,
            "user": self.user,
            "assistant": self.assistant,
            "tool": self.observation,
        }

    def closing(self, conversation: Conversation) -> int:
        """`<|observation|>` after a tool call, `<|user|>` after an answer, none after the rest."""
        return self.stop_after(conversation.messages[-1])

    def stop_after(self, message: Message) -> int:
        """The token by which the model ends this turn, NO_TOKEN where it is not the model's."""
        if message.role != "assistant" or not message.ends:
            return NO_TOKEN
        return self.observation if message.tool_calls else self.user


def goes_on(before: Message | None, message: Message) -> bool:
    """Whether `message` is the next piece of the turn that `before` is a piece of."""
    if before is None or before.part is None or message.part is None:
        return False
    return before.role == message.role and message.part == (before.part[0] + 1, before.part[1])
