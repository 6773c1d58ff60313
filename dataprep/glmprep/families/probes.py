"""Small conversations that show how a chat template behaves."""

from __future__ import annotations

from glmprep.records import Conversation, Message, Origin, ToolCall

QUESTION, ANSWER = "What is six times seven?", "Forty-two."
FURTHER, REST = "And six times eight?", "Forty-eight, of course."
RULE = "Answer in words."
THOUGHT, SECOND_THOUGHT = "Seven sixes are wanted.", "Eight sixes are wanted."
RESULT = "42 exactly"
TOOL = {
    "type": "function",
    "function": {
        "name": "multiply",
        "description": "Multiply two numbers.",
        "parameters": {"type": "object", "properties": {"factors": {"type": "string"}}},
    },
}
CALL = ToolCall(name="multiply", arguments='{"factors": "six, seven"}')
CALLED = ("six, seven", "multiply")
"""What shows of a call, the last of it first."""


def _chat(*messages: Message, tools: bool = False) -> Conversation:
    return Conversation(
        id="probe",
        messages=messages,
        tools=(TOOL,) if tools else (),
        origin=Origin("the template's probe", 1),
    )


_user, _further = Message(role="user", content=QUESTION), Message(role="user", content=FURTHER)
_answer, _rest = (
    Message(role="assistant", content=ANSWER),
    Message(role="assistant", content=REST),
)

PLAIN = _chat(_user, _answer, _further, _rest)
SYSTEM = _chat(Message(role="system", content=RULE), *PLAIN.messages)
TOOLS = _chat(
    _user,
    Message(role="assistant", tool_calls=(CALL,)),
    Message(role="tool", content=RESULT),
    _answer,
    _further,
    _rest,
    tools=True,
)
THOUGHTS = _chat(
    _user,
    Message(role="assistant", content=ANSWER, reasoning=THOUGHT),
    _further,
    Message(role="assistant", content=REST, reasoning=SECOND_THOUGHT),
)
LAST_THOUGHT = _chat(_user, _answer, *THOUGHTS.messages[2:])
