"""`--add-token`: a text is a token wherever it stands in content; all else is as without it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from glmprep import added, shards
from glmprep.cli import glmprep
from glmprep.errors import InputError, UsageError
from glmprep.labels import tokenize
from glmprep.tokenizer import Tokenizer, load
from glmprep.tokenizing import Named
from hypothesis import given, settings
from hypothesis import strategies as st

from .chats import chat, texts
from .test_cut import assert_cut
from .vocabularies import GLM45, write_folder

SQL, BREATH, NAME = "<sql>", "[呼吸]", "Dr Müller"
NEW = (SQL, BREATH, NAME)
FIRST = 151_343
SAID = [
    {"role": "user", "content": f"Please {SQL} for{BREATH} me, {NAME}."},
    {"role": "assistant", "content": f"{SQL}select 1{SQL}\nDone {BREATH}{BREATH}!"},
]


@pytest.fixture(scope="module")
def extended(tokenizer: Tokenizer) -> Tokenizer:
    return added.extended(tokenizer, [f"{SQL}=a query of the database", BREATH, NAME])


def called(*words: object) -> int:
    with pytest.raises(SystemExit) as end:
        glmprep.main([*map(str, words)], standalone_mode=False)
    code = end.value.code
    assert isinstance(code, int)
    return code


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "data.jsonl"
    rows = [{"messages": SAID}, {"messages": [{**said, "content": "Hi!"} for said in SAID]}]
    path.write_text("\n".join(map(json.dumps, rows * 4)) + "\n")
    return path


def bucketed(data: Path, target: Path, *more: object) -> shards.Manifest:
    new = [f"--add-token={SQL}=a query of the database", f"--add-token={BREATH}"]
    assert called("bucket", data, "-o", target, "--quiet", *new, *more) == 0
    return shards.read_manifest(target)


def reference(text: str, tokenizer: Tokenizer) -> list[int]:
    """The parts of a text encoded one by one."""
    ids: list[int] = []
    for part in re.split(f"({'|'.join(map(re.escape, NEW))})", text):
        ids += [FIRST + NEW.index(part)] if part in NEW else tokenizer.encode(part)
    return ids


@settings(max_examples=150, deadline=None)
@given(many=st.lists(texts(12, NEW * 4), max_size=6))
def test_texts_come_back_and_all_but_the_added_ones_is_encoded_as_before(
    tokenizer: Tokenizer, extended: Tokenizer, many: list[str]
) -> None:
    ids, lengths = extended.encode_batch(many)
    assert lengths.tolist() == [len(extended.encode(text)) for text in many]
    for text, found in zip(many, np.split(ids, np.cumsum(lengths))[:-1], strict=True):
        assert found.tolist() == reference(text, tokenizer)
        assert extended.decode(found.tolist()) == text
        assert extended.plain.encode(text) == tokenizer.encode(text)
        with_offsets, places = extended.encode_with_offsets(text)
        assert with_offsets == found.tolist()
        for token, (begin, end) in zip(with_offsets, places, strict=True):
            assert token < FIRST or text[begin:end] == NEW[token - FIRST]


@settings(max_examples=100, deadline=None)
@given(text=texts(60, NEW * 8), first=st.integers(4, 60), rest=st.integers(1, 60))
def test_pieces_of_a_text_that_is_cut_have_the_ids_of_the_whole(
    extended: Tokenizer, text: str, first: int, rest: int
) -> None:
    assert_cut(text, first, rest, extended)


def test_a_text_of_added_tokens_is_cut_between_them(extended: Tokenizer) -> None:
    assert assert_cut(f"{NAME}{SQL}" * 100, 16, 16, extended)


def test_what_is_there_at_once_gives_the_ids_of_the_reference() -> None:
    extended = added.extended(load(), NEW)
    other = added.extended(load(engine="tokenizers"), NEW)
    assert (other.engine, extended.engine) == ("tokenizers", "ranks")
    text = "".join(f" {said['content']}\n<|user|>" for said in SAID)
    assert other.encode(text) == extended.encode(text)


def test_the_names_of_control_tokens_stay_text_in_content_and_tokens_in_templates(
    tokenizer: Tokenizer, extended: Tokenizer
) -> None:
    text = f"<|user|>{SQL}"
    assert extended.encode(text) == [*tokenizer.encode("<|user|>"), FIRST]
    assert extended.encode_marked(text) == [tokenizer.added_id("<|user|>"), FIRST]


def test_an_added_token_is_no_control_token(tokenizer: Tokenizer, extended: Tokenizer) -> None:
    assert extended.added_id(SQL) == FIRST
    assert extended.vocab_size == FIRST + 3
    assert not extended.is_added(FIRST)
    assert extended.added == tokenizer.added


def test_ids_follow_those_of_any_vocabulary(tmp_path: Path) -> None:
    known = load(str(write_folder(tmp_path, added=GLM45)))
    assert added.extended(known, [SQL]).new == {SQL: known.vocab_size}


def test_the_fingerprint_tells_the_texts_and_their_order_but_not_what_they_mean(
    tokenizer: Tokenizer,
) -> None:
    asked = ((), (SQL,), (BREATH,), (SQL, BREATH), (BREATH, SQL))
    prints = [added.extended(tokenizer, each).fingerprint for each in asked]
    assert len(set(prints)) == len(prints)
    assert added.extended(tokenizer, [f"{SQL}=a query"]).fingerprint == prints[1]


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (["<a>", "<a>=again"], "'<a>' is given twice"),
        ([""], "'' is blank"),
        (["=a meaning"], "'' is blank"),
        ([" \u3000"], "is blank"),
        (["<a> "], "begins or ends with a blank"),
        (["<a\nb>"], "line break"),
        (["<a\x1b[31m>"], "control character"),
        (["hello"], "'hello' is a token already"),
        (["<|user|>"], "is a token already"),
        (["<a><|user|>"], "control token <|user|>: one contains the other"),
        (["user|>"], "control token <|user|>: one contains the other"),
        (["<a>", "x<a>"], "'x<a>' contains '<a>'"),
        ([f"<{n}>" for n in range(1001)], "1001 tokens; at most 1000"),
    ],
)
def test_a_text_that_cannot_be_a_token_is_refused(
    tokenizer: Tokenizer, asked: list[str], reason: str
) -> None:
    with pytest.raises(UsageError, match=rf"^--add-token.*{re.escape(reason)}"):
        added.extended(tokenizer, asked)


def test_a_thousand_tokens_can_be_added(tokenizer: Tokenizer) -> None:
    many = added.extended(tokenizer, [f"<{n}>" for n in range(1000)])
    assert many.encode("<999><0>") == [FIRST + 999, FIRST]


def test_shards_tell_of_the_tokens_are_proven_and_shown(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = bucketed(data, tmp_path / "shards")
    assert manifest.added_tokens == [SQL, BREATH]
    assert manifest.added_descriptions == {SQL: "a query of the database"}
    assert manifest.added_ids == {SQL: FIRST, BREATH: FIRST + 1}
    assert manifest.vocab_size == FIRST + 2
    _, rows = shards.read(tmp_path / "shards")
    assert int((rows.input_ids == FIRST).sum()) == 3 * 4
    assert int(rows.loss_mask[rows.input_ids == FIRST].sum()) == 2 * 4
    assert called("verify", tmp_path / "shards", data, "--fail-on", "warning") == 0
    capsys.readouterr()
    assert called("show", tmp_path / "shards", "--row", 0, "--row", 1, "--json", "-") == 0
    shown = orjson.loads(capsys.readouterr().out)["rows"]
    spans = [(span["kind"], span["text"]) for row in shown for span in row["spans"]]
    assert ("trained", "\n" + SAID[1]["content"]) in spans


def test_shards_of_other_tokens_are_not_taken_for_the_same(data: Path, tmp_path: Path) -> None:
    first = bucketed(data, tmp_path / "a")
    other = bucketed(data, tmp_path / "b", "--add-token", NAME)
    assert first.tokenizer["sha256"] != other.tokenizer["sha256"]
    manifest = tmp_path / "a" / "manifest.json"
    changed = orjson.loads(manifest.read_bytes()) | {"added_tokens": [SQL]}
    manifest.write_bytes(orjson.dumps(changed))
    with pytest.raises(UsageError, match="made with the tokenizer"):
        shards.made_with(shards.read_manifest(tmp_path / "a"), None)


@pytest.mark.parametrize("damage", [{"added_tokens": [""]}, {"added_tokens": [7]}])
def test_a_manifest_with_malformed_tokens_is_refused(
    data: Path, tmp_path: Path, damage: dict[str, Any]
) -> None:
    bucketed(data, tmp_path / "a")
    path = tmp_path / "a" / "manifest.json"
    path.write_bytes(orjson.dumps(orjson.loads(path.read_bytes()) | damage))
    with pytest.raises(InputError, match="not a shard manifest"):
        shards.read_manifest(tmp_path / "a")


def test_a_manifest_from_before_descriptions_is_read(data: Path, tmp_path: Path) -> None:
    bucketed(data, tmp_path / "a")
    path = tmp_path / "a" / "manifest.json"
    known = orjson.loads(path.read_bytes())
    del known["added_descriptions"]
    path.write_bytes(orjson.dumps(known))
    assert shards.read_manifest(tmp_path / "a").added == {SQL: "", BREATH: ""}


def test_engines_and_workers_write_the_same_bytes(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("fastokens")
    ways = (
        ["--tokenizer-engine", "tokenizers", "--workers", 1],
        ["--tokenizer-engine", "fastokens", "--workers", 1],
        ["--workers", 2],
    )
    made = []
    for place, way in enumerate(ways):
        bucketed(data, tmp_path / str(place), *way)
        made.append({p.name: p.read_bytes() for p in (tmp_path / str(place)).iterdir()})
    assert made[0] == made[1] == made[2]


def test_a_recipe_gives_the_bytes_of_its_commands(data: Path, tmp_path: Path) -> None:
    long = [*SAID, {**SAID[0], "content": f"More {SQL}"}, {**SAID[1], "content": SQL * 200}]
    (tmp_path / "long.jsonl").write_text(json.dumps({"messages": long}) + "\n")
    listed = json.dumps([f"{SQL}=a query of the database", BREATH])
    (tmp_path / "recipe.toml").write_text(
        f'[data]\npaths = ["long.jsonl"]\n[tokenizer]\nadd_tokens = {listed}\n'
        "[segment]\n[shards]\nmax_length = 64\n"
    )
    assert called("build", tmp_path / "recipe.toml", "--quiet") == 0
    segments = tmp_path / "build" / "segments.jsonl"
    by_hand = tmp_path / "segments.jsonl"
    limit = ("--max-length", 64, "--quiet")
    new = (f"--add-token={SQL}", f"--add-token={BREATH}")
    assert called("segment", tmp_path / "long.jsonl", "-o", by_hand, *limit, *new) == 0
    assert segments.read_bytes() == by_hand.read_bytes()
    bucketed(by_hand, tmp_path / "by_hand", "--max-length", 64)
    for path in (tmp_path / "by_hand").glob("*.parquet"):
        assert path.read_bytes() == (tmp_path / "build" / "shards" / path.name).read_bytes()
    _, rows = shards.read(tmp_path / "build" / "shards")
    trained = rows.input_ids[rows.loss_mask == 1]
    assert int((trained == FIRST).sum()) == 202


def test_settings_survive_the_way_to_workers() -> None:
    named = Named(tokenizer="glm4", add=(f"{SQL}=a query", BREATH))
    assert Named.from_json(orjson.loads(orjson.dumps(named.as_json()))) == named


def test_a_token_is_trained_in_an_answer_and_context_in_a_question(tokenizer: Tokenizer) -> None:
    vocabulary, family = Named(tokenizer="glm4", add=(SQL,)).load()
    batch = tokenize([chat(("user", f"a {SQL}"), ("assistant", f"{SQL}."))], family, vocabulary)
    user, assistant = map(tokenizer.added_id, ("<|user|>", "<|assistant|>"))
    asked = [*family.prefix, user, *tokenizer.encode("\na "), FIRST, assistant]
    said = [*tokenizer.encode("\n"), FIRST, *tokenizer.encode("."), user]
    assert batch.ids.tolist() == asked + said
    assert batch.mask.tolist() == [0] * len(asked) + [1] * len(said)
