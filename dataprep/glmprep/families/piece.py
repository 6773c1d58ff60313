"""What a template family gives: pieces, and the ids around them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

from glmprep.records import Conversation

NO_TOKEN = -1
NO_TURN = -1
Thinking = Literal["on", "off", "auto"]
"""The mode in which answers are trained where a template has two; auto: on where one reasons."""
Reasoning = Literal["untrained", "optional", "expected"]
"""What a family makes of reasoning: it leaves it out, it trains it where there is some, or it also
teaches the model, by each answer without, not to think where it is meant to."""


class Piece(NamedTuple):
    """A control token and the text after it, up to the next control token.

    The text is encoded as one piece. `trained` says that the model would generate the text;
    `ends` that the turn ends with it, so that the token which comes next is how the model stops.
    A piece that goes on after another one has no `header` of its own (NO_TOKEN). `inner` says that
    the header is a token inside a turn, such as `<think>`: it is trained with its own text. `turn`
    is the message that it renders, NO_TURN for the list of tools.
    """

    header: int
    text: str
    trained: bool
    ends: bool
    turn: int
    inner: bool = False


def whole(header: int, text: str, trained: bool, turn: int) -> Piece:
    """The piece that renders a whole turn, as nearly all do; made quicker than by name."""
    return tuple.__new__(Piece, (header, text, trained, True, turn, False))


class Family(Protocol):
    """A chat template taken apart.

    `prefix` opens every row. `stops` are the tokens by which a turn of the assistant may end: a
    header among them is a training target where it follows a trained piece. `note` is what a person
    should know of where the template comes from, empty for nothing.
    """

    name: str
    note: str
    reasoning: Reasoning
    prefix: tuple[int, ...]
    stops: frozenset[int]
    pad_id: int

    def rows(self, conversation: Conversation) -> Sequence[Conversation]:
        """The rows that train the conversation, each answer in one of them.

        More than one where the template leaves out of later turns what the model said in earlier
        ones. Rows of rows are themselves.
        """

    def pieces(self, conversation: Conversation) -> list[Piece]:
        """The conversation in order, without the prefix and without the closing stop."""

    def closing(self, conversation: Conversation) -> int:
        """The stop token that the template leaves out at the end, NO_TOKEN for none."""
