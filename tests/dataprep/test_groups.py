"""Rows that say the same leave the best of them; rows that differ in what they say all stay."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from glmprep.families import Family
from glmprep.findings import RULES
from glmprep.labels import tokenize
from glmprep.merging import turns
from glmprep.merging.cells import near_pairs
from glmprep.merging.groups import Alike, Groups
from glmprep.merging.sketches import read, sketched
from glmprep.records import Conversation, Message, Origin, ToolCall
from glmprep.semantics.embedder import Embedder
from glmprep.semantics.lexical import Lexical
from glmprep.tokenizer import Tokenizer
from glmreport.text import placeholders, rule_text
from hypothesis import given, settings
from hypothesis import strategies as st

from .chats import TOOL, chat
from .test_sets import PLACE, REPLY, STORY, UNLIKE, asked, placed, real, sentence

LONG = f"{STORY} {STORY.replace('old', 'young')} {sentence(1)}"
ASKED = "How can I reset the password of my home router when I forgot it?"
ASKED_AGAIN = "I forgot the password of my home router; how can I reset it?"
STEPS = "Hold the small reset button on the back until the light blinks, then open the settings."


PART = 5


class Grouping:
    """Groups rows that come in parts of five, each sketched by itself."""

    def __init__(self, family: Family, tokenizer: Tokenizer) -> None:
        self.family, self.tokenizer = family, tokenizer

    def __call__(
        self,
        rows: Sequence[Conversation],
        alike: Alike | None = None,
        embedder: Embedder | None = None,
    ) -> Groups:
        made = Groups(alike or Alike())
        for at in range(0, len(rows), PART):
            batch = rows[at : at + PART]
            tokens = tokenize(batch, self.family, self.tokenizer)
            path = batch[0].origin.path
            made.add(read(sketched(batch, tokens, embedder).as_bytes())[0], path)
        return made

    def dropped(
        self,
        rows: Sequence[Conversation],
        alike: Alike | None = None,
        embedder: Embedder | None = None,
    ) -> dict[Origin, Origin]:
        """Where the rows that go stand, and the rows for which they go."""
        made = self(rows, alike, embedder)
        found: dict[Origin, Origin] = {}
        for part in range(-(-len(rows) // PART)):
            for row, (one, kept) in made.dropped(part).items():
                assert rows[part * PART + row].origin == one.origin
                assert rows[kept.part * PART + kept.row].origin == kept.origin
                found[one.origin] = kept.origin
        return found

    def lines(self, rows: Sequence[Conversation], **more: Any) -> dict[int, int]:
        """The lines that go, and for which they go, of rows placed on lines from 1."""
        dropped = self.dropped(placed(rows), **more)
        return {gone.line: kept.line for gone, kept in dropped.items()}


@pytest.fixture(scope="module")
def grouping(family: Family, tokenizer: Tokenizer) -> Grouping:
    return Grouping(family, tokenizer)


def test_the_longer_of_two_near_duplicates_is_kept(grouping: Grouping) -> None:
    assert grouping.lines([asked(LONG, STORY), asked(LONG, f"{STORY} So it went.")]) == {1: 2}


def test_the_order_of_rows_decides_between_equals(grouping: Grouping) -> None:
    assert grouping.lines([asked(LONG, STORY)] * 3) == {2: 1, 3: 1}


def test_a_whole_row_is_kept_before_one_that_ends_without_an_answer(grouping: Grouping) -> None:
    whole = asked(LONG, STORY)
    cut = replace(whole, messages=(*whole.messages, Message(role="user", content="And then?")))
    assert grouping.lines([cut, whole]) == {1: 2}


def test_an_answer_that_runs_in_circles_is_not_the_one_that_is_kept(grouping: Grouping) -> None:
    loop = "the tide came in and " * 20
    sound, looped = asked(LONG * 3, STORY), asked(LONG * 3, f"{STORY} {loop}")
    assert grouping.lines([looped, sound], alike=Alike(whole=0.6, answers=0.3)) == {1: 2}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("It was built in 1904.", "It was built in 1905."),
        ("It was there.", "It was not there."),
        ("He was called Peter by all.", "He was called Simon by all."),
        ("它在那里，大家都很高兴。", "它不在那里，大家都很高兴。"),
        ("他欠我三百元。", "他欠我五百元。"),
    ],
)
def test_answers_with_another_number_negation_or_name_are_both_kept(
    one: str, other: str, grouping: Grouping
) -> None:
    rows = placed([*(asked(LONG, f"{STORY} {text}") for text in (one, other)), *UNLIKE])
    for embedder in (None, Lexical()):
        assert grouping.dropped(rows, embedder=embedder) == {}
        made = grouping(rows, embedder=embedder)
        assert [hit.rule.id for hit in made.hits()] == ["DF532"]


def calling(place: str) -> Conversation:
    call = ToolCall(name="look_up", arguments=json.dumps({"key": place}))
    return chat(
        ("user", LONG),
        Message(role="assistant", content="", tool_calls=(call,)),
        ("tool", "{}"),
        ("assistant", STORY),
        tools=[TOOL],
    )


UNTRAINED = Message(role="assistant", content=STORY, untrained="weight")
DIFFERENT: list[tuple[Conversation, Conversation]] = [
    (calling("rome"), calling("oslo")),
    (asked(LONG, STORY, system="Be brief."), asked(LONG, STORY, system="Be kind.")),
    (asked(LONG, STORY, tools=[TOOL]), asked(LONG, STORY)),
    (asked(LONG + " Buy 3.", STORY), asked(LONG + " Buy 4.", STORY)),
    (asked(LONG, "yes"), asked(LONG, "maybe")),
    (asked(LONG, STORY), asked(LONG, PLACE)),
    (asked(LONG, STORY), chat(("user", LONG), UNTRAINED)),
]


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_rows_with_other_calls_instructions_or_answers_are_both_kept(
    one: Conversation, other: Conversation, grouping: Grouping
) -> None:
    for rows in ([one, other], [other, one]):
        assert grouping.lines(rows, alike=Alike(whole=0.5)) == {}


def test_the_same_call_in_another_order_of_fields_is_the_same(grouping: Grouping) -> None:
    one, other = (
        replace(
            calling(""),
            messages=tuple(
                replace(m, tool_calls=(ToolCall(name="look_up", arguments=said),))
                if m.tool_calls
                else m
                for m in calling("").messages
            ),
        )
        for said in ('{"key": "a", "to": "b"}', '{"to":"b","key":"a"}')
    )
    assert grouping.lines([one, other], alike=Alike(answers=0.5)) == {2: 1}


def test_a_question_in_other_words_is_found_by_its_vector(grouping: Grouping) -> None:
    rows = [asked(ASKED, STEPS), asked(ASKED_AGAIN, STEPS), asked(sentence(1), sentence(2))]
    rows += [asked(sentence(n), sentence(-n)) for n in range(3, 9)]
    assert grouping.lines(rows) == {}
    alike = Alike(whole=0.6, answers=0.8)
    assert grouping.lines(rows, alike=alike, embedder=Lexical()) == {2: 1}


def test_a_capped_group_keeps_as_many_as_were_asked_for(grouping: Grouping) -> None:
    rows = [asked(LONG, f"{STORY} {'So it went. ' * n}") for n in range(6)]
    gone = grouping.lines(rows, alike=Alike(whole=0.5, answers=0.3, most=3))
    assert gone == {1: 6, 2: 6, 3: 6}


def test_rows_that_continue_another_line_are_never_dropped(grouping: Grouping) -> None:
    one = asked(LONG, STORY)
    masked = tuple(
        replace(m, untrained="context" if m.role == "assistant" else None) for m in one.messages
    )
    more = (Message(role="user", content="And?"), Message(role="assistant", content="No."))
    later = replace(one, id="chat#1", messages=(*masked, *more))
    assert grouping.lines([one, later, one, later]) == {3: 1}


def test_findings_tell_how_many_were_dropped_and_how_many_kept(grouping: Grouping) -> None:
    numbered = [asked(LONG, f"{STORY} In {year}.") for year in (1900, 1900, 1900, 1901)]
    made = grouping(placed([*numbered, asked(sentence(5), REPLY)]))
    hits = {hit.rule.id: hit for hit in made.hits()}
    assert (hits["DF531"].count, dict(hits["DF531"].data)) == (2, {"kept": 1, "most": 3})
    assert hits["DF532"].count == 2
    assert {(e.where, e.excerpt) for e in hits["DF532"].examples} == {("a.jsonl:1", "≠ a.jsonl:4")}
    for hit in hits.values():
        data: dict[str, Any] = {"count": hit.count, "rows": hit.rows, **hit.data}
        assert str(hit.count) in hit.rule.finding("a.jsonl", **data).evidence


@pytest.mark.parametrize("name", [turns.join_turns.id, turns.join_exchanges.id, "DF531", "DF532"])
def test_rules_say_the_same_in_chinese(name: str) -> None:
    texts = rule_text(name, "zh") or {}
    for part in ("evidence", "fix"):
        assert placeholders(texts[part]) == placeholders(getattr(RULES[name], part))


def test_nothing_is_dropped_of_nothing_or_of_unlike_rows(grouping: Grouping) -> None:
    for embedder in (None, Lexical()):
        unlike = placed([asked(sentence(n), sentence(-n)) for n in range(1, 8)])
        for rows in (unlike[:0], unlike):
            assert not grouping.dropped(rows, embedder=embedder)
            assert not list(grouping(rows, embedder=embedder).hits())


endings = st.sampled_from(("", " So.", " In 1904.", " Not so.", " Yes, yes."))
changes = st.lists(st.tuples(st.integers(0, 2), endings), max_size=14)


@settings(deadline=None, max_examples=40)
@given(drawn=changes, most=st.integers(1, 3), by_vector=st.booleans())
def test_a_row_goes_only_for_one_that_stays_and_says_the_same(
    drawn: list[tuple[int, str]], most: int, by_vector: bool, grouping: Grouping
) -> None:
    rows = placed([asked(f"{LONG} {sentence(kind)}", STORY + more) for kind, more in drawn])
    alike = Alike(whole=0.6, answers=0.6, most=most)
    dropped = grouping.dropped(rows, alike, Lexical() if by_vector else None)
    said = {row.origin: row.messages[-1].content for row in rows}
    for gone, kept in dropped.items():
        assert kept not in dropped
        assert gone != kept
        assert len(said[gone]) <= len(said[kept])
        for key in ("1904", "Not"):
            assert (key in said[gone]) == (key in said[kept])
    groups = Counter(dropped.values())
    exact = Counter(row.messages for row in rows)
    # Vectors that are all the same have nothing left when they are centred.
    assert (by_vector and len(exact) == 1) or all(
        count <= most or any(r.origin in dropped for r in rows if r.messages == one)
        for one, count in exact.items()
    )
    assert len(groups) <= len(rows) - len(dropped)


def test_close_vectors_are_found_among_many() -> None:
    drawn = np.random.default_rng(0)
    one = drawn.normal(size=(6000, 48)).astype(np.float32)
    other = one[:3000] + 0.2 * drawn.normal(size=(3000, 48)).astype(np.float32)
    table = np.concatenate((one, other, np.zeros((5, 48), np.float32)))
    table /= np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-9)
    planted = np.flatnonzero((table[:3000] * table[6000:9000]).sum(axis=1) >= 0.92)
    pairs = {(int(a), int(b)) for a, b in near_pairs(table.astype(np.float16), 0.9)}
    found = sum((int(place), int(place) + 6000) in pairs for place in planted)
    assert len(planted) > 2000
    assert found >= 0.9 * len(planted)
    assert all(table[a] @ table[b] > 0.89 and a < b for a, b in pairs)


def test_real_dialogues_that_share_an_opening_keep_their_different_answers(
    assets: Path, grouping: Grouping
) -> None:
    """Thousands of SMILECHAT begin alike, and go on in other ways."""
    firsts: dict[str, list[Conversation]] = {}
    with gzip.open(assets / "data/smilechat/smilechat_12k.jsonl.gz", "rt") as file:
        for line in file:
            said = [(m["role"], m["content"]) for m in json.loads(line)["messages"]]
            turns: list[Any] = [("user" if r == "client" else "assistant", t) for r, t in said]
            firsts.setdefault(said[0][1], []).append(chat(*turns))
    shared = [one for group in firsts.values() if len(group) > 1 for one in group][:300]
    assert grouping.lines(shared) == {}


@pytest.mark.parametrize("language", ["en", "zh"])
def test_of_real_copies_one_stays(language: str, assets: Path, grouping: Grouping) -> None:
    rows = real(str(assets / f"data/llamafactory/alpaca_{language}_demo.json"))
    dropped = grouping.dropped(rows)
    by_origin = {row.origin: row for row in rows}
    exact = Counter((row.messages, str(row.tools)) for row in rows)
    assert len(dropped) >= sum(exact.values()) - len(exact)
    for gone, kept in dropped.items():
        assert by_origin[gone].messages[0].role == by_origin[kept].messages[0].role
