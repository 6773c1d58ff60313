"""Every row, turn and token is on the ledger once, and its sums balance."""

from __future__ import annotations

import struct
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any, get_args

import numpy as np
import orjson
import polars as pl
import pyarrow as pa
import pytest
from glmprep import (
    accounts,
    bucket,
    canonical,
    coverage,
    entries,
    intake,
    measured,
    policy,
    segment,
    shards,
)
from glmprep.cutting import Cutting, OnOverflow
from glmprep.errors import InputError
from glmprep.families import Family
from glmprep.families.glm4 import Glm4
from glmprep.labels import tokenize
from glmprep.ledger import NUMBERS, Ledger, Sums, Turns
from glmprep.records import Conversation, Message, Origin, Rejection, Untrained
from glmprep.reread import Inputs
from glmprep.sized import size
from glmprep.source import TRAIN_ON, Source, TrainOn
from glmprep.store import Folder
from glmprep.tokenizer import Tokenizer
from glmprep.tokenizing import Ready
from glmprep.verify import verify
from hypothesis import given, settings
from hypothesis import strategies as st

from .chats import chat, conversations, no_shrinking, row_targets, segments_of, write

BAD = {
    "DF001": b"{\n",
    "DF101": canonical.line(chat(("user", "hi"), ("user", "hi"), ("assistant", ""))),
}
UNTRAINED: Untrained = "elsewhere"


class RowPerAnswer(Glm4):
    """GLM-4 with a row for each answer, as templates have them that forget reasoning."""

    name = "row-per-answer"

    def rows(self, conversation: Conversation) -> Sequence[Conversation]:
        """Row n trains the n-th trained answer and nothing but that."""
        messages = conversation.messages
        answers = [t for t, m in enumerate(messages) if m.role == "assistant" and m.trained]
        if len(answers) < 2:
            return (conversation,)
        return tuple(
            replace(
                conversation,
                id=f"{conversation.id}@{n}",
                messages=tuple(
                    replace(m, untrained=UNTRAINED) if t in answers and t != answer else m
                    for t, m in enumerate(messages)
                ),
            )
            for n, answer in enumerate(answers)
        )


@pytest.fixture(scope="module")
def per_answer(tokenizer: Tokenizer) -> Family:
    return RowPerAnswer(tokenizer)


def lines_of(folder: Path) -> pl.DataFrame:
    return entries.read(folder / shards.LEDGER, accounts.SCHEMA)


def make(
    paths: Sequence[str],
    output: Path,
    family: Family,
    tokenizer: Tokenizer,
    *,
    layout: Any = "buckets",
    max_length: int = 1000,
    train_on: TrainOn = "all",
) -> Ledger:
    result = bucket.bucket(
        Source(paths=paths, train_on=train_on),
        Folder(output),
        tokenizing=Ready(tokenizer, family),
        config=bucket.Config(layout=layout, max_length=max_length),
    )
    return result.ledger


# Random conversations


@settings(no_shrinking, max_examples=30)
@given(
    bodies=st.lists(conversations(), min_size=1, max_size=6),
    bad=st.lists(st.sampled_from(list(BAD)), max_size=3),
    layout=st.sampled_from(("buckets", "packed")),
    train_on=st.sampled_from(TRAIN_ON),
    several=st.booleans(),
    max_length=st.integers(60, 1500),
)
def test_every_row_turn_and_target_is_on_the_ledger_and_proven_from_the_data(
    family: Family,
    per_answer: Family,
    tokenizer: Tokenizer,
    bodies: list[Conversation],
    bad: list[str],
    layout: str,
    train_on: TrainOn,
    several: bool,
    max_length: int,
) -> None:
    used = per_answer if several else family
    bodies = [*bodies, chat(("user", "hi"), ("assistant", "yo"))]
    chats = [replace(body, id=f"chat{place}") for place, body in enumerate(bodies)]
    with tempfile.TemporaryDirectory() as name:
        data, output = write(Path(name) / "a.jsonl", chats), Path(name) / "shards"
        with Path(data).open("ab") as file:
            file.writelines(BAD[rule] for rule in bad)
        ledger = make(
            [data], output, used, tokenizer,
            layout=layout, max_length=max_length, train_on=train_on,
        )  # fmt: skip
        lines = lines_of(output)
        _, rows = shards.read(output)
        proof = verify(output, Inputs(paths=[data], tokenizing=Ready(tokenizer, used)))
    assert proof.findings == []
    assert proof.rows_again == ledger.read == len(chats) + len(bad)
    assert ledger.differences() == []
    asked = [policy.apply(one, train_on) for one in chats]
    sound = [one for one in asked if any(m.role == "assistant" and m.trained for m in one.messages)]
    assert ledger.rejected == Counter(bad + ["DF104"] * (len(chats) - len(sound)))
    assert accounts.added_up(lines).flat() == {
        name: count if not name.startswith(("rejected_turns", "sound.turns", "open_ends")) else 0
        for name, count in ledger.flat().items()
    }
    assert ledger.sound.turns == sum(len(one.messages) for one in sound)
    trained_once(asked, rows, lines, family, tokenizer)


def trained_once(
    chats: Sequence[Conversation],
    rows: shards.Rows,
    lines: pl.DataFrame,
    family: Family,
    tokenizer: Tokenizer,
) -> None:
    """What the shards train of a conversation is what it trains whole, less what was set aside."""
    found = segments_of(rows)
    whole = tokenize(chats, family, tokenizer)
    for place, one in enumerate(chats):
        mine = lines.filter(pl.col("line") == place + 1)
        expected = row_targets(whole, place)
        assert mine["supervised"].sum() == len(expected), one
        if (mine["outcome"] == accounts.WRITTEN).all():
            trained = [
                token
                for name in mine["conversation"]
                for token, bit in zip(*found[name], strict=True)
                if bit
            ]
            assert trained == expected


@settings(no_shrinking, max_examples=30)
@given(
    bodies=st.lists(conversations(longest=25), min_size=1, max_size=3),
    max_length=st.integers(12, 260),
    overlap=st.integers(0, 5),
    on_overflow=st.sampled_from(("split", "quarantine")),
    train_on=st.sampled_from(TRAIN_ON),
    several=st.booleans(),
)
def test_every_turn_and_target_of_a_split_is_on_its_ledger(
    family: Family,
    per_answer: Family,
    tokenizer: Tokenizer,
    bodies: list[Conversation],
    max_length: int,
    overlap: int,
    on_overflow: OnOverflow,
    train_on: TrainOn,
    several: bool,
) -> None:
    used = per_answer if several else family
    bodies = [*bodies, chat(("user", "hi"), ("assistant", "yo"))]
    chats = [replace(body, id=f"chat{place}") for place, body in enumerate(bodies)]
    with tempfile.TemporaryDirectory() as name:
        output = Path(name) / "out.jsonl"
        result = segment.segment(
            Source(paths=[write(Path(name) / "a.jsonl", chats)], train_on=train_on),
            output,
            tokenizing=Ready(tokenizer, used),
            cutting=Cutting(
                max_length=max_length,
                context="overlap",
                overlap=overlap,
                context_tokens=max_length // 4,
                on_overflow=on_overflow,
            ),
        )
        lines = entries.read(segment.ledger_path(output), coverage.SCHEMA)
        written = [orjson.loads(line) for line in output.read_bytes().splitlines()]
    counts = result.counts
    for name in coverage.NUMBERS:
        assert lines[name].sum() == getattr(counts, name), name
    shortened = [one.data["dropped_tokens"] for one in result.findings if one.rule == "DL005"]
    assert counts.tokens_shortened == sum(shortened)
    outcomes = Counter(lines["outcome"])
    assert outcomes["whole"] == counts.whole
    assert counts.whole + counts.segments == len(written)
    of_rule = lines.filter(pl.col("rule").is_not_null())
    assert set(of_rule["outcome"]) <= {"partly", "set_aside", "rejected"}
    assert {one.origin.line for one in result.rejections} == set(of_rule["line"])
    assert (lines["turns_out"] <= lines["turns_in"]).all()
    for one in lines.filter(pl.col("outcome") == "cut").iter_rows(named=True):
        assert one["targets_out"] == one["targets_in"]
        assert one["turns_set_aside"] == 0


def test_the_turns_of_a_split_are_kept_set_aside_or_left_out(
    family: Family, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    long, short = "word " * 150, "word " * 60
    weight: dict[str, Any] = {"role": "assistant", "untrained": "weight"}
    body = chat(
        ("system", "Be brief."),
        ("user", "One?"),
        ("assistant", f"One. {short}"),
        ("user", f"Two? {short}"),
        Message(content=f"Two. {short}", **weight),
        ("user", "Three?"),
        ("assistant", long),
        ("user", "Four?"),
        ("assistant", f"Four. {short}"),
        ("user", "Five?"),
    )
    source = Source(paths=[write(tmp_path / "a.jsonl", [body])])
    result = segment.segment(
        source,
        tmp_path / "out.jsonl",
        tokenizing=Ready(tokenizer, family),
        cutting=Cutting(max_length=140, on_overflow="quarantine"),
    )
    counts = result.counts
    # Three is too long, and nothing in Two is trained; Five goes along with Four.
    assert (counts.turns_in, counts.turns_out) == (10, 6)
    assert (counts.turns_set_aside, counts.turns_left_out) == (2, 2)
    [sized] = size([body], family, tokenizer)
    assert counts.tokens_replayed == sized.turn_tokens[0]
    [line] = entries.read(segment.ledger_path(tmp_path / "out.jsonl"), coverage.SCHEMA).to_dicts()
    assert (line["outcome"], line["rule"], line["segments"]) == ("partly", "DL003", 2)


class RowTooMany(Glm4):
    """GLM-4 with a second row of each conversation, in which nothing is trained."""

    def rows(self, conversation: Conversation) -> Sequence[Conversation]:
        """The conversation, and the same as context."""
        messages = tuple(replace(m, untrained=UNTRAINED) for m in conversation.messages)
        return (conversation, replace(conversation, id="context", messages=messages))


def test_a_long_row_without_a_target_is_set_aside_and_listed(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    one = chat(("user", "hi"), ("assistant", "word " * 200))
    result = segment.segment(
        Source(paths=[write(tmp_path / "a.jsonl", [one])]),
        tmp_path / "out.jsonl",
        tokenizing=Ready(tokenizer, RowTooMany(tokenizer)),
        cutting=Cutting(max_length=100),
    )
    assert [(one.rule, one.conversation) for one in result.rejections] == [("DL002", "context")]
    assert (result.counts.turns_set_aside, result.counts.turns_out) == (2, 2)
    lines = entries.read(segment.ledger_path(tmp_path / "out.jsonl"), coverage.SCHEMA)
    assert lines.select("line", "row", "outcome").rows() == [(1, 0, "cut"), (1, 1, "set_aside")]


# Several rows of a conversation


def test_answers_that_another_row_trains_are_told_apart(
    per_answer: Family, family: Family, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    one = chat(("user", "a"), ("assistant", "First."), ("user", "b"), ("assistant", "Second one."))
    ledger = make([write(tmp_path / "a.jsonl", [one])], tmp_path / "s", per_answer, tokenizer)
    assert ledger.sound == Turns(rows=1, turns=4, trained_turns=2)
    assert (ledger.written.rows, ledger.written.turns) == (2, 8)
    [sized] = size([one], family, tokenizer)
    assert ledger.written.trained_turns == 2
    assert ledger.written.supervised == sum(sized.turn_targets)
    elsewhere = sized.turn_tokens[1] + sized.turn_tokens[3]
    expected = {"weight": 0, "policy": 0, "context": 0, "elsewhere": elsewhere}
    assert ledger.written.untrained == expected
    lines = lines_of(tmp_path / "s")
    assert lines["conversation"].to_list() == ["chat@0", "chat@1"]
    assert lines["row"].to_list() == [0, 1]
    assert lines["line"].to_list() == [1, 1]


def test_rows_that_are_left_out_of_one_conversation_are_one_row_of_the_data(
    per_answer: Family, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    short = chat(("user", "a"), ("assistant", "First."), ("user", "b"), ("assistant", "Second."))
    long = chat(*short.messages, ("user", "c " * 50), ("assistant", "Third."))
    result = bucket.bucket(
        Source(paths=[write(tmp_path / "a.jsonl", [short, long])]),
        Folder(tmp_path / "shards"),
        tokenizing=Ready(tokenizer, per_answer),
        config=bucket.Config(max_length=40),
    )
    assert result.ledger.written.rows == 2
    assert result.ledger.set_aside["DL001"].rows == len(result.rejections) == 3
    assert (result.left_out, result.reject_share) == (1, 0.5)
    assert verify(tmp_path / "shards").findings == []


# Numbers of one row


def test_each_token_of_a_row_is_of_one_kind(family: Family, tokenizer: Tokenizer) -> None:
    reasons = get_args(Untrained)
    answers = [
        Message(role="assistant", content=f"Answer {'again ' * n}.", untrained=reason)
        for n, reason in enumerate((None, *reasons))
    ]
    question = Message(role="user", content="And?", untrained="context")
    body = chat(*(message for answer in answers for message in (question, answer)))
    numbers = measured.measure([body], tokenize([body], family, tokenizer))
    sums = Sums(rows=1, **{name: int(column[0]) for name, column in numbers.items()})
    [sized] = size([body], family, tokenizer)
    assert tuple(sums.untrained) == reasons
    assert list(sums.untrained.values()) == sized.turn_tokens[3::2]
    assert sums.supervised == sum(sized.turn_targets)
    # The prompts, the prefix and the header of the trained answer, less its stop, which is the next
    # prompt's header; and the closing stop, which follows an untrained answer.
    assert sums.read == sum(sized.turn_tokens[::2]) + len(family.prefix) + 1
    assert (sums.turns, sums.trained_turns) == (10, 1)


def test_the_digest_tells_ids_and_masks_apart() -> None:
    ids = np.array([1, 2, 3, 1, 2, 3, 1, 2], np.int32)
    mask = np.array([0, 0, 1, 0, 1, 1, 0, 0], np.uint8)
    found = entries.digests(ids, mask, np.array([0, 3, 6, 8])).to_pylist()
    assert len(set(found)) == 3
    assert found[0] == blake2b(struct.pack("<3i3B", 1, 2, 3, 0, 0, 1), digest_size=16).digest()
    assert found[:1] == entries.digests(ids[:3], mask[:3], np.array([0, 3])).to_pylist()


# Sums


def whole() -> Ledger:
    rows = Sums(rows=2, turns=5, trained_turns=2, tokens=50, supervised=20, untrained_weight=5)
    aside = Sums(rows=1, turns=2, trained_turns=1, tokens=20, supervised=8)
    return Ledger(
        read=5,
        rejected={"DF001": 2},
        rejected_turns=4,
        sound=Turns(rows=3, turns=7, trained_turns=3),
        tokenized=rows + aside,
        set_aside={"DL001": aside},
        written=rows,
        open_ends=1,
    )


def test_a_ledger_comes_back_from_json_as_it_was() -> None:
    ledger = whole()
    assert Ledger.from_json(orjson.loads(orjson.dumps(ledger.as_json()))) == ledger
    assert ledger.differences() == []
    assert ledger.written.read == 25
    assert ledger.flat()["set_aside.DL001.tokens"] == 20


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"read": 6}, "6 rows read, 5 rejected or sound"),
        ({"rejected": {"DF001": 3}}, "5 rows read, 6 rejected or sound"),
        ({"sound": Turns(rows=3, turns=7, trained_turns=4)}, "4 trained turns in conversations"),
        ({"set_aside": {}}, "3 rows tokenized, 2 set aside or written"),
        ({"written": Sums(rows=2)}, "8 turns?"),
    ],
)
def test_a_sum_that_does_not_balance_is_named(change: dict[str, Any], words: str) -> None:
    differences = replace(whole(), **change).differences()
    assert differences
    if not words.endswith("?"):
        assert words in " ".join(differences)


@pytest.mark.parametrize("name", NUMBERS)
def test_each_number_is_balanced(name: str) -> None:
    ledger = whole()
    changed = replace(ledger.written, **{name: getattr(ledger.written, name) + 1})
    found = replace(ledger, written=changed).differences()
    assert any(f" {name} tokenized" in difference for difference in found)


def test_more_tokens_of_a_kind_than_there_are_do_not_balance() -> None:
    odd = Sums(rows=1, tokens=5, supervised=4, untrained_policy=2)
    ledger = Ledger(read=1, sound=Turns(rows=1), tokenized=odd, written=odd)
    assert ledger.differences() == ["more tokens are trained or left untrained than there are"]


# The file


def test_lines_tell_what_became_of_each_row(
    family: Family, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    chats = [
        chat(("user", "hi"), ("assistant", "word " * 200)),
        chat(("user", "hi"), ("assistant", "yo")),
    ]
    data = write(tmp_path / "a.jsonl", chats)
    with Path(data).open("ab") as file:
        file.write(BAD["DF001"])
    make([data], tmp_path / "shards", family, tokenizer, max_length=100)
    lines = lines_of(tmp_path / "shards")
    assert lines.select("file", "line", "row", "outcome", "rule").rows() == [
        ("a.jsonl", 1, 0, "set_aside", "DL001"),
        ("a.jsonl", 2, 0, "written", None),
        ("a.jsonl", 3, 0, "rejected", "DF001"),
    ]
    assert lines.select("shard_row", "segment").rows() == [(None, None), (0, 0), (None, None)]
    assert lines["digest"].is_null().to_list() == [False, False, True]


def test_the_same_data_elsewhere_and_in_other_batches_give_the_same_ledger(
    family: Family, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    for place, batch in (("one", intake.BATCH), ("two", 3)):
        monkeypatch.setattr(intake, "BATCH", batch)
        (tmp_path / place).mkdir()
        path = tmp_path / place / "a.jsonl"
        sound = canonical.line(chat(("user", "hi"), ("assistant", "yo")))
        path.write_bytes(b"".join([sound, *BAD.values(), sound] * 4))
        make([str(path)], tmp_path / place / "shards", family, tokenizer)
        folder = tmp_path / place / "shards"
        made.append([(folder / name).read_bytes() for name in ("ledger.parquet", "manifest.json")])
    assert made[0] == made[1]


def test_a_file_that_is_no_ledger_is_an_error_of_one_line(tmp_path: Path) -> None:
    path = tmp_path / "ledger.parquet"
    for content in (b"", b"PAR1", b"x" * 100):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"ledger\.parquet: cannot be read as a ledger \("):
            entries.read(path, accounts.SCHEMA)
    with pytest.raises(InputError, match="cannot be read as a ledger"):
        entries.read(tmp_path / "none", accounts.SCHEMA)


def test_lines_without_a_place_in_the_data_are_no_ledger(tmp_path: Path) -> None:
    made = entries.Entries(["a.jsonl"], accounts.COLUMNS)
    made.reject([Rejection(rule="DF001", reason="", origin=Origin("a.jsonl", 1))])
    table = made.table()
    for name in ("file", "line", "outcome"):
        at = table.schema.get_field_index(name)
        broken = table.set_column(at, table.schema.field(at), pa.nulls(1, table.schema.types[at]))
        entries.write([broken], tmp_path / "a.parquet")
        with pytest.raises(InputError, match="a column is missing or has gaps"):
            entries.read(tmp_path / "a.parquet", accounts.SCHEMA)
