"""A text is cut where its pieces encode to exactly the ids of the whole."""

from __future__ import annotations

from glmprep.cut import cut, tail
from glmprep.parse import parse
from glmprep.read import read
from glmprep.records import Conversation
from glmprep.tokenizer import Tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from .chats import texts

LEAD = "\n"


def assert_cut(text: str, first: int, rest: int, tokenizer: Tokenizer) -> bool:
    """Check what `cut` gives; whether it found a way."""
    pieces = cut(text, first, rest, tokenizer, LEAD)
    if pieces is None:
        return False
    encoded = [tokenizer.encode(LEAD + pieces[0]), *map(tokenizer.encode, pieces[1:])]
    assert "".join(pieces) == text
    assert [token for ids in encoded for token in ids] == tokenizer.encode(LEAD + text)
    assert len(encoded[0]) <= first
    assert all(len(ids) <= rest for ids in encoded[1:])
    return True


@settings(max_examples=150, deadline=None)
@given(text=texts(60), first=st.integers(4, 60), rest=st.integers(1, 60))
def test_pieces_join_to_the_text_and_their_ids_to_its_ids(
    tokenizer: Tokenizer, text: str, first: int, rest: int
) -> None:
    assert_cut(text, first, rest, tokenizer)


def test_every_real_text_is_cut(tokenizer: Tokenizer) -> None:
    for sample in ("counselling", "meetings"):
        chats = [c for c in parse(read([f"sample:{sample}"])) if isinstance(c, Conversation)]
        for conversation in chats[:4]:
            text = "\n".join(message.content for message in conversation.messages)[:20_000]
            for room in (16, 100, 1000):
                assert assert_cut(text, room, room, tokenizer)


def test_a_place_whose_sides_encode_otherwise_is_passed_over(tokenizer: Tokenizer) -> None:
    text = "12345678" * 200  # digits are encoded in threes, from the left
    for room in (16, 60):
        assert assert_cut(text, room, room, tokenizer)


def test_a_text_is_cut_at_the_end_of_a_paragraph_before_that_of_a_sentence(
    tokenizer: Tokenizer,
) -> None:
    text = "One two three. Four five six.\n\nSeven eight. Nine ten eleven twelve thirteen."
    pieces = cut(text, 16, 16, tokenizer)
    assert pieces is not None
    assert pieces[0].endswith("six.\n\n")
    chinese = cut("今天很好。" * 20, 30, 30, tokenizer)
    assert chinese is not None
    assert all(piece.endswith("。") for piece in chinese)


@settings(max_examples=150, deadline=None)
@given(text=texts(60), room=st.integers(0, 60))
def test_a_tail_is_an_end_of_the_text_that_fits(tokenizer: Tokenizer, text: str, room: int) -> None:
    end = tail(text, room, tokenizer)
    assert text.endswith(end)
    assert len(tokenizer.encode(end)) <= room
    if len(tokenizer.encode(text)) <= room:
        assert end == text
