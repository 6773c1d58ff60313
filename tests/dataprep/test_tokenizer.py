"""Tokenizers from all kinds of files: tokenizer.json, byte-pair ranks, SentencePiece."""

from __future__ import annotations

import base64
import json
import shutil
from itertools import islice
from pathlib import Path

import pytest
from glmprep.errors import InputError
from glmprep.parse import parse
from glmprep.ranks import from_ranks
from glmprep.read import read
from glmprep.records import Conversation
from glmprep.tokenizer import Tokenizer, describe, load

from .chats import FRAGMENTS
from .vocabularies import GLM4, write_folder


def lines(ranks: list[bytes]) -> bytes:
    return b"".join(base64.b64encode(t) + b" %d\n" % rank for rank, t in enumerate(ranks))


BYTES = [bytes([byte]) for byte in range(256)]


def config(**fields: object) -> str:
    return json.dumps({"tokenizer_class": "ChatGLM4Tokenizer", **fields})


@pytest.fixture(scope="module")
def ranks(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """GLM-4's folder as it is published: tokenizer.model and no tokenizer.json."""
    folder = tmp_path_factory.mktemp("glm-4-9b-chat")
    for name in ("tokenizer.model", "tokenizer_config.json"):
        shutil.copy(assets / "tokenizer/glm-4-9b-chat" / name, folder)
    return load(str(folder))


def test_glm4s_ranks_are_the_vocabulary_and_merges_of_its_tokenizer_json(
    assets: Path, tokenizer_json: bytes
) -> None:
    data = (assets / "tokenizer/glm-4-9b-chat/tokenizer.model").read_bytes()
    ours = json.loads(from_ranks(data).to_str())["model"]
    theirs = json.loads(tokenizer_json)["model"]
    assert ours["vocab"] == theirs["vocab"]
    assert [" ".join(merge) for merge in ours["merges"]] == theirs["merges"]
    assert ours["ignore_merges"] == theirs["ignore_merges"]


def test_glm4s_ranks_encode_real_text_as_its_tokenizer_json_does(
    ranks: Tokenizer, tokenizer: Tokenizer
) -> None:
    assert ranks.added == tokenizer.added
    assert ranks.vocab_size == tokenizer.vocab_size
    texts = list(FRAGMENTS)
    for sample in ("sample:counselling", "sample:toolcalls", "sample:meetings"):
        parsed = (c for c in parse(read([sample])) if isinstance(c, Conversation))
        texts += [m.content for c in islice(parsed, 60) for m in c.messages]
    ours, theirs = ranks.encode_batch(texts), tokenizer.encode_batch(texts)
    assert ours[0].tolist() == theirs[0].tolist()
    assert ours[1].tolist() == theirs[1].tolist()
    assert ranks.decode(ours[0]) == "".join(texts)


def test_ranks_are_told_apart_by_their_added_tokens(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(lines(BYTES))
    prints = []
    for names in (["<|user|>"], ["<|assistant|>"]):
        text = config(additional_special_tokens=names)
        (tmp_path / "tokenizer_config.json").write_text(text)
        made = load(str(tmp_path))
        assert made.added == {names[0]: 256}
        prints.append(describe(made)["sha256"])
    assert prints[0] != prints[1]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"IQ== 0\nnonsense\n", "line 2"),
        (b"IQ== 0\nI=Q= 1\n", "line 2"),
        (b"IQ== 0\n", "missing or doubled"),
        (lines(BYTES).replace(b" 7\n", b" 8\n"), "missing or doubled"),
        (b"", "neither"),
        (b"\x00\x01\x02", "neither"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "Git LFS"),
    ],
)
def test_a_damaged_tokenizer_model_is_said_in_one_line(
    data: bytes, reason: str, tmp_path: Path
) -> None:
    pytest.importorskip("sentencepiece", reason="needs the extra 'chatglm3'")
    (tmp_path / "tokenizer.model").write_bytes(data)
    with pytest.raises(InputError, match=reason) as raised:
        load(str(tmp_path))
    assert "\n" not in str(raised.value)


def test_a_sentencepiece_model_that_is_cut_off_is_refused(assets: Path, tmp_path: Path) -> None:
    pytest.importorskip("sentencepiece", reason="needs the extra 'chatglm3'")
    data = (assets / "tokenizer/chatglm2-3-6b/tokenizer.model").read_bytes()
    (tmp_path / "tokenizer.model").write_bytes(data[:50_000])
    with pytest.raises(InputError, match="cut off"):
        load(str(tmp_path))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "not readable as JSON"),
        ("[]", "no JSON object"),
        (config(), "names no added tokens"),
        (config(tokenizer_class="QWenTokenizer"), "of a QWenTokenizer"),
        (config(added_tokens_decoder={"x": 1}), "malformed"),
        (config(added_tokens_decoder={"900": {"content": "<|user|>"}}), "do not follow"),
    ],
)
def test_a_config_that_does_not_go_with_the_ranks_is_said_in_one_line(
    text: str, reason: str, tmp_path: Path
) -> None:
    (tmp_path / "tokenizer.model").write_bytes(lines(BYTES))
    (tmp_path / "tokenizer_config.json").write_text(text)
    with pytest.raises(InputError, match=reason):
        load(str(tmp_path))


def test_a_tokenizer_json_comes_before_a_tokenizer_model(tmp_path: Path) -> None:
    path = write_folder(tmp_path, GLM4)
    (tmp_path / "tokenizer.model").write_bytes(b"damaged")
    assert load(path).fingerprint == load(f"{path}/tokenizer.json").fingerprint
    with pytest.raises(InputError):
        load(f"{path}/tokenizer.model")


def test_a_folder_without_a_tokenizer_says_what_it_should_hold(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"tokenizer\.json or tokenizer\.model"):
        load(str(tmp_path))


def test_names_of_added_tokens_are_tokens_only_in_marked_text(tokenizer: Tokenizer) -> None:
    text = "<|user|>\nhi"
    assert tokenizer.encode_marked(text) == [151336, *tokenizer.encode("\nhi")]
    assert 151336 not in tokenizer.encode(text)
