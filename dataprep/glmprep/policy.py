"""Which of the assistant's turns are trained, as `--train-on` asks for."""

from __future__ import annotations

from dataclasses import replace

from glmprep.records import Conversation
from glmprep.source import TrainOn


def apply(conversation: Conversation, train_on: TrainOn) -> Conversation:
    """The conversation with the turns that `train_on` leaves out marked as untrained.

    `last` trains the assistant's last turn alone, `last-and-tool-calls` also every turn that calls
    a tool. All pieces of a turn that was cut are treated alike. What is untrained for another
    reason stays so.
    """
    messages = conversation.messages
    if train_on == "all":
        return conversation
    last = max((t for t, m in enumerate(messages) if m.role == "assistant"), default=-1)
    first = last
    while first > 0 and not messages[first].begins and messages[first - 1].role == "assistant":
        first -= 1

    def left_out(turn: int) -> bool:
        message = messages[turn]
        called = bool(message.tool_calls) and train_on == "last-and-tool-calls"
        return message.role == "assistant" and message.trained and turn < first and not called

    return replace(
        conversation,
        messages=tuple(
            replace(message, untrained="policy") if left_out(turn) else message
            for turn, message in enumerate(messages)
        ),
    )
