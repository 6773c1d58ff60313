"""A text is cut where its pieces encode to exactly the ids of the whole."""

from __future__ import annotations

import base64
import random

import pytest
from glmprep.cut import cut, head, tail
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
    texts_of = [piece.text for piece in pieces]
    encoded = [tokenizer.encode(LEAD + texts_of[0]), *map(tokenizer.encode, texts_of[1:])]
    assert "".join(texts_of) == text
    assert [piece.tokens for piece in pieces] == list(map(len, encoded))
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
    assert pieces[0].text.endswith("six.\n\n")
    chinese = cut("今天很好。" * 20, 30, 30, tokenizer)
    assert chinese is not None
    assert all(piece.text.endswith("。") for piece in chinese)


def pieces_of(text: str, room: int, tokenizer: Tokenizer) -> list[str]:
    pieces = cut(text, room, room, tokenizer)
    assert pieces is not None
    return [piece.text for piece in pieces]


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("It is 3.14 m, e.g. here, or 2.72 m by Mr. Li. " * 9, "Li."),
        ("他说“走吧！”，然后就走了。" * 20, "了。"),
    ],
)
def test_abbreviations_decimals_and_speech_end_no_sentence(
    tokenizer: Tokenizer, text: str, ends: str
) -> None:
    *pieces, _ = pieces_of(text, 48, tokenizer)
    assert len(pieces) > 2
    assert all(piece.endswith(ends) for piece in pieces)


FUNCTION = "def add(a, b):\n    # Adds two. Then returns.\n    return a + b\n"


@pytest.mark.parametrize("fence", ["```", "~~~"])
def test_fenced_code_that_fits_is_not_cut(tokenizer: Tokenizer, fence: str) -> None:
    code = f"{fence}python\n{FUNCTION * 2}{fence}\n"
    text = f"这样写。First this. Then that.\n\n{code}Done. " * 5
    pieces = pieces_of(text, 90, tokenizer)
    assert all(code in piece or fence not in piece for piece in pieces)


def test_fenced_code_that_is_too_long_is_cut_at_line_ends(tokenizer: Tokenizer) -> None:
    text = f"First this.\n\n```python\n{FUNCTION * 30}```\nDone."
    first, *middle, last = pieces_of(text, 64, tokenizer)
    assert first == "First this.\n\n"
    assert all(piece.endswith("\n") for piece in middle)
    assert last.endswith("```\nDone.")


@pytest.mark.parametrize(
    "text",
    [
        "a" * 50_000,
        "x" + " " * 50_000 + "y",
        "\n" * 50_000,
        base64.b64encode(random.Random(1).randbytes(30_000)).decode(),
        "人" * 50_000,
        "👩‍👩‍👧‍👦" * 5_000,
    ],
    ids=["letter", "spaces", "lines", "base64", "ideograph", "emoji"],
)
def test_a_long_text_without_any_sentence_is_cut(tokenizer: Tokenizer, text: str) -> None:
    for room in (50, 1000):
        assert assert_cut(text, room, room, tokenizer)


@settings(max_examples=150, deadline=None)
@given(text=texts(60), room=st.integers(0, 60))
def test_a_head_is_a_start_of_the_text_that_fits(
    tokenizer: Tokenizer, text: str, room: int
) -> None:
    start = head(text, room, tokenizer)
    assert text.startswith(start)
    assert len(tokenizer.encode(start)) <= room
    if len(tokenizer.encode(text)) <= room:
        assert start == text


def test_head_and_tail_end_and_begin_at_a_sentence(tokenizer: Tokenizer) -> None:
    text = "今天下雨了。We stay at home! " * 40
    assert head(text, 30, tokenizer).endswith(("了。", "home!"))
    assert tail(text, 30, tokenizer).startswith(("今天", " 今天", "We"))


@settings(max_examples=150, deadline=None)
@given(text=texts(60), room=st.integers(0, 60))
def test_a_tail_is_an_end_of_the_text_that_fits(tokenizer: Tokenizer, text: str, room: int) -> None:
    end = tail(text, room, tokenizer)
    assert text.endswith(end)
    assert len(tokenizer.encode(end)) <= room
    if len(tokenizer.encode(text)) <= room:
        assert end == text
