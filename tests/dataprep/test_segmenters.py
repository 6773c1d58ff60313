"""Segmenters keep the limit, whatever they are given, and each does what it is there for."""

from __future__ import annotations

import itertools
import time
import tracemalloc
from collections.abc import Sequence

import numpy as np
import pytest
from glmprep.errors import UsageError
from glmprep.segmenters import semantic as semantics
from glmprep.segmenters.balanced import balanced
from glmprep.segmenters.cohesion import PRIOR, word_cohesion
from glmprep.segmenters.greedy import greedy
from glmprep.segmenters.loading import load
from glmprep.segmenters.pieces import pieces
from glmprep.segmenters.semantic import Semantic
from glmprep.segmenters.stretch import Segmenter, Stretch
from glmprep.semantics.embedder import Embedder, Float32
from glmprep.semantics.lexical import Lexical
from hypothesis import given, settings
from hypothesis import strategies as st

SEGMENTERS: dict[str, Segmenter] = {
    "greedy": greedy,
    "balanced": balanced,
    "semantic": Semantic(),
    "semantic, 3": Semantic(count=3),
}
WORDS = ["tokenizer budget", "meeting agenda", "卷积神经网络", "损失函数", "ok", "", "the of and"]


def stretch_of(
    tokens: Sequence[int], limit: int, before: Sequence[int] | int = 0, texts: Sequence[str] = ()
) -> Stretch:
    repeated = [before] * len(tokens) if isinstance(before, int) else before
    return Stretch(
        tokens=np.array(tokens, np.int64),
        before=np.array(repeated, np.int64),
        limit=limit,
        texts=list(texts) or [""] * len(tokens),
    )


@st.composite
def stretches(draw: st.DrawFn, constant: bool = False) -> Stretch:
    """Any units, with zero tokens, over the limit, or repeating more than fits among them."""
    units = draw(st.integers(1, 24))
    before = [draw(st.integers(0, 12)) for _ in range(1 if constant else units)]
    return stretch_of(
        [draw(st.integers(0, 40)) for _ in range(units)],
        draw(st.integers(1, 60)),
        before * units if constant else before,
        [draw(st.sampled_from(WORDS)) for _ in range(units)],
    )


def sound(stretch: Stretch, starts: Sequence[int]) -> bool:
    """Whether the segments are all units in order, each within the limit or a unit alone."""
    assert list(starts) == sorted(set(starts))
    assert starts[0] == 0
    assert starts[-1] < len(stretch)
    single = np.diff([*starts, len(stretch)]) == 1
    return bool((single | (stretch.lengths(starts) <= stretch.limit)).all())


def ways(stretch: Stretch) -> list[list[int]]:
    """All ways to cut a short stretch that keep the limit."""
    inner = range(1, len(stretch))
    chosen = (
        [0, *cuts] for count in range(len(stretch)) for cuts in itertools.combinations(inner, count)
    )
    return [starts for starts in chosen if sound(stretch, starts)]


@pytest.mark.parametrize("name", SEGMENTERS)
@given(stretch=stretches())
@settings(max_examples=60, deadline=None)
def test_each_segment_keeps_the_limit_or_is_a_unit_alone_over_it(
    name: str, stretch: Stretch
) -> None:
    assert sound(stretch, SEGMENTERS[name](stretch))


@given(stretch=stretches(constant=True))
@settings(max_examples=100, deadline=None)
def test_balanced_makes_as_few_segments_as_greedy_and_none_longer(stretch: Stretch) -> None:
    filled, spread = stretch.lengths(greedy(stretch)), stretch.lengths(balanced(stretch))
    assert len(spread) == len(filled)
    assert spread.max() <= filled.max()


@given(stretch=stretches())
@settings(max_examples=60, deadline=None)
def test_balanced_is_never_longer_than_greedy_whatever_is_repeated(stretch: Stretch) -> None:
    assert stretch.lengths(balanced(stretch)).max() <= stretch.lengths(greedy(stretch)).max()


@given(tokens=st.lists(st.integers(0, 20), min_size=1, max_size=9), limit=st.integers(20, 40))
@settings(max_examples=40, deadline=None)
def test_no_way_has_fewer_segments_or_a_shorter_longest_one_than_balanced(
    tokens: list[int], limit: int
) -> None:
    stretch = stretch_of(tokens, limit)
    spread = balanced(stretch)
    rivals = [(len(way), int(stretch.lengths(way).max())) for way in ways(stretch)]
    assert (len(spread), int(stretch.lengths(spread).max())) == min(rivals)


def test_balanced_spreads_what_greedy_leaves_to_a_short_end() -> None:
    stretch = stretch_of([10] * 9, limit=40)
    assert greedy(stretch) == [0, 4, 8]
    assert balanced(stretch) == [0, 3, 6]


def test_balanced_spreads_the_rest_too_when_one_unit_sets_the_longest() -> None:
    stretch = stretch_of([38, *[10] * 5], limit=40)
    assert list(stretch.lengths(balanced(stretch))) in ([38, 30, 20], [38, 20, 30])


@given(stretch=stretches(), count=st.integers(1, 24))
@settings(max_examples=80, deadline=None)
def test_semantic_makes_the_number_of_segments_asked_for_where_there_is_a_way(
    stretch: Stretch, count: int
) -> None:
    made = len(Semantic(count=count)(stretch))
    reach = stretch.reach()
    least = _least(reach)
    assert made == min(max(count, least), len(stretch))


def _least(reach: np.ndarray) -> int:
    """The fewest segments there is a way for, one unit after the other."""
    needed = [0] * (len(reach) + 1)
    for place in range(len(reach) - 1, -1, -1):
        needed[place] = 1 + min(needed[place + 1 : int(reach[place]) + 1])
    return needed[0]


@given(
    texts=st.lists(st.lists(st.sampled_from(["tokenizer", "budget", "agenda"])), min_size=1),
    width=st.integers(1, 12),
)
@settings(max_examples=60, deadline=None)
def test_cohesion_is_the_likelihood_of_a_segments_words_one_after_the_other(
    texts: list[list[str]], width: int
) -> None:
    units, width = len(texts), min(width, len(texts))
    table = word_cohesion([" ".join(text) for text in texts], np.arange(units), width)
    spoken = [word for text in texts for word in text]
    again = [word for word in set(spoken) if spoken.count(word) > 1]
    assert table.shape == (units, width)
    for last, back in itertools.product(range(units), range(width)):
        if back <= last:
            words = [word for text in texts[last - back : last + 1] for word in text]
            expected = likelihood([word for word in words if word in again], len(again))
            assert table[last, back] == pytest.approx(expected, abs=1e-9)


def likelihood(words: list[str], different: int) -> float:
    """Of each word given those before it, against one word of `different` at random."""
    total = 0.0
    for said, word in enumerate(words):
        chance = (PRIOR + words[:said].count(word)) / (PRIOR * different + said)
        total += float(np.log(chance * different))
    return total


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("the tokenizer splits bytes into merges", "the budget of the project is spent on travel"),
        ("卷积神经网络的损失函数下降很慢", "明年的旅行预算由财务部门审批"),
    ],
)
def test_semantic_cuts_where_the_words_change_and_greedy_where_the_limit_is(
    first: str, second: str
) -> None:
    stretch = stretch_of([10] * 20, limit=120, texts=[first] * 9 + [second] * 11)
    assert Semantic(count=2)(stretch) == [0, 9]
    assert greedy(stretch) == [0, 12]


def test_what_a_segment_repeats_makes_semantic_cut_less() -> None:
    topics = ["tokenizer bytes merges", "budget travel project", "speech noise channel"]
    texts = [topic for topic in topics for _ in range(20)]
    free = stretch_of([10] * 60, limit=2000, texts=texts)
    dear = stretch_of([10] * 60, limit=2000, before=1000, texts=texts)
    assert Semantic()(free) == [0, 20, 40]
    assert len(Semantic()(dear)) < 3


def test_texts_without_a_word_are_cut_evenly_into_few() -> None:
    stretch = stretch_of([10] * 12, limit=60, texts=["?"] * 12)
    assert Semantic()(stretch) == [0, 6]


@pytest.mark.parametrize("name", ["greedy", "balanced", "semantic"])
def test_a_hundred_thousand_tiny_units_are_cut_in_seconds_and_little_memory(name: str) -> None:
    stretch = stretch_of([5] * 100_000, limit=4096, before=100, texts=["budget ok"] * 100_000)
    tracemalloc.start()
    begin = time.process_time()
    starts = load(name, Lexical())(stretch)
    seconds = time.process_time() - begin
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sound(stretch, starts)
    assert len(starts) == len(greedy(stretch))
    assert seconds < 30
    assert peak < 600e6


def test_cuts_between_blocks_of_units_keep_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(semantics, "CELLS", 200)

    @given(stretch=stretches())
    @settings(max_examples=80, deadline=None)
    def kept(stretch: Stretch) -> None:
        assert sound(stretch, Semantic()(stretch))

    kept()


def test_the_same_stretch_is_always_cut_alike() -> None:
    texts = [WORDS[place % len(WORDS)] for place in range(200)]
    stretch = stretch_of([7] * 200, limit=300, texts=texts)
    assert Semantic()(stretch) == Semantic()(stretch)


class ByFirstLetter(Embedder):
    """Tells pieces that begin with one letter from those with another."""

    name, dims = "by-first-letter", 2

    def embed(self, texts: Sequence[str]) -> Float32:
        return np.array([[text[0] == "a", text[0] != "a"] for text in texts], np.float32)


def test_an_encoder_finds_a_turn_that_no_word_tells() -> None:
    texts = [f"a{place}" for place in range(12)] + [f"b{place}" for place in range(8)]
    stretch = stretch_of([64] * 20, limit=64 * 16, texts=texts)
    assert Semantic(embedder=ByFirstLetter(), count=2)(stretch) == [0, 12]
    assert Semantic(count=2)(stretch) != [0, 12]


def test_pieces_hold_all_texts_and_all_but_the_last_are_long_enough() -> None:
    stretch = stretch_of([30, 30, 30, 200, 5], limit=1, texts=["a", "b", "c", "d", "e"])
    number, texts = pieces(stretch)
    assert texts == ["a\nb\nc", "d", "e"]
    assert number.tolist() == [0, 0, 0, 1, 2]


def test_segmenters_are_found_by_name_and_an_unknown_name_is_told() -> None:
    assert load("greedy", Lexical()) is greedy
    assert load("balanced", Lexical()) is balanced
    assert isinstance(load("semantic", Lexical()), Semantic)
    with pytest.raises(UsageError, match="none of greedy, balanced, semantic"):
        load("clever", Lexical())
