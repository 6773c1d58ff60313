"""Between messages and ids in use: what the model is asked with, and what its answer says.

Both are read off how the template's family writes a trained answer, so that use is as training was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from glmprep.families import Family
from glmprep.families.thought import END, START, parted
from glmprep.labels import tokenize
from glmprep.records import Conversation, Message, Origin
from glmprep.sized import context
from glmprep.tokenizer import Tokenizer

SAID, THOUGHT = "?", "!"
"""An answer and its reasoning, to see what the template writes around them."""
ENDS = ("<|endoftext|>", "</s>")
"""What ends a text whatever the template, where a vocabulary has it."""
CHAT = Origin("chat", 1)
Tools: TypeAlias = Sequence[Mapping[str, Any]]
"""The functions that the model is offered, each as a JSON object."""


class Prompter:
    """Makes prompts by a family, and messages of answers; with `thinks` the model is to reason.

    `stops` are the ids that end an answer.
    """

    def __init__(self, family: Family, tokenizer: Tokenizer, *, thinks: bool) -> None:
        self.family, self.tokenizer = family, tokenizer
        self.thinks = thinks and family.reasoning != "untrained"
        ends = {tokenizer.added_id(text) for text in ENDS if text in tokenizer.added}
        self.stops = family.stops | ends
        ids, mask = self._tokens([Message(role="user", content=SAID)])
        written = tokenizer.decode(ids[mask == 1].tolist())
        self._lead = written.partition(THOUGHT if self.thinks else SAID)[0]
        self._opened = self.thinks and START not in written

    def __call__(self, messages: Sequence[Message], tools: Tools = ()) -> list[int]:
        """The ids that ask for an answer: all that stands before the first trained token of one."""
        ids, mask = self._tokens(messages, tools)
        asked: list[int] = ids[: int(mask.argmax())].tolist()
        return asked

    def answer(self, text: str) -> Message:
        """The message of a generated text; it is all reasoning where that came to no end."""
        if not self.thinks:
            return Message(role="assistant", content=text.removeprefix(self._lead))
        if END in text:
            reasoning, content = parted(text)
        elif self._opened or START in text:
            reasoning, content = text.split(START)[-1].strip("\n"), ""
        else:
            reasoning, content = "", text.lstrip("\n")
        return Message(role="assistant", content=content, reasoning=reasoning)

    def _tokens(
        self, messages: Sequence[Message], tools: Tools = ()
    ) -> tuple[np.ndarray, np.ndarray]:
        """Ids and mask of the messages and an answer, in which nothing else is trained."""
        answer = Message(role="assistant", content=SAID, reasoning=THOUGHT if self.thinks else "")
        said = (*context(messages), answer)
        asked = Conversation(id=CHAT.path, messages=said, tools=tuple(tools), origin=CHAT)
        batch = tokenize([asked], self.family, self.tokenizer)
        return batch.ids, batch.mask
