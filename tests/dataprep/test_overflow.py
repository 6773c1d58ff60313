"""An exchange that is too long: all that is trained stays, and what is left out can be found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import get_args

import pytest
from glmprep import families
from glmprep.exchanges import Exchange, course
from glmprep.families import Family, Thinking
from glmprep.families.roles import goes_on
from glmprep.labels import tokenize
from glmprep.overflow import OverflowSplitter
from glmprep.parse import parse
from glmprep.read import read
from glmprep.records import Conversation, Message, ToolCall
from glmprep.shorten import MARKERS, Shorten, Shortened
from glmprep.sized import CLOSING, Limits, Sized, context, size
from glmprep.tokenizer import Tokenizer
from hypothesis import event, given, settings
from hypothesis import strategies as st

from .chats import chat, conversations, no_shrinking, row_targets, turn_targets

CALL = Message(role="assistant", tool_calls=(ToolCall(name="look_up", arguments="{}"),))
KEEPS: tuple[Shorten, ...] = get_args(Shorten)


@dataclass(frozen=True, kw_only=True)
class Split:
    """An exchange that does not fit, and what became of it: segments, None where it has no way."""

    sized: Sized
    exchange: Exchange
    segments: list[Conversation] | None
    shortened: Sequence[Shortened]

    @property
    def messages(self) -> Sequence[Message]:
        return self.sized.conversation.messages[self.exchange.first : self.exchange.last]


def splits(
    conversation: Conversation,
    family: Family,
    tokenizer: Tokenizer,
    limits: Limits,
    shorten: Shorten,
) -> list[Split]:
    """All exchanges of a conversation that do not fit, split."""
    splitter = OverflowSplitter(family, tokenizer, limits, shorten)
    made = []
    for sized in size(family.rows(conversation), family, tokenizer):
        whole = course(sized)
        for place, head in enumerate(whole.repeated()):
            exchange = whole.exchanges[place]
            if head + exchange.tokens + CLOSING <= limits.max_length or not exchange.targets:
                continue
            parts = splitter(replace(sized, head=head), exchange)
            opening = sized.conversation.messages[: sized.head_turns]
            opening += context(whole.standing(place))
            segments = None
            if parts is not None:
                segments = [replace(sized.conversation, messages=opening + part) for part in parts]
            made.append(
                Split(
                    sized=sized,
                    exchange=exchange,
                    segments=segments,
                    shortened=tuple(splitter.shortened),
                )
            )
            splitter.shortened.clear()
    return made


def split(
    conversation: Conversation,
    family: Family,
    tokenizer: Tokenizer,
    limits: Limits,
    shorten: Shorten = "middle",
) -> Split:
    """The only exchange that does not fit, split and checked."""
    (one,) = splits(conversation, family, tokenizer, limits, shorten)
    assert one.segments is not None
    assert_kept(one, family, tokenizer, limits, shorten)
    return one


def assert_kept(
    one: Split, family: Family, tokenizer: Tokenizer, limits: Limits, shorten: Shorten
) -> None:
    """Everything is trained once, and what was said is kept or on record."""
    if one.segments is None:
        assert not one.shortened
        return
    assert all(s.total <= limits.max_length for s in size(one.segments, family, tokenizer))
    batch = tokenize(one.segments, family, tokenizer)
    trained = [row_targets(batch, row) for row in range(len(one.segments))]
    targets = turn_targets(one.sized.conversation, family, tokenizer)
    assert all(trained)
    assert [*chain.from_iterable(trained)] == [
        *chain.from_iterable(targets[one.exchange.first : one.exchange.last])
    ]
    gaps = {record.message - 1: record for record in one.shortened}
    assert len(gaps) == len(one.shortened)
    for turn in range(one.exchange.first, one.exchange.last):
        message = one.sized.conversation.messages[turn]
        if turn in gaps:
            assert_gap(gaps[turn], message, one, shorten)
        elif message.role == "user":
            for segment in one.segments:
                assert any(m.content == message.content for m in segment.messages)


def assert_gap(record: Shortened, message: Message, one: Split, shorten: Shorten) -> None:
    """What is left out and what is kept are the whole message."""
    content = message.content
    assert message.role == record.role != "assistant"
    assert (record.where, record.conversation) == (
        str(one.sized.conversation.origin),
        one.sized.conversation.id,
    )
    assert record.text == content[record.start : record.end]
    assert 0 < record.tokens <= record.of == one.sized.turn_tokens[record.message - 1]
    start, end = content[: record.start], content[record.end :]
    assert one.segments is not None
    same = [m for s in one.segments for m in s.messages if m.role == message.role]
    if start:
        assert shorten == "middle"
        marked = {start + marker.format(tokens=record.tokens) + end for marker in MARKERS.values()}
        assert end
        assert any(m.content in marked for m in same)
    elif end:
        assert any(m.content == end and not m.begins for m in same)
    else:
        assert record.tokens == record.of


@st.composite
def limits_of(draw: st.DrawFn, most: int) -> Limits:
    max_length = draw(st.integers(24, most))
    return Limits(max_length=max_length, context_tokens=int(max_length * draw(st.floats(0, 0.6))))


@pytest.mark.parametrize("shorten", KEEPS)
@settings(no_shrinking, max_examples=60)
@given(body=conversations(longest=25), limits=limits_of(most=260))
def test_an_exchange_trains_each_token_once_or_has_no_way(
    shorten: Shorten, family: Family, tokenizer: Tokenizer, body: Conversation, limits: Limits
) -> None:
    for one in splits(body, family, tokenizer, limits, shorten):
        event("split" if one.segments else "no way")
        assert_kept(one, family, tokenizer, limits, shorten)


@pytest.mark.parametrize(
    ("name", "thinking"),
    [
        ("glm4-0414", "on"),
        ("glm-z1", "on"),
        ("glm4.6", "on"),
        ("glm4.6", "off"),
        ("glm4.7", "auto"),
    ],
)
@settings(no_shrinking, max_examples=20)
@given(
    body=conversations(longest=25, reasoning=True),
    limits=limits_of(most=400),
    shorten=st.sampled_from(KEEPS),
)
def test_so_it_is_in_families_with_reasoning(
    name: str,
    thinking: Thinking,
    tagged: Tokenizer,
    body: Conversation,
    limits: Limits,
    shorten: Shorten,
) -> None:
    family = families.load(name, tagged, thinking=thinking)
    for one in splits(body, family, tagged, limits, shorten):
        event("split" if one.segments else "no way")
        assert_kept(one, family, tagged, limits, shorten)


@settings(no_shrinking, max_examples=40)
@given(
    body=conversations(longest=25),
    wide=st.integers(100, 260),
    narrow=st.integers(40, 100),
    shorten=st.sampled_from(KEEPS),
)
def test_segments_are_split_again(
    family: Family,
    tokenizer: Tokenizer,
    body: Conversation,
    wide: int,
    narrow: int,
    shorten: Shorten,
) -> None:
    first, second = (Limits(max_length=most, context_tokens=most // 4) for most in (wide, narrow))
    for one in splits(body, family, tokenizer, first, shorten):
        for segment in one.segments or ():
            for again in splits(segment, family, tokenizer, second, shorten):
                event("split" if again.segments else "no way")
                assert_kept(again, family, tokenizer, second, shorten)


# ---------------------------------------------------------------- prompts

MEETING = "".join(
    f"Speaker {n % 3}: We talked about item {n}. It took 3.14 hours, e.g. for the review.\n"
    for n in range(12)
)
ENGLISH = f"Summarise the meeting below in one sentence.\n\n{MEETING}\nWho spoke last?"
CHINESE = (
    "请概括下面的会议。\n\n"
    + "".join(f"发言人{n % 3}：我们讨论了第{n}项议题。大家都同意！\n" for n in range(12))
    + "\n最后一个发言的是谁？"
)
LOG = "".join(f"{n}: line {n} is fine.\n" for n in range(60)) + "ERROR at the end"


def contents(segment: Conversation) -> list[str]:
    return [message.content for message in segment.messages]


def test_an_english_prompt_keeps_its_start_and_its_end(
    family: Family, tokenizer: Tokenizer
) -> None:
    body = chat(("user", ENGLISH), ("assistant", "Speaker 2 did."))
    one = split(body, family, tokenizer, Limits(max_length=120))
    assert one.segments is not None
    assert contents(one.segments[0]) == [
        "Summarise the meeting below in one sentence.\n\n"
        "Speaker 0: We talked about item 0. It took 3.14 hours, e.g. for the review.\n"
        "Speaker 1: We talked about item 1.\n"
        "[… 234 tokens left out …]\n"
        " It took 3.14 hours, e.g. for the review.\n"
        "Speaker 2: We talked about item 11. It took 3.14 hours, e.g. for the review.\n\n"
        "Who spoke last?",
        "Speaker 2 did.",
    ]
    (record,) = one.shortened
    assert record.example.where == "test.jsonl:1 message 1"
    assert record.example.excerpt == "234 of 328 tokens stay out"
    assert record.as_json()["text"] == ENGLISH[record.start : record.end]


def test_a_chinese_prompt_keeps_its_start_and_its_end(family: Family, tokenizer: Tokenizer) -> None:
    body = chat(("user", CHINESE), ("assistant", "发言人2。"))
    one = split(body, family, tokenizer, Limits(max_length=120))
    assert one.segments is not None
    assert contents(one.segments[0])[0] == (
        "请概括下面的会议。\n\n"
        "发言人0：我们讨论了第0项议题。大家都同意！\n"
        "发言人1：我们讨论了第1项议题。大家都同意！\n"
        "发言人2：我们讨论了第2项议题。\n"
        "[……此处略去 94 个 token……]\n"
        "发言人0：我们讨论了第9项议题。大家都同意！\n"
        "发言人1：我们讨论了第10项议题。大家都同意！\n"
        "发言人2：我们讨论了第11项议题。大家都同意！\n\n"
        "最后一个发言的是谁？"
    )


@pytest.mark.parametrize("shorten", KEEPS)
def test_short_instructions_around_a_transcript(
    shorten: Shorten, family: Family, tokenizer: Tokenizer
) -> None:
    asked = [("user", "Answer in French."), ("user", ENGLISH), ("user", "Be brief.")]
    body = chat(*asked, ("assistant", "Le 2."))
    one = split(body, family, tokenizer, Limits(max_length=120), shorten)
    assert one.segments is not None
    said = contents(one.segments[0])
    assert said[-2:] == ["Be brief.", "Le 2."]
    if shorten == "middle":
        assert said[0] == "Answer in French."
        assert said[1].startswith("Summarise the meeting below in one sentence.")
    else:
        assert [record.message for record in one.shortened] == [1, 2]
        assert len(said) == 3
    assert said[-3].endswith("Who spoke last?")


def test_a_pasted_transcript_is_replayed_before_each_piece_of_a_long_answer(
    family: Family, tokenizer: Tokenizer
) -> None:
    body = chat(("user", ENGLISH), ("assistant", MEETING))
    one = split(body, family, tokenizer, Limits(max_length=200, context_tokens=20))
    assert one.segments is not None
    assert len(one.segments) > 2
    assert len({segment.messages[0].content for segment in one.segments}) == 1
    assert len(one.shortened) == 1


def test_an_answer_that_fits_leaves_its_prompt_all_the_rest(
    family: Family, tokenizer: Tokenizer
) -> None:
    body = chat(("user", "word " * 300), ("assistant", "Yes."))
    for shorten in KEEPS:
        one = split(body, family, tokenizer, Limits(max_length=200), shorten)
        assert one.segments is not None
        assert size(one.segments, family, tokenizer)[0].total > 190


# ---------------------------------------------------------------- results of tools


@pytest.mark.parametrize("shorten", KEEPS)
def test_a_long_result_is_shortened_and_stays_with_its_call_and_answer(
    shorten: Shorten, family: Family, tokenizer: Tokenizer
) -> None:
    body = chat(("user", "What is in it?"), CALL, ("tool", LOG), ("assistant", "An error."))
    one = split(body, family, tokenizer, Limits(max_length=120), shorten)
    assert one.segments is not None
    (segment,) = one.segments
    assert [message.role for message in segment.messages] == [
        "user",
        "assistant",
        "tool",
        "assistant",
    ]
    result = segment.messages[2].content
    assert result.endswith("line 59 is fine.\nERROR at the end")
    assert result.startswith("0: line 0 is fine.\n") == (shorten == "middle")


def test_results_of_one_turn_have_equal_shares_and_short_ones_stay_whole(
    family: Family, tokenizer: Tokenizer
) -> None:
    calls = replace(CALL, tool_calls=CALL.tool_calls * 3)
    results = [("tool", LOG), ("tool", "Nothing."), ("tool", LOG[::-1])]
    body = chat(("user", "What is in it?"), calls, *results, ("assistant", "An error."))
    one = split(body, family, tokenizer, Limits(max_length=200))
    assert one.segments is not None
    first, short, second = (m.content for m in one.segments[0].messages if m.role == "tool")
    assert short == "Nothing."
    assert 0.5 < len(first) / len(second) < 2
    assert [record.message for record in one.shortened] == [3, 5]


def test_a_result_that_fits_but_not_beside_its_answer_is_replayed_shortened(
    family: Family, tokenizer: Tokenizer
) -> None:
    result, answer = LOG[:200] + LOG[-60:], "It says so. " * 25
    body = chat(("user", "What is in it?"), CALL, ("tool", result), ("assistant", answer))
    one = split(body, family, tokenizer, Limits(max_length=160, context_tokens=60))
    assert one.segments is not None
    whole, *later = one.segments
    assert whole.messages[2].content == result
    replayed = later[0].messages[2]
    assert replayed.untrained == "context"
    assert replayed.content.startswith("0: line 0 is fine.\n")
    assert replayed.content.endswith("ERROR at the end")
    assert not one.shortened


def test_a_call_that_is_too_long_has_no_way(family: Family, tokenizer: Tokenizer) -> None:
    call = replace(CALL, tool_calls=(ToolCall(name="look_up", arguments="1 " * 200),))
    body = chat(("user", "What is in it?"), call, ("tool", "1"), ("assistant", "An error."))
    (one,) = splits(body, family, tokenizer, Limits(max_length=120), "middle")
    assert one.segments is None


# ---------------------------------------------------------------- long answers

CODE = "```python\n" + "".join(f"def f{n}(x):\n    return x + {n}\n\n" for n in range(5)) + "```\n"
MIXED = f"First we define them:\n\n{CODE}\n然后调用它们。结果是 3.14！\n\n{CODE}\nThat is all."


def test_a_long_answer_with_code_is_cut_before_the_code(
    family: Family, tokenizer: Tokenizer
) -> None:
    body = chat(("user", "写代码。"), ("assistant", MIXED))
    one = split(body, family, tokenizer, Limits(max_length=100))
    assert one.segments is not None
    assert [segment.messages[-1].content for segment in one.segments] == [
        f"First we define them:\n\n{CODE}\n然后调用它们。结果是 3.14！\n\n",
        f"{CODE}\nThat is all.",
    ]


def test_a_piece_that_is_cut_again_counts_on(family: Family, tokenizer: Tokenizer) -> None:
    pieces = [("a. " * 10, (0, 3)), ("b. " * 100, (1, 3)), ("c. " * 100, (2, 3))]
    first, inner, last = (
        Message(role="assistant", content=text, part=part) for text, part in pieces
    )
    told = replace(first, untrained="context")
    for piece, before, count in ((inner, told, 3), (last, replace(inner, content="b."), 3)):
        before = replace(before, untrained="context")
        one = split(
            chat(("user", "Go on."), before, piece), family, tokenizer, Limits(max_length=80)
        )
        assert one.segments is not None
        parts = [segment.messages[-1].part for segment in one.segments]
        start, more = piece.part[0] if piece.part else 0, len(parts) - 1
        assert more > 1
        assert parts == [(start + place, count + more) for place in range(len(parts))]
        assert goes_on(*one.segments[0].messages[-2:])
        assert [s.messages[-1].ends for s in one.segments] == [False] * more + [piece is last]


def test_a_system_message_behind_a_long_answer_stays_behind_its_last_piece(
    family: Family, tokenizer: Tokenizer
) -> None:
    order = Message(role="system", content="From now on in French.")
    body = chat(("user", "Go."), ("assistant", MEETING), order, ("user", "?"), ("assistant", "!"))
    one = split(body, family, tokenizer, Limits(max_length=150))
    assert one.segments is not None
    assert [order in segment.messages for segment in one.segments] == [
        *[False] * (len(one.segments) - 1),
        True,
    ]


def test_real_meetings_with_a_question_keep_every_answer(
    family: Family, tokenizer: Tokenizer
) -> None:
    bodies = [c for c in parse(read(["sample:meetings"])) if isinstance(c, Conversation)][:4]
    for body in bodies:
        for most in (300, 1000):
            limits = Limits(max_length=most, context_tokens=most // 4)
            for one in splits(body, family, tokenizer, limits, "middle"):
                assert one.segments is not None
                assert_kept(one, family, tokenizer, limits, "middle")
                question = one.messages[0].content
                (record, *_) = one.shortened
                kept = one.segments[0].messages[-2].content
                assert question.startswith(kept[: record.start])
                assert kept[: record.start]
