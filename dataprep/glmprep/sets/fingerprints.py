"""What checks over the whole set keep of a conversation: its place, hashes and a signature.

No text is kept: it is about 310 bytes a conversation, however long the conversation is.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import orjson
import polars as pl

from glmprep.labels import TokenBatch
from glmprep.records import Conversation, Message
from glmprep.sets.neighbours import SIZE, UInt16, signatures
from glmprep.sets.wholes import fullest, goes_on, runs
from glmprep.text.hashing import UInt64, hash_runs, hash_texts

SCHEMA = {
    "file": pl.UInt32,
    "line": pl.UInt32,
    "digest": pl.UInt64,
    "opening": pl.UInt64,
    "prompt": pl.UInt64,
    "answer": pl.UInt64,
    "closed": pl.Boolean,
    "question": pl.UInt64,
    "ending": pl.UInt64,
}
FEW_WORDS = 24
"""Bytes of UTF-8 up to which a text is a label or a greeting, which many conversations share."""
SENTENCE = 40
"""Bytes up to which an answer may say no more than `Have a nice day!`"""


class Fingerprints:
    """Takes in batches as a collector does, and keeps of each conversation a row of `table`.

    digest: all its ids, and which of them are trained; opening: the user's first message, if it is
    more than a greeting; prompt: all that stands before the first answer, and the tools; answer:
    the first answer; closed: the conversation is one question and an answer of a few words; ending:
    the last answer, if it says something; question: what that answers. Null for no such text.
    """

    def __init__(self) -> None:
        self._files: dict[str, int] = {}
        self._tables = [pl.DataFrame(schema=SCHEMA)]
        self._signatures = [np.zeros((0, SIZE), np.uint16)]

    def add(self, rows: Sequence[Conversation], tokens: TokenBatch) -> None:
        """Take in a batch of rows and their tokens."""
        made = runs(rows)
        begun = np.array([not goes_on(rows[run.start]) for run in made])
        standing = [fullest(rows, run) for run in made]
        chosen = [rows[row] for row in standing]
        table = pl.DataFrame(
            {
                "file": [self._files.setdefault(c.origin.path, len(self._files)) for c in chosen],
                "line": [c.origin.line for c in chosen],
                "digest": _digests(tokens, made),
                **_texts(chosen),
            },
            schema=SCHEMA,
        )
        self._tables.append(table.filter(begun))
        self._signatures.append(signatures(rows, tokens, standing)[begun])

    @cached_property
    def table(self) -> pl.DataFrame:
        """All conversations, once all are added."""
        return pl.concat(self._tables).with_row_index("place")

    @cached_property
    def signatures(self) -> UInt16:
        """The signatures beside the table (n x SIZE; see `glmprep.sets.neighbours`)."""
        return np.concatenate(self._signatures)

    def where(self, place: int) -> str:
        """File and line of a conversation of the table."""
        file, line = self.table.row(place)[1:3]
        return f"{list(self._files)[file]}:{line}"


def _digests(tokens: TokenBatch, made: Sequence[range]) -> UInt64:
    """One hash of all that is computed and trained for each conversation."""
    rows = [*(run.start for run in made), made[-1].stop]
    numbers = (tokens.ids.astype(np.uint64) << np.uint64(1)) | tokens.mask
    return hash_runs(numbers, tokens.offsets[rows])


def _texts(conversations: Sequence[Conversation]) -> dict[str, pl.Series | list[bool]]:
    """The columns of SCHEMA that are made of texts."""
    exchanges = [_first_exchange(c) for c in conversations]
    ends = [_last_exchange(c) for c in conversations]
    return {
        "opening": hash_texts([_if_longer(opening, FEW_WORDS) for opening, _, _ in exchanges]),
        "prompt": hash_texts([prompt for _, prompt, _ in exchanges]),
        "answer": hash_texts([answer for _, _, answer in exchanges]),
        "closed": [
            _is_closed(c, opening, answer)
            for c, (opening, _, answer) in zip(conversations, exchanges, strict=True)
        ],
        "question": hash_texts([question for question, _ in ends]),
        "ending": hash_texts([ending for _, ending in ends]),
    }


def _first_exchange(conversation: Conversation) -> tuple[str | None, str | None, str | None]:
    """The user's first message, all that stands before its answer, and the answer."""
    messages = conversation.messages
    asked = next((t for t, m in enumerate(messages) if m.role == "user"), len(messages))
    answered = next(
        (t for t in range(asked, len(messages)) if messages[t].role == "assistant"), len(messages)
    )
    opening = messages[asked].content.strip() if asked < len(messages) else ""
    if not opening:
        return None, None, None
    if answered == len(messages):
        return opening, None, None
    before = [f"{m.role}\n{_said(m)}" for m in messages[:answered]]
    tools = orjson.dumps(conversation.tools).decode()
    return opening, "\0".join([tools, *before]), _said(messages[answered])


def _last_exchange(conversation: Conversation) -> tuple[str | None, str | None]:
    """The last answer, if it is a sentence or more, after the question that it answers."""
    messages = conversation.messages
    answered = next((t for t in reversed(range(len(messages))) if _is_answer(messages[t])), 0)
    asked = next((t for t in reversed(range(answered)) if messages[t].role == "user"), None)
    ending = _if_longer(messages[answered].content.strip(), SENTENCE)
    if asked is None or ending is None:
        return None, None
    return messages[asked].content.strip(), ending


def _is_closed(conversation: Conversation, opening: str | None, answer: str | None) -> bool:
    if opening is None or answer is None:
        return False
    said = sum(message.role != "system" for message in conversation.messages)
    brief = _if_longer(answer, FEW_WORDS) is None
    return said == 2 and brief and _if_longer(opening, FEW_WORDS) is not None


def _is_answer(message: Message) -> bool:
    return message.role == "assistant" and not message.tool_calls


def _said(message: Message) -> str:
    calls = [f"{call.name}\n{call.arguments}" for call in message.tool_calls]
    return "\0".join([message.content.strip(), *calls])


def _if_longer(text: str | None, least: int) -> str | None:
    return text if text and len(text.encode("utf-8", "replace")) > least else None
