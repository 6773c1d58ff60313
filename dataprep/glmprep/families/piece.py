"""What a template family gives: pieces, and the ids around them."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from glmprep.records import Conversation

NO_TOKEN = -1
NO_TURN = -1


class Piece(NamedTuple):
    """A control token and the text after it, up to the next control token.

    The text is encoded as one piece. `trained` says that the model would generate the text;
    `ends` that the turn ends with it, so that the token which comes next is how the model stops.
    A piece that goes on after another one has no `header` of its own (NO_TOKEN); `turn` is the
    message that it renders, NO_TURN for the list of tools.
    """

    header: int
    text: str
    trained: bool
    ends: bool
    turn: int


class Family(Protocol):
    """A chat template taken apart.

    `prefix` opens every row. `stops` are the tokens by which a turn of the assistant may end: a
    header among them is a training target where it follows a trained piece.
    """

    name: str
    prefix: tuple[int, ...]
    stops: frozenset[int]
    pad_id: int

    def pieces(self, conversation: Conversation) -> list[Piece]:
        """The conversation in order, without the prefix and without the closing stop."""

    def closing(self, conversation: Conversation) -> int:
        """The stop token that the template leaves out at the end, NO_TOKEN for none."""
