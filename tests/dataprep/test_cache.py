"""Vectors that are kept on disk: the same as without, whatever interrupts or damages them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from glmprep.errors import InputError
from glmprep.semantics import cache
from glmprep.semantics.cache import CHUNK, FILE, Cached
from glmprep.semantics.embedder import Embedder, Float32
from hypothesis import given, settings
from hypothesis import strategies as st


class Letters(Embedder):
    """Counts of a to z; remembers what it was asked, and can be interrupted."""

    name = "letters"
    dims = 26

    def __init__(self, patience: int = 10**9) -> None:
        self.asked: list[str] = []
        self._patience = patience

    def embed(self, texts: Sequence[str]) -> Float32:
        self.asked += texts
        if len(self.asked) > self._patience:
            raise KeyboardInterrupt
        return np.array([[t.count(chr(97 + i)) for i in range(26)] for t in texts], np.float32)


@given(st.lists(st.text(max_size=4), max_size=30), st.lists(st.text(max_size=4), max_size=30))
@settings(max_examples=20)
def test_vectors_are_the_same_with_a_cold_a_warm_and_no_cache(
    tmp_path_factory: pytest.TempPathFactory, first: list[str], second: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("cache")
    for texts in (first, second, first + second):
        plain = Letters().embed(texts).reshape(-1, 26)
        assert np.array_equal(Cached(Letters(), folder).embed(texts), plain)
    again = Letters()
    Cached(again, folder).embed(second + first)
    assert again.asked == []


def test_each_text_is_encoded_once_and_progress_is_told(tmp_path: Path) -> None:
    letters, told = Letters(), list[tuple[int, int]]()
    texts = [f"text {i % 100}" for i in range(300)]
    Cached(letters, tmp_path, lambda done, total: told.append((done, total))).embed(texts)
    assert sorted(letters.asked) == sorted(set(texts))
    assert told == [(CHUNK, 100), (100, 100)]


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    texts = [f"text {i}" for i in range(3 * CHUNK)]
    with pytest.raises(KeyboardInterrupt):
        Cached(Letters(patience=2 * CHUNK), tmp_path).embed(texts)
    letters = Letters()
    Cached(letters, tmp_path).embed(texts)
    assert letters.asked == texts[2 * CHUNK :]


def test_encoders_do_not_get_each_others_vectors(tmp_path: Path) -> None:
    Cached(Letters(), tmp_path).embed(["abc"])
    other = Letters()
    other.name = "other"
    Cached(other, tmp_path).embed(["abc"])
    assert other.asked == ["abc"]


def test_two_processes_may_share_a_cache(tmp_path: Path) -> None:
    script = (
        "import sys, numpy as np\n"
        "from pathlib import Path\n"
        "from glmprep.semantics.cache import Cached\n"
        "from glmprep.semantics.lexical import Lexical\n"
        "texts = [f'word{i} and more' for i in range(2000)]\n"
        "got = Cached(Lexical(), Path(sys.argv[1])).embed(texts)\n"
        "assert np.array_equal(got, Lexical().embed(texts))\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(2)]
    for process in running:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors.decode()


def test_a_cache_that_is_damaged_or_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"no database, but longer than a header" * 100)
    with pytest.raises(InputError, match=rf"{FILE}: .*delete the file"):
        Cached(Letters(), tmp_path)
    with pytest.raises(InputError, match="cannot be used"):
        Cached(Letters(), tmp_path / FILE)
    (tmp_path / FILE).unlink()
    Cached(Letters(), tmp_path).embed(["abc"])
    larger = Letters()
    larger.dims = 27
    with pytest.raises(InputError, match="wrong length"):
        Cached(larger, tmp_path).embed(["abc"])


def test_the_cache_is_where_the_user_keeps_such_things(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.cache_folder() == tmp_path / "glm-finetune-suite"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.cache_folder() == tmp_path / ".cache/glm-finetune-suite"
