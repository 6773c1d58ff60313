"""Validation rows are whole groups, near the share, and the same again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from glmprep.errors import UsageError
from glmprep.records import Conversation, Message, Origin
from glmprep.split import groups, opening, original, split
from hypothesis import given, settings
from hypothesis import strategies as st

from . import realdata

GREETING, QUESTION = "Hi!", "How do I move a house across the river?"


def conversation(*asked: str, name: str = "a", line: int = 1) -> Conversation:
    messages = [Message(role="system", content=f"system {line}")]
    for text in asked:
        messages += [Message(role="user", content=text), Message(role="assistant", content="…")]
    return Conversation(id=name, messages=tuple(messages), origin=Origin("data.jsonl", line))


@pytest.mark.parametrize("same", [QUESTION.upper(), f" {QUESTION}\n", "Ｈow" + QUESTION[3:]])
def test_openings_are_compared_without_case_width_and_spaces(same: str) -> None:
    assert opening(conversation(same, "More?", line=7)) == opening(conversation(QUESTION))
    assert opening(conversation(same[:-2])) != opening(conversation(QUESTION))


def test_a_greeting_is_no_opening_without_what_follows() -> None:
    greeted = [conversation(GREETING, QUESTION), conversation(GREETING, QUESTION[::-1])]
    assert opening(greeted[0]) != opening(greeted[1])
    assert opening(greeted[0]) == opening(conversation("hi!", QUESTION, "And back?"))
    assert opening(conversation(" ")) == opening(conversation()) == 0


def test_an_opening_has_the_same_hash_in_every_version() -> None:
    assert opening(conversation(QUESTION)) == 15656188760365090641


def test_segments_know_the_conversation_that_they_were_made_of() -> None:
    rows = [conversation(name=name, line=line) for line, name in enumerate(["a#0", "a#1", "b#0"])]
    made = [original(row, segmented=True) for row in rows]
    assert made[0] == made[1] != made[2]
    assert len({original(row, segmented=False) for row in rows}) == 3
    of_one_line = [conversation(name=name) for name in ("a@1", "a@2")]
    assert len({original(row, segmented=False) for row in of_one_line}) == 1


def joined(keys: list[list[int]]) -> list[set[int]]:
    """The rows of each group, by joining sets until none share a row's key."""
    found = [{row} for row in range(len(keys[0]))]
    for key in keys:
        for value in set(key) - {0}:
            rows = {row for row, each in enumerate(key) if each == value}
            touched = [each for each in found if each & rows]
            found = [each for each in found if not each & rows] + [set().union(*touched)]
    return found


keys = st.integers(1, 30).flatmap(
    lambda rows: st.lists(
        st.lists(st.integers(0, 12), min_size=rows, max_size=rows), min_size=1, max_size=3
    )
)


@settings(deadline=None)
@given(keys)
def test_rows_that_share_a_key_are_in_one_group_and_no_others(drawn: list[list[int]]) -> None:
    # Keys of one column do not meet those of another, as hashes do not.
    columns = [[value and value + 100 * at for value in key] for at, key in enumerate(drawn)]
    found = groups(*(np.array(key, np.uint64) for key in columns))
    for rows in joined(columns):
        shared = [key[row] for row in rows for key in columns if key[row]]
        names = {int(found[row]) for row in rows}
        assert names == {min(shared)} if shared else len(names) == len(rows) == 1


def test_a_long_chain_of_shared_keys_is_one_group() -> None:
    rows = np.arange(1, 5001, dtype=np.uint64)
    random = np.random.default_rng(0).permutation(5000)
    found = groups((rows // 2 + 10_000)[random], ((rows + 1) // 2 + 20_000)[random])
    assert len(np.unique(found)) == 1


def test_rows_without_any_key_are_alone() -> None:
    bare = np.zeros(40, np.uint64)
    assert split(groups(bare, bare), 0.25, 0).sum() == 10


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=300),
    st.floats(0.01, 0.99),
    st.integers(0, 2**63 - 1),
)
def test_a_split_takes_whole_groups_up_to_the_share(
    drawn: list[int], share: float, seed: int
) -> None:
    of = np.array(drawn, np.uint64)
    _, sizes = np.unique(of, return_counts=True)
    room = max(1, round(share * len(of)))
    if sizes.min() > room:
        with pytest.raises(UsageError, match="raise the share"):
            split(of, share, seed)
        return
    chosen = split(of, share, seed)
    assert not set(of[chosen]) & set(of[~chosen])
    # What is left free has no room for any group that was not taken.
    left = room - chosen.sum()
    assert 0 <= left < min((np.sum(of == each) for each in set(of[~chosen])), default=room + 1)
    assert chosen.tolist() == split(of, share, seed).tolist()


def test_most_of_a_split_stays_when_rows_are_added_and_goes_with_another_seed() -> None:
    before = np.arange(1, 10_001, dtype=np.uint64)
    chosen = split(before, 0.1, 0)
    later = split(np.arange(1, 11_001, dtype=np.uint64), 0.1, 0)[:10_000]
    assert (later & chosen).sum() > 0.9 * chosen.sum()
    assert (split(before, 0.1, 1) & chosen).sum() < 0.2 * chosen.sum()


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5])
def test_a_share_of_nothing_or_all_is_refused(share: float) -> None:
    with pytest.raises(UsageError, match="above 0 and below 1"):
        split(np.arange(5, dtype=np.uint64), share, 0)


def test_no_opening_of_real_counselling_lies_on_both_sides(assets: Path) -> None:
    data = realdata.rows(assets, "smilechat")
    texts = [next(m["content"] for m in row["messages"] if m["role"] == "user") for row in data]
    found = np.array([opening(conversation(text)) for text in texts], np.uint64)
    assert len(set(texts)) < 0.75 * len(texts)
    chosen = split(groups(found), 0.05, 0)
    assert chosen.sum() == round(0.05 * len(texts))
    asked = np.array(texts, object)
    assert not set(asked[chosen]) & set(asked[~chosen])
