"""Where texts are parted: real Chinese and English, code in fences, and hostile input."""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path
from typing import Any

import pytest
from glmprep.semantics.sentences import LINE, LONGEST, PARAGRAPH, SENTENCE, breaks, sentences
from hypothesis import example, given, settings
from hypothesis import strategies as st

VCSUM = "data/vcsum/short_dev.jsonl.gz"
FENCED = "```python\nx = 1. \n\ny = 2\n```\n"
PIECES = st.sampled_from(
    [
        *"。！？；.!?…\"'”」)*_`~ \n\r\t，,:中文aB1\u3000",
        "```",
        "~~~\n",
        "\n```\n",
        "Dr",
        "e.g",
        "1.",
    ]
)
TEXTS = st.lists(PIECES, max_size=60).map("".join) | st.text(max_size=60)


@pytest.mark.parametrize(
    "parts",
    [
        ["他说：“你好。”", "然后走了。", "真的吗？！", "是的……", "我不知道。"],
        ["他说。", '"你好。"', '她说："好！"，走了。', "**重点**是这个。"],
        ["一共3.14元；", "版本是v2.0。", "好的!", "谢谢?", "不客气"],
        ["（他走了。）", "「真的？」", "我问。"],
        ["Dr. Smith paid 3.14 dollars, e.g. to Mr. J. Doe.", " He left (see Fig. 3).", " Right."],
        ["The U.S. Army left.", ' "Why?" he asked.', " At 5 p.m. exactly.", " So do I.", " Yes!"],
        ["Bread, milk, etc. are there.", " Wait... what?", " no way!", " ok. "],
        ["**Note.**", " Use example.com?q=1 or a.b!=c here.", " In 2020.", " Then 3.5 more."],
        ["# Title\n\n", "wrapped lines\ngo on here.\n\n", "- One thing\n", "- Another.\n"],
        ["1. First.", " It counts.\n", "2. Second\n", "A. Third\n", "1.苹果\n", "2.香蕉"],
        ["Look:\n", FENCED, "After. "],
        ["Look.\r\n", "And.\r\n\r\n", "~~~\nnot ``` closed\n~~~~\n", "Then `a.B`."],
        ["A ```code``` in a line.", " Next.\n", "```\nopen. To the end.\n\nof it"],
    ],
)  # fmt: skip
def test_a_text_is_parted_where_its_sentences_end(parts: list[str]) -> None:
    assert sentences("".join(parts)) == parts


def test_places_have_ranks() -> None:
    text = f"One. Two\nthree.\nFour\n\n{FENCED}Five"
    code = text.index("```")
    behind = code + len(FENCED)
    lines = [(at + 1, LINE) for at in range(code, behind - 1) if text[at] == "\n"]
    assert breaks(text) == [
        (text.index(" Two"), SENTENCE),
        (text.index("three"), LINE),
        (text.index("Four"), SENTENCE),
        (code, PARAGRAPH),
        *lines,
        (behind, PARAGRAPH),
    ]


@given(TEXTS)
@example("")
@example(" \n\n ")
@example("\n\n```\n\n```\n\n x")
@settings(max_examples=300)
def test_pieces_joined_give_the_text_and_each_says_something(text: str) -> None:
    pieces = sentences(text)
    assert "".join(pieces) == text
    assert all(piece.strip() for piece in pieces) or pieces == [text]


@given(TEXTS)
@settings(max_examples=300)
def test_places_are_inside_the_text_in_order_and_none_inside_code_but_at_lines(text: str) -> None:
    found = breaks(text)
    places = [place for place, _ in found]
    assert places == sorted(set(places))
    assert all(0 < place < len(text) for place in places)
    assert all(text[place - 1] == "\n" for place, rank in found if rank == LINE)


def test_a_sentence_without_an_end_is_cut_at_commas_or_spaces() -> None:
    assert {piece[-1] for piece in sentences("我们在想这个问题，" * 200)} == {"，"}
    english = sentences("and then we went on " * 200)
    assert all(piece.startswith(("and", " ")) for piece in english)
    blob = sentences("x" * 5 * LONGEST)
    assert [len(piece) for piece in blob] == [LONGEST] * 5
    code = "```\n" + "x, " * 1000 + "\n```"
    assert sentences(code) == [code]


@pytest.mark.parametrize(
    "unit", ["a", ".", "\n", " ", '"', "。”", "`", "```\n", '!"', "\n ", "。*"]
)
def test_time_grows_as_the_text_does_whatever_it_repeats(unit: str) -> None:
    def seconds(size: int) -> float:
        text = unit * (size // len(unit))
        begun = time.process_time()
        assert len("".join(sentences(text))) == len(text)
        breaks(text)
        return time.process_time() - begun

    # Eight times the text takes about eight times as long, where a square would take sixty-four.
    assert seconds(400_000) < 30 * max(seconds(50_000), 0.05)


def test_sentences_of_real_talk_are_of_a_length_that_people_speak(assets: Path) -> None:
    english = [
        turn["content"]
        for meeting in _rows(assets / "data/qmsum/Academic_val.jsonl.gz")
        for turn in meeting["meeting_transcripts"]
    ]
    chinese = ["".join(turn) for row in _rows(assets / VCSUM) for turn in row["context"]]
    for texts in (english, chinese):
        pieces = [piece for text in texts for piece in sentences(text)]
        assert "".join(pieces) == "".join(texts)
        lengths = sorted(map(len, pieces))
        assert 10 <= lengths[len(lengths) // 2] <= 60
        assert lengths[-1] <= LONGEST


def _rows(path: Path) -> list[Any]:
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
