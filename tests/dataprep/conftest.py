"""Fixtures of all tests of glmprep: the embedded tokenizer, its template, and real data."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import tokenizers
from glmprep import families
from glmprep.encoders import embedded
from glmprep.families import Family
from glmprep.tokenizer import Tokenizer, load

from .references import REST, THINKS, vocabulary

REPOSITORY = Path(__file__).parents[2]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-goldens", action="store_true", help="Rewrite tests/golden/*.tokens.")


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return load()


@pytest.fixture(scope="session")
def family(tokenizer: Tokenizer) -> Family:
    return families.load("auto", tokenizer)


@pytest.fixture(scope="session")
def tokenizer_json() -> bytes:
    """The embedded tokenizer.json."""
    return embedded.whole()


@pytest.fixture(scope="session")
def tagged(tokenizer_json: bytes, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """The GLM-4 vocabulary with the tags of GLM-4.5 and later as added tokens."""
    path = tmp_path_factory.mktemp("tagged") / "tokenizer.json"
    path.write_bytes(vocabulary(tokenizer_json, (*THINKS, *REST)))
    return load(str(path))


@pytest.fixture(scope="session")
def plain(tokenizer_json: bytes) -> tokenizers.Tokenizer:
    """The vocabulary alone: every text is encoded as text."""
    config = json.loads(tokenizer_json)
    config["added_tokens"] = []
    return tokenizers.Tokenizer.from_str(json.dumps(config))


@pytest.fixture(scope="session")
def assets() -> Path:
    """Real data that is too large for the repository."""
    folder = Path(os.environ.get("GLM_ASSETS", REPOSITORY.parent / "shared" / "assets"))
    if not folder.is_dir():
        pytest.skip(f"no real data in {folder}; set GLM_ASSETS")
    return folder
