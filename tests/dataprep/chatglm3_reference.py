"""ChatGLM3's token ids by the description of its own code, with the sentencepiece library alone.

Every message is its role token, then `metadata + "\\n"` encoded, then its content encoded. The list
of tools joins the system message after a line break. A call is a message of the assistant: the
tool's name is the metadata, the content a block of Python. Trained is what the model generates
after `<|assistant|>`, and the role token at which it stops.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from glmprep.records import Conversation

GMASK, SOP, SYSTEM, USER, ASSISTANT, OBSERVATION = 64790, 64792, 64794, 64795, 64796, 64797
ROLES = {"system": SYSTEM, "user": USER, "assistant": ASSISTANT, "tool": OBSERVATION}
INTRODUCTION = (
    "Answer the following questions as best as you can. You have access to the following tools:"
)


def reference(
    conversation: Conversation, tokenizer_model_path: str | Path
) -> tuple[list[int], list[int]]:
    """Ids and loss mask of a whole conversation, the closing stop included."""
    encode = _model(str(tokenizer_model_path)).encode
    ids, mask, awaits_stop = [GMASK, SOP], [0, 0], False
    said = _messages(conversation)
    for role, metadata, content, trained in said:
        ids.append(ROLES[role])
        mask.append(int(awaits_stop and role != "system"))
        body = [*encode(f"{metadata}\n"), *encode(content)]
        ids += body
        mask += [int(trained)] * len(body)
        awaits_stop = trained
    role, metadata, _, trained = said[-1]
    if role == "assistant":
        ids.append(OBSERVATION if metadata else USER)
        mask.append(int(trained))
    return ids, mask


def _messages(conversation: Conversation) -> list[tuple[str, str, str, bool]]:
    """Role, metadata, content, and whether it is trained, of each message of the model's own."""
    made: list[tuple[str, str, str, bool]] = []
    for message in conversation.messages:
        trained = message.role == "assistant" and message.trained
        if message.content:
            made.append((message.role, "", message.content, trained))
        for call in message.tool_calls:
            named = json.loads(call.arguments).items()
            code = f"tool_call({', '.join(f'{key}={value!r}' for key, value in named)})"
            made.append(("assistant", call.name, f"```python\n{code}\n```", trained))
    if conversation.tools:
        has_system = conversation.messages[0].role == "system" and bool(made[0][2])
        if not (has_system and made[0][0] == "system"):
            made.insert(0, ("system", "", INTRODUCTION, False))
        functions = [tool.get("function", tool) for tool in conversation.tools]
        listed = json.dumps(functions, indent=4, ensure_ascii=False)
        made[0] = ("system", "", f"{made[0][2]}\n{listed}", False)
    return made


@functools.cache
def _model(path: str) -> Any:
    import sentencepiece

    return sentencepiece.SentencePieceProcessor(model_file=path)
