"""Segments fit, and together they train each token of a conversation exactly once."""

from __future__ import annotations

import re
import tempfile
from dataclasses import replace
from itertools import chain, pairwise
from pathlib import Path
from typing import get_args

import orjson
import pytest
from glmprep import blocks, bucket, canonical, families, segment, segmenting, shards
from glmprep.contexts.before import Replay
from glmprep.contexts.notes import Notes
from glmprep.cutting import ContextName, Cutting, OnOverflow, SegmenterName
from glmprep.engines.local import local
from glmprep.errors import InputError
from glmprep.exchanges import course
from glmprep.families import Family, Thinking
from glmprep.labels import tokenize
from glmprep.parse import parse
from glmprep.plan import Planner, Segment
from glmprep.read import read
from glmprep.records import Conversation, Message, ToolCall
from glmprep.segmenters.greedy import greedy
from glmprep.sized import Limits, size
from glmprep.source import Source
from glmprep.store import Folder
from glmprep.tokenizer import Tokenizer
from glmprep.tokenizing import Named, Ready
from hypothesis import given, settings
from hypothesis import strategies as st

from .chats import TOOL, chat, conversations, no_shrinking, segments_of, turn_targets, write

MOST = 1 << 20


def replaying(
    max_length: int, overlap: int = 0, context_tokens: int = 0, on_overflow: OnOverflow = "split"
) -> Cutting:
    """The settings of the command's defaults."""
    return Cutting(
        max_length=max_length,
        context="overlap",
        overlap=overlap,
        context_tokens=context_tokens,
        on_overflow=on_overflow,
    )


def run(
    folder: Path,
    chats: list[Conversation],
    family: Family,
    tokenizer: Tokenizer,
    cutting: Cutting,
) -> tuple[segment.Result, list[Conversation]]:
    """Segment conversations through files; the result, and the segments as they are read back."""
    output = folder / "segments.jsonl"
    result = segment.segment(
        Source(paths=[write(folder / "chats.jsonl", chats)]),
        output,
        tokenizing=Ready(tokenizer, family),
        cutting=cutting,
    )
    parsed = list(parse(read([str(output)])))
    assert all(isinstance(one, Conversation) for one in parsed)
    return result, [one for one in parsed if isinstance(one, Conversation)]


def trained_in_shards(
    folder: Path, family: Family, tokenizer: Tokenizer, max_length: int
) -> dict[str, list[int]]:
    """What `bucket` makes of the segments in a folder: trained ids, joined over the segments."""
    config = bucket.Config(max_length=max_length)
    output = folder / "shards"
    result = bucket.bucket(
        Source(paths=[str(folder / "segments.jsonl")]),
        Folder(output),
        tokenizing=Ready(tokenizer, family),
        config=config,
    )
    assert not result.rejections
    _, rows = shards.read(output)
    found = segments_of(rows)
    joined: dict[str, list[int]] = {}
    for name in sorted(
        found, key=lambda name: (name.split("#")[0], int((name + "#0").split("#")[1]))
    ):
        ids, mask = found[name]
        trained = [token for token, bit in zip(ids, mask, strict=True) if bit]
        joined.setdefault(name.split("#")[0], []).extend(trained)
    return joined


def set_aside(result: segment.Result, conversation: Conversation) -> set[int]:
    """The turns of a conversation that the rejections name."""
    turns: set[int] = set()
    for rejection in result.rejections:
        if rejection.conversation != conversation.id:
            continue
        if rejection.rule == "DL004":
            return set(range(len(conversation.messages)))
        place = re.match(r"messages (\d+) to (\d+): \d+ tokens", rejection.reason)
        assert place is not None
        turns.update(range(int(place[1]) - 1, int(place[2])))
    return turns


@st.composite
def cuttings(draw: st.DrawFn, most: int) -> Cutting:
    """Settings of any kind, half of them those of the command's defaults."""
    max_length = draw(st.integers(12, most))
    context = draw(st.sampled_from(("overlap", "overlap", *get_args(ContextName))))
    return Cutting(
        max_length=max_length,
        segmenter=draw(st.sampled_from(("greedy", "greedy", *get_args(SegmenterName)))),
        context=context,
        overlap=draw(st.integers(0, 5)) if context == "overlap" else 0,
        context_tokens=int(max_length * draw(st.floats(0, 1))),
        on_overflow=draw(st.sampled_from(("split", *get_args(OnOverflow)))),
        notes=Notes().as_json() if context in ("memory", "outline") else {},
    )


def assert_sound(part: Conversation) -> None:
    """A result follows its call, and a call has its result unless the conversation ends there."""
    roles = [message.role for message in part.messages]
    body = next(place for place, role in enumerate(roles) if role != "system")
    assert roles[body] != "tool"
    for message, following in pairwise(part.messages):
        assert not message.tool_calls or following.role == "tool"
        if following.role == "tool":
            assert message.tool_calls or message.role == "tool"


@settings(no_shrinking, max_examples=60)
@given(
    bodies=st.lists(conversations(longest=25), min_size=1, max_size=3), cutting=cuttings(most=260)
)
def test_segments_train_each_token_of_a_conversation_once_or_set_it_aside(
    family: Family, tokenizer: Tokenizer, bodies: list[Conversation], cutting: Cutting
) -> None:
    assert_conserved(bodies, family, tokenizer, cutting)


@pytest.mark.parametrize(
    ("name", "thinking"),
    [
        ("glm4-0414", "on"),
        ("glm-z1", "on"),
        ("glm4.6", "on"),
        ("glm4.6", "off"),
        ("glm4.6", "auto"),
        ("glm4.7", "on"),
        ("glm4.7", "auto"),
    ],
)
@settings(no_shrinking, max_examples=12)
@given(
    bodies=st.lists(conversations(longest=25, reasoning=True), min_size=1, max_size=3),
    cutting=cuttings(most=400),
)
def test_segments_of_rows_with_reasoning_train_each_token_once_or_set_it_aside(
    name: str, thinking: Thinking, tagged: Tokenizer, bodies: list[Conversation], cutting: Cutting
) -> None:
    family = families.load(name, tagged, thinking=thinking)
    for part in assert_conserved(bodies, family, tagged, cutting):
        (row,) = family.rows(part)
        assert row.id == part.id
        ids = [tokenize([each], family, tagged).ids.tolist() for each in (row, part)]
        assert ids[0] == ids[1]
        if family.reasoning != "untrained":
            assert not any(message.reasoning for message in before_the_last_question(part))


def before_the_last_question(part: Conversation) -> tuple[Message, ...]:
    users = [turn for turn, message in enumerate(part.messages) if message.role == "user"]
    return part.messages[: max(users, default=0)]


def assert_conserved(
    bodies: list[Conversation],
    family: Family,
    tokenizer: Tokenizer,
    cutting: Cutting,
) -> list[Conversation]:
    """Segment and bucket conversations, and account for every token that is trained."""
    max_length = cutting.max_length
    chats = [replace(body, id=f"chat{place}") for place, body in enumerate(bodies)]
    rows = [row for conversation in chats for row in family.rows(conversation)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            result, parts = run(folder, chats, family, tokenizer, cutting)
        except InputError:  # nothing of any of them fits
            return []
        trained = trained_in_shards(folder, family, tokenizer, max_length)
    assert all(one.total <= max_length for one in size(parts, family, tokenizer))
    for part in parts:
        assert_sound(part)
    everything = 0
    for row in rows:
        targets = turn_targets(row, family, tokenizer)
        everything += sum(map(len, targets))
        gone = set_aside(result, row)
        kept = [ids for turn, ids in enumerate(targets) if turn not in gone]
        assert trained.get(row.id, []) == list(chain.from_iterable(kept))
    counts = result.counts
    assert counts.balances
    assert counts.targets_in == everything
    assert counts.targets_out == sum(map(len, trained.values()))
    assert counts.whole + counts.segments == len(parts)
    assert counts.rows == len(chats)
    assert counts.conversations == counts.whole + counts.cut == len(rows)
    return parts


@pytest.mark.parametrize("max_length", [512, 2048])
def test_long_meetings_are_cut_and_every_answer_is_trained_once(
    max_length: int, family: Family, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    chats = [c for c in parse(read(["sample:meetings"])) if isinstance(c, Conversation)][:3]
    transcript = chats[0].messages[1].content[:40_000]
    chats.append(chat(("user", "Write it down."), ("assistant", transcript), ("user", "Thanks!")))
    cutting = replaying(max_length, 2, max_length // 4)
    result, parts = run(tmp_path, chats, family, tokenizer, cutting)
    trained = trained_in_shards(tmp_path, family, tokenizer, max_length)
    assert not result.rejections
    assert len(parts) > len(chats)
    for conversation in chats:
        targets = list(chain.from_iterable(turn_targets(conversation, family, tokenizer)))
        assert trained[conversation.id] == targets


# ---------------------------------------------------------------- single cases

QUESTIONS = [("user", "What comes next? " * 4), ("assistant", "This comes next. " * 4)] * 6


def test_overlap_replays_whole_exchanges_with_weight_0(
    family: Family, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    whole = chat(("system", "Be kind."), *QUESTIONS)
    cutting = replaying(120, 2, 60)
    _, parts = run(tmp_path, [whole], family, tokenizer, cutting)
    lines = [orjson.loads(line) for line in (tmp_path / "segments.jsonl").read_bytes().splitlines()]
    assert len(parts) > 2
    assert all(line["messages"][0]["content"] == "Be kind." for line in lines)
    for before, line in pairwise(lines):
        context = [m for m in line["messages"] if m["role"] != "system" and m.get("weight") == 0]
        assert [m["role"] for m in context] == ["user", "assistant"]
        first, last = line["origin"]["turns"]
        assert before["origin"]["turns"][1] == first
        assert len(line["messages"]) == 1 + len(context) + last - first
    assert [line["id"] for line in lines] == [f"chat#{i}" for i in range(len(lines))]


@pytest.mark.parametrize("overlap", [0, 2])
def test_a_system_message_in_the_middle_stands_before_all_that_follows(
    family: Family, tokenizer: Tokenizer, tmp_path: Path, overlap: int
) -> None:
    order = Message(role="system", content="From now on answer in French.")
    turns = [("user", "How are you? " * 8), ("assistant", "Fine, thank you. " * 8)]
    conversation = chat(*turns, order, *turns, *turns)
    cutting = replaying(110, overlap, 60)
    result, segments = run(tmp_path, [conversation], family, tokenizer, cutting)
    assert result.counts.targets_out == result.counts.targets_in
    for later in segments[1:]:
        assert [m.content for m in later.messages].count(order.content) == 1
        trained = [m.role == "assistant" and m.trained for m in later.messages]
        assert trained.index(True) > [m.content for m in later.messages].index(order.content)
    assert len(segments) == 3


def test_without_overlap_nothing_is_replayed(
    family: Family, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    cutting = replaying(120, 0, 60)
    _, parts = run(tmp_path, [chat(*QUESTIONS)], family, tokenizer, cutting)
    assert len(parts) > 1
    assert all(message.trained for part in parts for message in part.messages)
    assert sum(len(part.messages) for part in parts) == len(QUESTIONS)


def test_tools_and_system_are_repeated_and_a_call_stays_with_its_result(
    family: Family, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    call = Message(role="assistant", tool_calls=(ToolCall(name="look_up", arguments="{}"),))
    turn = [("user", "Look it up."), call, ("tool", "It is 42. " * 9), ("assistant", "42. " * 9)]
    whole = chat(("system", "Be exact."), *turn * 4, tools=[TOOL])
    head = size([chat(("system", "Be exact."), *turn, tools=[TOOL])], family, tokenizer)[0].head
    cutting = replaying(head + 75, 0, 20)
    result, parts = run(tmp_path, [whole], family, tokenizer, cutting)
    assert not result.rejections
    assert len(parts) > 4  # the exchanges themselves are split, between result and answer
    for part in parts:
        assert part.tools == whole.tools
        assert part.messages[0].content == "Be exact."
        assert_sound(part)


def test_a_call_that_fits_goes_on_to_the_next_segment_when_its_result_does_not(
    family: Family, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    call = Message(role="assistant", tool_calls=(ToolCall(name="look_up", arguments="{}"),))
    result = ("tool", "It is 42. " * 9)
    whole = chat(("user", "Look it up."), call, result, call, result, ("assistant", "42."))
    _, parts = run(tmp_path, [whole], family, tokenizer, replaying(96))
    roles = [[message.role for message in part.messages] for part in parts]
    assert roles[0] == ["user", "assistant", "tool"]
    assert roles[1][:3] == ["user", "assistant", "tool"]
    trained = trained_in_shards(tmp_path, family, tokenizer, 96)
    assert trained["chat"] == list(chain.from_iterable(turn_targets(whole, family, tokenizer)))


def test_a_piece_of_a_split_exchange_in_which_nothing_is_trained_is_left_out(
    family: Family, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    call = Message(role="assistant", tool_calls=(ToolCall(name="look_up", arguments="{}"),))
    untrained = Message(role="assistant", content="It is 42. " * 12, untrained="weight")
    whole = chat(("user", "Look it up."), call, ("tool", "42 " * 30), untrained)
    _, parts = run(tmp_path, [whole], family, tokenizer, replaying(96))
    assert [[m.role for m in part.messages] for part in parts] == [["user", "assistant", "tool"]]


def test_quarantine_sets_a_long_exchange_aside_and_names_its_turns(
    family: Family, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    long = chat(*QUESTIONS[:2], ("user", "Go on."), ("assistant", "Word. " * 300), *QUESTIONS[:2])
    cutting = replaying(100, on_overflow="quarantine")
    result, parts = run(tmp_path, [long], family, tokenizer, cutting)
    assert [(r.rule, str(r.origin)) for r in result.rejections] == [
        ("DL003", f"{tmp_path / 'chats.jsonl'}:1")
    ]
    assert result.rejections[0].reason.startswith("messages 3 to 4: ")
    assert result.counts.exchanges_set_aside == 1
    assert [len(part.messages) for part in parts] == [2, 2]
    listed = (tmp_path / "segments.jsonl.rejects.jsonl").read_bytes()
    assert orjson.loads(listed)["rule"] == "DL003"


def test_a_shortened_prompt_is_counted_once_and_keeps_its_end(
    family: Family, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    prompt = "This is read. " * 200 + "What was the question?"
    cutting = replaying(100)
    result, parts = run(
        tmp_path, [chat(("user", prompt), ("assistant", "This."))], family, tokenizer, cutting
    )
    found = [finding for finding in result.findings if finding.rule == "DL005"]
    assert [finding.data["count"] for finding in found] == [1]
    (example,) = found[0].examples
    assert example.where.endswith("chats.jsonl:1 message 1")
    kept = parts[0].messages[0].content
    assert prompt.endswith(kept)
    dropped = len(tokenizer.encode("\n" + prompt)) - len(tokenizer.encode(kept)) - 1
    assert found[0].data["dropped_tokens"] == dropped


def test_an_exchange_without_targets_is_neither_cut_nor_reported(
    family: Family, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    untrained = Message(role="assistant", content="Word. " * 300, untrained="weight")
    whole = chat(("user", "Go on. " * 200), untrained, *QUESTIONS[:2])
    result, parts = run(tmp_path, [whole], family, tokenizer, replaying(100))
    assert len(parts) == 1
    assert not result.rejections
    assert not [finding for finding in result.findings if finding.rule == "DL005"]


def test_a_long_answer_of_blank_text_keeps_every_token(
    family: Family, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    whole = chat(("user", "An empty page?"), ("assistant", "Yes." + "\n \n" * 400 + "The end."))
    cutting = replaying(64, context_tokens=16)
    result, parts = run(tmp_path, [whole], family, tokenizer, cutting)
    trained = trained_in_shards(tmp_path, family, tokenizer, 64)
    assert not result.rejections
    assert any(not message.content.strip() for part in parts for message in part.messages)
    assert trained["chat"] == turn_targets(whole, family, tokenizer)[1]


def test_a_head_that_fills_the_limit_is_set_aside(
    family: Family, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    long = chat(("system", "Rule. " * 100), *QUESTIONS[:2])
    result, _ = run(tmp_path, [long, chat(*QUESTIONS[:2])], family, tokenizer, replaying(90))
    assert [rejection.rule for rejection in result.rejections] == ["DL004"]
    assert result.counts.targets_set_aside == sum(map(len, turn_targets(long, family, tokenizer)))


def test_an_exchange_begins_at_a_question_and_holds_all_that_answers_it(
    family: Family, tokenizer: Tokenizer
) -> None:
    call = Message(role="assistant", tool_calls=(ToolCall(name="f", arguments="{}"),))
    turns = [
        ("system", "s"),
        ("user", "a"),
        call,
        ("tool", "r"),
        ("assistant", "b"),
        ("system", "t"),
        ("user", "c"),
        ("assistant", "d"),
    ]
    sized = size([chat(*turns)], family, tokenizer)[0]
    assert [(one.first, one.last) for one in course(sized).exchanges] == [(1, 6), (6, 8)]
    before = Replay(Limits(max_length=MOST))
    parts = list(Planner(max_length=MOST, segmenter=greedy, before=before, split=None)(sized))
    assert [type(part) for part in parts] == [Segment]


# ---------------------------------------------------------------- blocks

CUTTING = replaying(120, 2, 30, on_overflow="middle")
LONG = chat(("user", "Read this. " * 90 + "What is it?"), ("assistant", "It is a text."))
CHATS = [
    chat(*QUESTIONS),
    LONG,
    chat(("system", "Rule. " * 150), *QUESTIONS),
    *[chat(*QUESTIONS)] * 3,
]
"""Some that are cut, one whose prompt is shortened, and one that is set aside."""


def written(folder: Path) -> dict[str, bytes]:
    """What a run wrote, by the names of the files."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def rows(folder: Path) -> str:
    """A file with those chats, and rows that are mended or rejected between them."""
    path = folder / "chats.jsonl"
    lines = [chat_line.rstrip(b"\n") for chat_line in map(canonical.line, CHATS)]
    mended = b'{"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}, '
    mended += b'{"role": "assistant", "content": "c"}], "extra": 1}'
    path.write_bytes(b"\n".join([lines[0], b"{", mended, *lines[1:], b"[]", mended]))
    return str(path)


@pytest.mark.parametrize(("block_bytes", "workers"), [(1, 1), (2000, 1), (2000, 2)])
def test_neither_blocks_nor_workers_change_a_byte(
    block_bytes: int, workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, named = Source(paths=[rows(tmp_path)], repair=True), Named(tokenizer="glm4")
    output = tmp_path / "out" / "out.jsonl"
    whole = segment.segment(source, output, tokenizing=named, cutting=CUTTING)
    expected = written(output.parent)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", block_bytes)
    with local(workers) as engine:
        made = segment.segment(source, output, tokenizing=named, cutting=CUTTING, engine=engine)
    assert written(output.parent) == expected
    assert len(expected) == 6
    assert made.lengths.tolist() == whole.lengths.tolist()
    assert made.as_json() == whole.as_json()
    assert (made.seams, made.findings) == (whole.seams, whole.findings)


def test_segments_of_derived_blocks_tell_the_lines_behind_those_before(
    family: Family, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    merged = write(tmp_path / "merged.jsonl", CHATS)
    source, ready = Source(paths=[merged]), Ready(tokenizer, family)
    output = tmp_path / "out" / "out.jsonl"
    by_hand = segment.segment(source, output, tokenizing=ready, cutting=CUTTING)
    expected = written(output.parent)
    work = segmenting.SegmentBlocks(
        source=source,
        tokenizing=ready,
        cutting=CUTTING,
        store=Folder(tmp_path / "units"),
        stamp="",
        output=str(output),
    )
    made = segment.Segmented(
        output, store=work.store, files=[merged], source=source, cutting=CUTTING
    )
    before = 0
    for part in (CHATS[:1], CHATS[1:4], CHATS[4:]):
        data = b"".join(map(canonical.line, part))
        text, following = work(blocks.derived("elsewhere/merged.jsonl", data))
        assert following.data == work.store.read(f"{text.name}.jsonl")
        made.add(text, before)
        before += len(part)
    result = made.finish()
    assert written(output.parent) == expected
    assert b"Rule" not in expected["out.jsonl"]
    assert b'"tokens":' in expected["out.jsonl.shortened.jsonl"]
    assert result.rejections == by_hand.rejections
    assert (result.seams, result.findings) == (by_hand.seams, by_hand.findings)


def test_blocks_that_were_made_are_not_made_again(
    family: Family, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, ready = Source(paths=[rows(tmp_path)], repair=True), Ready(tokenizer, family)
    output, units = tmp_path / "out" / "out.jsonl", Folder(tmp_path / "units")

    def run(cutting: Cutting) -> dict[str, bytes]:
        segment.segment(source, output, tokenizing=ready, cutting=cutting, units=units)
        return written(output.parent)

    expected = run(CUTTING)
    (facts,) = (name for name in units.names() if name.endswith(".json"))
    units.write(facts, [units.read(facts)[:-9]])
    assert run(CUTTING) == expected  # made again, since a file was cut off

    def refuse(*_: object) -> None:
        raise AssertionError("the block is made again")

    monkeypatch.setattr(segmenting, "_planner", refuse)
    assert run(CUTTING) == expected
    with pytest.raises(AssertionError, match="made again"):
        run(replace(CUTTING, overlap=1))


@pytest.mark.parametrize("limit", [120, 12])
def test_no_unit_stays_beside_the_output(
    limit: int, family: Family, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    killed = tmp_path / f"segments.jsonl{segment.PASSING}"
    killed.mkdir()
    (killed / "of-a-run-that-was-killed.json").write_bytes(b"{}")
    try:
        run(tmp_path, CHATS, family, tokenizer, replaying(limit, on_overflow="quarantine"))
    except InputError:
        assert limit == 12
        assert not (tmp_path / "segments.jsonl").exists()
    assert not killed.exists()
