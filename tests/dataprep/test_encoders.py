"""Every library gives the ids of the reference, and another takes over where one does not."""

from __future__ import annotations

import base64
import builtins
import gzip
import json
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from glmprep.encoders import Encoder, Flat, choosing, embedded, growing, known, memo
from glmprep.encoders.bytepairs import BytePairs
from glmprep.encoders.fastokens import Fastokens, Unfit, plain
from glmprep.encoders.growing import ENOUGH, Growing
from glmprep.encoders.memo import LONG, Memo
from glmprep.encoders.ranked import Ranked
from glmprep.errors import InputError, UsageError
from glmprep.ranks import WORDS, from_ranks
from glmprep.tokenizer import Tokenizer, load
from hypothesis import given, settings
from hypothesis import strategies as st

from .realdata import KINDS, rows
from .vocabularies import GLM4, write_folder

HARD = (*known.BESIDE, *known.SPACES, *known.MIXED_SPACES, *known.RUNS, *GLM4, "<think>", "</s>")
PART = st.one_of(
    st.text(max_size=12),
    st.sampled_from(HARD),
    st.builds(lambda unit, count: unit * count, st.sampled_from(HARD), st.integers(1, 60)),
    st.characters(categories=["Lo", "Mn", "Mc", "So", "Sk", "Cf", "Zs", "Nd", "No", "Nl"]),
)
TEXTS = st.lists(st.lists(PART, max_size=8).map("".join), max_size=8)


@pytest.fixture(scope="module")
def reference() -> BytePairs:
    return embedded.reference()


@pytest.fixture(scope="module")
def fast() -> Fastokens:
    return Fastokens(embedded.bare())


@pytest.fixture(scope="module")
def ranked() -> Ranked:
    return Ranked(embedded.ranks(), WORDS)


class Counting:
    """An encoder that gives one id per character, and counts what it was given."""

    name = "counting"

    def __init__(self, shift: int = 0) -> None:
        self.given: list[str] = []
        self._shift = shift

    def encode(self, texts: Sequence[str]) -> Flat:
        self.given += texts
        ids = [ord(character) + self._shift for text in texts for character in text]
        return np.array(ids, np.int32), np.array([len(text) for text in texts], np.int64)


def same(encoder: Encoder, reference: Encoder, texts: Sequence[str]) -> bool:
    return not known.differs(encoder, texts, reference.encode(texts))


# Identity


@settings(max_examples=150, deadline=None)
@given(TEXTS)
def test_all_libraries_give_the_same_ids_for_hard_text(
    reference: BytePairs, fast: Fastokens, ranked: Ranked, texts: list[str]
) -> None:
    assert same(fast, reference, texts)
    assert same(ranked, reference, texts)


@pytest.mark.parametrize("unit", [*known.RUNS, " \n", "\ufeff", "x. ", "👩‍👩‍👧", "한\u1161"])
def test_all_libraries_give_the_same_ids_for_long_runs(
    unit: str, reference: BytePairs, fast: Fastokens, ranked: Ranked
) -> None:
    texts = [unit * 5_001, f"x{unit * 2_000}\ny"]
    assert same(fast, reference, texts)
    assert same(ranked, reference, texts)


@pytest.mark.parametrize("form", ["a{0}b", " {0}{0}1", "\n{0} {0}\r\n"])
def test_fastokens_gives_the_same_ids_for_every_unicode_character_of_the_first_plane(
    form: str, reference: BytePairs, fast: Fastokens
) -> None:
    codes = [*range(0xD800), *range(0xE000, 0x10000)]
    texts = ["".join(form.format(chr(c)) for c in codes[at : at + 64]) for at in codes[::64]]
    assert same(fast, reference, [text for text in texts if text])


@pytest.mark.parametrize("kind", KINDS)
def test_fastokens_gives_the_same_ids_for_real_data(
    kind: str, assets: Path, reference: BytePairs, fast: Fastokens
) -> None:
    texts: list[str] = []
    for row in rows(assets, kind):
        texts += [m["content"] for m in row["messages"] if isinstance(m["content"], str)]
        texts.append(json.dumps(row["tools"], ensure_ascii=False))
        if sum(map(len, texts)) > 200_000:
            break
    assert same(fast, reference, texts)


def test_names_of_added_tokens_stay_text_in_every_library(
    reference: BytePairs, fast: Fastokens, ranked: Ranked
) -> None:
    texts = [f"{left}{name}{right}" for name in GLM4 for left in ("", "a ") for right in ("", "\n")]
    for encoder in (reference, fast, ranked):
        assert same(encoder, reference, texts)
        assert encoder.encode(texts)[0].max() < 151329


def test_pairs_that_make_the_same_token_are_joined_in_the_order_of_the_merges() -> None:
    bytes_ = [bytes([byte]) for byte in range(256)]
    tokens = [*bytes_, b"ab", b"ba", b"aba", b"bab", b"abab", b"bb", b"abb"]
    ranks = {token: rank for rank, token in enumerate(tokens)}
    lines = b"".join(base64.b64encode(t) + b" %d\n" % rank for t, rank in ranks.items())
    theirs = BytePairs(from_ranks(lines))
    ours = Ranked(ranks, WORDS)
    texts = [f"{number:b}".replace("0", "a").replace("1", "b") for number in range(2, 4096)]
    assert same(ours, theirs, texts)


# The embedded vocabulary


def test_the_embedded_files_are_made_from_the_published_tokenizer_json(assets: Path) -> None:
    published = assets / "tokenizer/glm-4-9b-chat/tokenizer.json.gz"
    made = embedded.make(gzip.decompress(published.read_bytes()))
    folder = Path(embedded.__file__).parents[1] / "assets"
    for name, data in made.items():
        assert gzip.decompress((folder / f"{name}.gz").read_bytes()) == data, name


def test_the_embedded_answers_are_those_of_the_reference(reference: BytePairs) -> None:
    assert not known.differs(reference, known.texts(), embedded.facts().answers)
    assert reference.size == embedded.facts().size


def test_the_embedded_tokenizer_parts_words_as_its_ranks_do() -> None:
    split, bytes_ = json.loads(embedded.whole())["pre_tokenizer"]["pretokenizers"]
    assert split["pattern"] == {"Regex": WORDS}
    assert (split["behavior"], split["invert"], bytes_["use_regex"]) == ("Isolated", False, False)


def test_loading_and_encoding_a_little_text_loads_no_reference(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(embedded, "whole", lambda: pytest.fail("loaded"))
    small = load()
    assert small.encode("Hello 世界") == [9703, 111085]
    assert small.added_id("<|user|>") == 151336
    assert (small.vocab_size, small.engine) == (151343, "ranks")


@cache
def ready(engine: str) -> Tokenizer:
    made = load(engine=engine, text_bytes=ENOUGH)
    made.get_ready()
    return made


@pytest.mark.parametrize("engine", choosing.ENGINES)
def test_every_engine_makes_the_same_tokenizer(engine: str) -> None:
    made = ready(engine)
    assert made.engine == ("tokenizers" if engine == "tokenizers" else "fastokens")
    assert made.encode("Hello 世界") == [9703, 111085]
    assert made.fingerprint == load().fingerprint
    assert made.decode([9703, 151336]) == "Hello<|user|>"
    assert not made.notes


def test_an_unknown_engine_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="no tokenizer engine is called swift"):
        load(engine="swift")


@pytest.mark.parametrize("engine", choosing.ENGINES)
@pytest.mark.parametrize("text", ["\ud800", "a\udfffb" * 600])
def test_half_of_a_surrogate_pair_is_refused(engine: str, text: str) -> None:
    with pytest.raises(InputError, match="surrogate"):
        ready(engine).encode_batch(["fine", text])
    with pytest.raises(InputError, match="surrogate"):
        load().encode(text)


# A user's own tokenizer.json


def test_an_own_tokenizer_json_is_encoded_by_fastokens(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "own", (*GLM4, "<think>"))
    texts = known.texts()
    fast, slow = load(folder, engine="fastokens"), load(folder, engine="tokenizers")
    assert (fast.engine, slow.engine) == ("fastokens", "tokenizers")
    for ours, theirs in zip(fast.encode_batch(texts), slow.encode_batch(texts), strict=True):
        assert np.array_equal(ours, theirs)
    assert fast.fingerprint == slow.fingerprint
    assert fast.added == slow.added


def changed(folder: str, change: Callable[[dict[str, Any]], None]) -> str:
    path = Path(folder) / "tokenizer.json"
    value = json.loads(path.read_text("utf-8"))
    change(value)
    path.write_text(json.dumps(value), encoding="utf-8")
    return folder


CHANGES: dict[str, Callable[[dict[str, Any]], None]] = {
    "normalizer": lambda value: value.update(normalizer={"type": "NFC"}),
    "prefix": lambda value: value["pre_tokenizer"]["pretokenizers"][1].update(
        add_prefix_space=True
    ),
    "words": lambda value: value["pre_tokenizer"]["pretokenizers"].insert(
        0, {"type": "Digits", "individual_digits": True}
    ),
    "no words": lambda value: value.update(pre_tokenizer=None),
    "dropout": lambda value: value["model"].update(dropout=0.5),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_tokenizer_that_fastokens_is_not_made_for_goes_on_with_the_reference(
    change: str, tmp_path: Path
) -> None:
    folder = changed(write_folder(tmp_path / "own", GLM4), CHANGES[change])
    made = load(folder, text_bytes=ENOUGH)
    made.get_ready()
    assert (made.engine, made.notes) == ("tokenizers", [])
    with pytest.raises(UsageError, match="fastokens cannot take it: it"):
        load(folder, engine="fastokens")


def test_a_sentencepiece_model_is_refused_by_name_only(assets: Path) -> None:
    path = str(assets / "tokenizer/chatglm2-3-6b/tokenizer.model")
    with pytest.raises(UsageError, match="SentencePiece"):
        load(path, engine="fastokens")
    assert load(path, text_bytes=ENOUGH).engine == "sentencepiece"


def test_a_model_without_byte_pairs_is_unfit() -> None:
    level = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0}, "a"))
    with pytest.raises(Unfit, match="WordLevel"):
        plain(level.to_str().encode())


# Growing


def grown(quick: Callable[[], Encoder], **options: Any) -> Growing:
    right = Counting()
    return Growing(
        None, Counting, quick, lambda: right.encode(known.texts()), expected=0, **options
    )


class WrongOn(Counting):
    """An encoder that gives one wrong id, for one text."""

    name = "wrong"

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def encode(self, texts: Sequence[str]) -> Flat:
        ids, lengths = super().encode(texts)
        if self._text in texts:
            ids[-1] += 1
        return ids, lengths


@pytest.mark.parametrize("text", [known.texts()[-1], "the data"])
def test_a_library_that_is_wrong_on_one_text_is_not_used(text: str) -> None:
    encoder = grown(lambda: WrongOn(text), enough=5)
    assert encoder.encode(["the data"])[0].tolist() == [ord(one) for one in "the data"]
    assert encoder.name == "counting"
    assert encoder.notes == [
        "tokenizer engine: wrong gives other ids; counting encodes instead",
    ]


def test_a_library_that_fails_to_load_is_not_used() -> None:
    def fail() -> Encoder:
        raise RuntimeError("no such pattern\nat 1")

    encoder = grown(fail, enough=0)
    encoder.encode(["a"])
    assert encoder.notes == [
        "tokenizer engine: cannot be used (no such pattern); counting encodes instead",
    ]


def test_where_fastokens_is_not_installed_tokenizers_encodes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = builtins.__import__

    def missing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "fastokens":
            raise ImportError("No module named 'fastokens'")
        return real(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "fastokens", raising=False)
    monkeypatch.setattr(builtins, "__import__", missing)
    made = load(text_bytes=ENOUGH)
    assert made.encode("Hello 世界") == [9703, 111085]
    assert made.engine == "tokenizers"
    assert len(made.notes) == 1
    assert "fastokens" in made.notes[0]


def test_the_library_changes_with_the_characters_that_came(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(growing, "LITTLE", 100)
    small, reference, quick = Counting(), Counting(), Counting()
    answers = reference.encode(known.texts())
    encoder = Growing(
        lambda: small,
        lambda: reference,
        lambda: quick,
        lambda: answers,
        expected=0,
        enough=1000,
    )
    for times, used in [(9, small), (1, reference), (89, reference), (1, quick), (50, quick)]:
        for _ in range(times):
            encoder.encode(["0123456789"])
        assert used.given[-1] == "0123456789"
        used.given.clear()
    assert not encoder.notes


# Memo


@settings(deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 9), max_size=6), max_size=6),
    st.integers(0, 40_000),
)
def test_a_memo_changes_nothing_but_what_is_encoded(batches: list[list[int]], largest: int) -> None:
    texts = [chr(97 + number) * (LONG - 4 + number) for number in range(10)]
    inner, plain = Counting(), Counting()
    encoder = Memo(inner, largest)
    for batch in batches:
        chosen = [texts[number] for number in batch]
        ids, lengths = encoder.encode(chosen)
        expected = plain.encode(chosen)
        assert ids.tolist() == expected[0].tolist()
        assert lengths.tolist() == expected[1].tolist()
        kept = encoder._kept
        assert encoder._bytes == sum(memo._size(text, ids) for text, ids in kept.items())
        assert encoder._bytes <= largest


def test_a_memo_encodes_a_long_text_once_and_short_ones_each_time() -> None:
    inner = Counting()
    encoder = Memo(inner)
    long = "x" * LONG
    encoder.encode([long, "a", long])
    encoder.encode(["a", long])
    assert inner.given == [long, "a", "a"]
