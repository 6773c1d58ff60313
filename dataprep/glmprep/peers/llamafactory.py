"""LLaMA-Factory: prompt and answer of each turn cut in proportion, later turns left out.

hiyouga/LLaMA-Factory, src/llamafactory/data/processor (`infer_seqlen`, `_encode_data_example`),
template.py (`glm4`: `efficient_eos`), converter.py (`SharegptDatasetConverter`) and tool_utils.py,
version 0.9.6.dev0 at commit ff6d4d12 of 2026-08-18; `cutoff_len` is 2,048.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from glmprep.families import Family
from glmprep.families.glm4 import LINE, tools_text
from glmprep.families.piece import NO_TURN
from glmprep.peers.fate import IGNORED, Kept, Labelled, Reading, label
from glmprep.peers.rows import Bool, Int64, Pairs, Rows, spans
from glmprep.records import Conversation, Message, ToolCall

GLM4 = "glm4"
END = 1
"""Tokens that are kept free for the end-of-text token behind a row."""
OTHER_WORDS = (("智谱AI训练", "智谱 AI 公司训练"), ("\n## ", "\n\n## "))
"""Where the list of tools differs from the one in the model's own template."""


@dataclass(frozen=True, slots=True)
class _Shares:
    """How many tokens of each pair's prompt and answer are kept."""

    prompt: Int64
    answer: Int64

    def whole(self, pairs: Pairs) -> Bool:
        """The pairs whose answer is kept to its end."""
        return np.asarray((self.answer > 0) & (self.answer == pairs.end - pairs.answer))


def share(prompt: Int64, answer: Int64, room: Int64) -> tuple[Int64, Int64]:
    """How many tokens of a prompt and its answer stay in `room` tokens, the first of each.

    An answer of less than half the room stays whole, and the prompt takes what is left. Else a
    prompt of less than half the room stays whole, and the answer takes what is left. Else both are
    cut in proportion to their lengths.
    """
    proportion = answer / np.maximum(prompt + answer, 1)
    allowed = np.select(
        [answer * 2 < room, prompt * 2 < room],
        [room, room - prompt],
        (room * proportion).astype(np.int64),
    )
    kept = np.minimum(allowed, answer)
    return np.minimum(np.maximum(room - kept, 0), prompt), kept


def keep(rows: Rows, length: int) -> Kept:
    """Each pair in turn gets what the pairs before it left of the limit, until nothing is left."""
    refused = _refused(rows)
    pairs, shares = rows.pairs, _shares(rows, length)
    present = _present(rows, shares) & ~refused[rows.row]
    trained = present & rows.trained
    ended = shares.whole(pairs) & ~refused[pairs.row]
    stops = pairs.end[ended & (pairs.end < rows.tokens.offsets[pairs.row + 1])]
    # The end-of-text token stands for the stop of a whole answer where the row goes no further.
    present[stops] = True
    trained[stops] = rows.trained[stops]
    cut = np.zeros(len(rows), np.bool_)
    cut[pairs.row[(shares.answer > 0) & ~shares.whole(pairs)]] = True
    return Kept(present=present, trained=trained, dropped=refused, stops_after_cut=cut & ~refused)


def label_answers(rows: Rows, length: int) -> Labelled:
    """The answers, and at the end of each the end-of-text token, whatever token stands there."""
    pairs, shares = rows.pairs, _shares(rows, length)
    present = _present(rows, shares)
    answered = spans(pairs.answer, shares.answer, len(rows.row))
    labels = np.where(answered, rows.tokens.ids, IGNORED)
    labels[pairs.prompt[(pairs.number > 0) & (shares.prompt > 0)]] = rows.end_of_text
    tail = np.full(len(rows), rows.end_of_text, np.int32)
    return label(rows, present, labels, tail=tail, tail_label=tail, refused=_refused(rows))


def read(conversation: Conversation, family: Family) -> Reading:
    """A conversation as the `sharegpt` format of LLaMA-Factory renders it.

    Arguments are written anew, and under `glm4` the list of tools stands behind the first system
    message, in the same turn.
    """
    turns = list(range(len(conversation.messages)))
    messages = list(map(_rewritten, conversation.messages))
    tools = conversation.tools
    if tools and family.name == GLM4:
        text = tools_text(tools).removeprefix(LINE)
        for ours, theirs in OTHER_WORDS:
            text = text.replace(ours, theirs)
        if messages[0].role != "system":
            turns.insert(0, NO_TURN)
            messages.insert(0, Message(role="system"))
        messages[0] = replace(messages[0], content=messages[0].content + text)
        tools = ()
    made = replace(conversation, messages=tuple(messages), tools=tools)
    return Reading(conversation=made, turns=turns)


def accepts(conversation: Conversation) -> bool:
    """Whether prompts and answers alternate, with an answer last; other rows are left out.

    A call is an answer of its own, so text beside it breaks the order. Several calls in one answer
    are no better: under `glm4` they end the run with an error.
    """
    messages = conversation.messages[conversation.messages[0].role == "system" :]
    alternate = all(
        message.role == "assistant" if place % 2 else message.role in ("user", "tool")
        for place, message in enumerate(messages)
    )
    single = all(len(m.tool_calls) + bool(m.content) < 2 for m in messages)
    return alternate and single and bool(messages) and len(messages) % 2 == 0


@lru_cache(maxsize=1)
def _refused(rows: Rows) -> Bool:
    """The rows that never get so far; asked for at every length of the same batch."""
    accepted = np.fromiter(map(accepts, rows.conversations), np.bool_, len(rows))
    return ~accepted


def _shares(rows: Rows, length: int) -> _Shares:
    pairs = rows.pairs
    prompt, answer = pairs.answer - pairs.prompt, pairs.end - pairs.answer
    kept = _Shares(np.zeros_like(prompt), np.zeros_like(answer))
    room = np.full(len(rows), length - END, np.int64)
    for number in range(int(pairs.number.max(initial=-1)) + 1):
        now = np.flatnonzero(pairs.number == number)
        now = now[room[pairs.row[now]] > 0]
        row = pairs.row[now]
        kept.prompt[now], kept.answer[now] = share(prompt[now], answer[now], room[row])
        room[row] -= kept.prompt[now] + kept.answer[now]
    return kept


def _present(rows: Rows, shares: _Shares) -> Bool:
    size, pairs = len(rows.row), rows.pairs
    return spans(pairs.prompt, shares.prompt, size) | spans(pairs.answer, shares.answer, size)


def _rewritten(message: Message) -> Message:
    """A message whose calls' arguments were read and written anew."""
    if not message.tool_calls:
        return message
    calls = tuple(
        ToolCall(name=call.name, arguments=_written(call.arguments)) for call in message.tool_calls
    )
    return replace(message, tool_calls=calls)


def _written(arguments: str) -> str:
    try:
        return json.dumps(json.loads(arguments), ensure_ascii=False)
    except (ValueError, RecursionError):
        return arguments
