"""What a limit would cut, as someone would count it who cuts each conversation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from glmprep.families import Family
from glmprep.labels import tokenize
from glmprep.languages import CLEAR, LANGUAGES, languages
from glmprep.lengths import Cut, Lengths, covering, percentiles
from glmprep.records import Conversation, Role
from glmprep.tokenizer import Tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from .chats import chat, conversations, row_targets


def counted(chats: list[Conversation], limit: int, family: Family, tokenizer: Tokenizer) -> Cut:
    """Cut each conversation after `limit` tokens and look at its mask."""
    batch = tokenize(chats, family, tokenizer)
    rows = bare = answers = lost = 0
    for row in range(len(chats)):
        ids = batch.ids[batch.offsets[row] : batch.offsets[row + 1]]
        mask = batch.mask[batch.offsets[row] : batch.offsets[row + 1]]
        if len(ids) <= limit:
            continue
        rows += 1
        lost += int(mask[limit:].sum())
        bare += not mask[:limit].any()
        inside = limit > 0 and mask[limit] == 1 and mask[limit - 1] == 1
        answers += int(inside and ids[limit - 1] not in family.stops)
    return Cut(
        max_length=limit,
        rows=rows,
        without_labels=bare,
        answers_cut=answers,
        supervised_lost=lost,
    )


@settings(max_examples=30, deadline=None)
@given(st.lists(conversations(), min_size=1, max_size=4), st.integers(1, 150))
def test_cuts_are_those_of_cutting(
    family: Family, tokenizer: Tokenizer, chats: list[Conversation], limit: int
) -> None:
    lengths = Lengths([limit, 10**6])
    for conversation in chats:  # a batch each: the sums add up
        lengths.add([conversation], tokenize([conversation], family, tokenizer))
    assert lengths.cuts()[0] == counted(chats, limit, family, tokenizer)
    assert lengths.cuts()[1] == counted(chats, 10**6, family, tokenizer)
    batch = tokenize(chats, family, tokenizer)
    assert lengths.conversations.tolist() == batch.lengths.tolist()
    assert lengths.supervised == sum(len(row_targets(batch, row)) for row in range(len(chats)))
    assert lengths.answers.sum() == lengths.supervised
    assert len(lengths.prompts) == sum(m.role == "user" for c in chats for m in c.messages)


def test_lengths_of_turns_count_their_headers_and_stops(
    family: Family, tokenizer: Tokenizer
) -> None:
    chats = [chat(("user", "hi"), ("assistant", "yo"))]
    lengths = Lengths([])
    lengths.add(chats, tokenize(chats, family, tokenizer))
    assert lengths.conversations.tolist() == [9]  # prefix 2, each turn 3, stop 1
    assert lengths.prompts.tolist() == [3]
    assert lengths.answers.tolist() == [3]


def test_percentiles_are_lengths_that_occur() -> None:
    lengths = np.array([5, 1, 9, 7])
    assert percentiles(lengths) == {"p50": 7, "p75": 9, "p90": 9, "p95": 9, "p99": 9, "p100": 9}
    assert percentiles(lengths[:0]) == {}


@pytest.mark.parametrize(("share", "expected"), [(0.5, 512), (0.95, 1024), (1.0, 1024)])
def test_a_suggested_limit_covers_the_share_that_was_asked_for(share: float, expected: int) -> None:
    assert covering(np.array([100, 300, 500, 800]), share, 256) == expected


@given(st.lists(st.lists(st.text(max_size=8), min_size=1, max_size=3), max_size=5))
def test_scripts_are_those_of_regular_expressions(texts: list[list[str]]) -> None:
    found = languages([chat(*(("user", text) for text in said)) for said in texts])
    for said, language in zip(texts, found.tolist(), strict=True):
        text = pl.Series(said)
        han = text.str.count_matches(r"\p{Han}").sum()
        latin = text.str.count_matches(r"\p{Latin}+").sum()
        share = han / max(han + latin, 1)
        clear = "chinese" if share >= CLEAR else "english" if share <= 1 - CLEAR else "mixed"
        assert LANGUAGES[language] == (clear if han + latin else "other")


def test_conversations_are_told_apart_by_script_and_by_tools(
    family: Family, tokenizer: Tokenizer
) -> None:
    chats = [
        chat(("user", "今天天气怎么样？"), ("assistant", "晴，适合用 Python 写程序。")),
        chat(("user", "How is it?"), ("assistant", "Fine, thank you.")),
        chat(("user", "translate this word please"), ("assistant", "天气")),
        chat(("user", "1 + 1"), ("assistant", "2")),
    ]
    assert [LANGUAGES[place] for place in languages(chats)] == [
        "chinese",
        "english",
        "mixed",
        "other",
    ]
    offered = replace(chats[1], tools=({"type": "function", "function": {"name": "f"}},))
    lengths = Lengths([])
    for batch in ([*chats], [offered]):
        lengths.add(batch, tokenize(batch, family, tokenizer))
    groups = {group.name: group for group in lengths.groups()}
    assert {name: len(g.conversations) for name, g in groups.items()} == {
        "chinese": 1,
        "english": 2,
        "mixed": 1,
        "other": 1,
        "tools": 1,
        "no_tools": 4,
    }
    for kinds in (LANGUAGES, ("tools", "no_tools")):
        assert sum(groups[name].supervised for name in kinds) == lengths.supervised
        tokens = np.concatenate([groups[name].conversations for name in kinds])
        assert sorted(tokens) == sorted(lengths.conversations)


def test_lengths_by_role_add_up_to_those_of_all_turns(family: Family, tokenizer: Tokenizer) -> None:
    chats = [chat(("system", "s"), ("user", "one two"), ("assistant", "three"))]
    lengths = Lengths([])
    lengths.add(chats, tokenize(chats, family, tokenizer))
    roles: tuple[Role, ...] = ("system", "user", "assistant", "tool")
    by_role = np.concatenate([lengths.of_role(role) for role in roles])
    assert by_role.tolist() == lengths.turns["tokens"].to_list()
