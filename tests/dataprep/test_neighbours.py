"""Signatures estimate what they should, and pairs that are alike are found among many."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import chain

import numpy as np
import polars as pl
from glmprep.families import Family
from glmprep.labels import tokenize
from glmprep.sets.neighbours import NOTHING, SIZE, groups, signatures, similar
from glmprep.text.hashing import hash_runs, hash_texts
from glmprep.tokenizer import Tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from .chats import TOOL, chat


def shingles(tokens: Sequence[int]) -> set[tuple[int, ...]]:
    return {tuple(tokens[place : place + 3]) for place in range(len(tokens) - 2)}


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32), edits=st.integers(0, 40))
def test_similarity_is_near_the_exact_jaccard_similarity(
    seed: int, edits: int, family: Family, tokenizer: Tokenizer
) -> None:
    drawn = random.Random(seed)
    words = [f"{drawn.randrange(10_000)} " for _ in range(300)]
    changed = list(words)
    for place in drawn.sample(range(300), edits):
        changed[place] = "and "
    rows = [chat(("user", "".join(said)), ("assistant", "yes")) for said in (words, changed)]
    batch = tokenize(rows, family, tokenizer)
    made = signatures(rows, batch, [0, 1])
    one, other = (
        shingles(batch.ids[batch.offsets[row] + 2 : batch.offsets[row + 1] - 1].tolist())
        for row in (0, 1)
    )
    exact = len(one & other) / len(one | other)
    estimated = (made[0] == made[1]).mean()
    assert abs(estimated - exact) < 5 * np.sqrt(max(exact * (1 - exact), 0.01) / SIZE)


def test_nearly_all_pairs_that_are_alike_are_found_among_many() -> None:
    drawn = np.random.default_rng(0)
    table = drawn.integers(0, 1 << 16, (4000, SIZE)).astype(np.uint16)
    table[2000:] = np.where(drawn.random((2000, SIZE)) < 0.85, table[:2000], table[2000:])
    exact = (table[:2000] == table[2000:]).mean(axis=1) >= 0.8
    linked = similar(table).filter(pl.col("similarity") >= 0.8)
    assert set(zip(linked["first"], linked["second"], strict=True)) <= {
        (place, place + 2000) for place in np.flatnonzero(exact)
    }
    assert linked.height >= 0.99 * exact.sum()


def test_each_new_signature_is_compared_with_a_known_one_that_is_like_it() -> None:
    table = np.tile(np.arange(SIZE, dtype=np.uint16), (6, 1))
    table[0, 6:] += 1000  # agrees with all others in one band alone
    linked = similar(table, known=2).filter(pl.col("similarity") >= 0.8)
    new = linked.filter((pl.col("first") < 2) & (pl.col("second") >= 2))
    assert set(new.select("first", "second").rows()) == {(1, 2), (1, 3), (1, 4), (1, 5)}


def test_a_thousand_copies_make_few_pairs_and_one_group() -> None:
    table = np.repeat(np.arange(SIZE, dtype=np.uint16)[None], 1000, axis=0)
    linked = similar(table)
    assert linked.height < 2000
    label = groups(linked["first"].to_numpy(), linked["second"].to_numpy(), 1000)
    assert set(label.tolist()) == {0}


@given(st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19))))
def test_groups_are_what_can_be_reached(links: list[tuple[int, int]]) -> None:
    first, second = (np.array([link[side] for link in links], np.int64) for side in (0, 1))
    label = groups(first, second, 20)
    reached = {one: {one} for one in range(20)}
    for _ in range(20):
        for one, other in links:
            joined = reached[one] | reached[other]
            for member in joined:
                reached[member] = joined
    assert label.tolist() == [min(reached[one]) for one in range(20)]


@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=4), min_size=1))
def test_runs_hash_alike_exactly_when_they_are_equal(lists: list[list[int]]) -> None:
    offsets = np.cumsum([0, *map(len, lists)])
    hashed = hash_runs(np.array(list(chain.from_iterable(lists)), np.uint64), offsets)
    for one, own in zip(lists, hashed, strict=True):
        assert [own == other for other in hashed] == [one == other for other in lists]


def test_a_missing_text_has_no_hash() -> None:
    hashed = hash_texts(["a", None, "a", "", None])
    assert hashed.is_null().to_list() == [False, True, False, False, True]
    assert hashed[0] == hashed[2] != hashed[3]


def test_system_messages_and_tools_are_not_part_of_a_signature(
    family: Family, tokenizer: Tokenizer
) -> None:
    said = (("user", "What is the weather like?"), ("assistant", "It rains."))
    rows = [chat(*said), chat(("system", "Be brief."), *said, tools=[TOOL])]
    one, other = signatures(rows, tokenize(rows, family, tokenizer), [0, 1])
    assert (one == other).all()


def test_a_text_shorter_than_a_shingle_is_like_no_other(
    family: Family, tokenizer: Tokenizer
) -> None:
    rows = [chat(("system", text), ("user", "")) for text in ("a", "b")]
    table = signatures(rows, tokenize(rows, family, tokenizer), [0, 1])
    assert (table == NOTHING).all()
    assert similar(table).is_empty()
