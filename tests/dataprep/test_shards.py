"""Shards hold exactly the ids and masks that tokenization made, the same bytes every time."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest
from glmprep import bucket, gather, intake, shards
from glmprep.errors import InputError, UsageError
from glmprep.families import Family
from glmprep.labels import tokenize
from glmprep.records import Conversation, Message
from glmprep.source import Source
from glmprep.store import Folder
from glmprep.tokenizer import Tokenizer
from glmprep.tokenizing import Ready
from glmprep.verify import verify
from hypothesis import given, settings
from hypothesis import strategies as st

from .chats import chat, conversations, no_shrinking, segments_of, turn_targets, write

LAYOUTS = ("buckets", "packed")


def make(
    data: str,
    output: Path,
    family: Family,
    tokenizer: Tokenizer,
    layout: bucket.Layout = "packed",
    *,
    overwrite: bool = False,
    max_length: int = 1024,
) -> bucket.Result:
    config = bucket.Config(layout=layout, max_length=max_length)
    return bucket.bucket(
        Source(paths=[data]),
        Folder(output),
        tokenizing=Ready(tokenizer, family),
        config=config,
        overwrite=overwrite,
    )


@settings(no_shrinking, max_examples=25)
@given(
    bodies=st.lists(conversations(), min_size=1, max_size=8),
    layout=st.sampled_from(LAYOUTS),
    max_length=st.integers(100, 2000),
)
def test_written_and_read_back_ids_and_masks_are_those_of_tokenization(
    family: Family,
    tokenizer: Tokenizer,
    bodies: list[Conversation],
    layout: bucket.Layout,
    max_length: int,
) -> None:
    bodies = [*bodies, chat(("user", "hi"), ("assistant", "yo"))]
    chats = [replace(body, id=f"chat{place}") for place, body in enumerate(bodies)]
    with tempfile.TemporaryDirectory() as name:
        output = Path(name) / "shards"
        data = write(Path(name) / "a.jsonl", chats)
        result = make(data, output, family, tokenizer, layout, max_length=max_length)
        proof = verify(output)
        manifest, rows = shards.read(output)
    assert proof.findings == []
    found = segments_of(rows)
    tokens = tokenize(chats, family, tokenizer)
    fitting = 0
    for place, conversation in enumerate(chats):
        at = slice(tokens.offsets[place], tokens.offsets[place + 1])
        if tokens.lengths[place] > max_length:
            assert conversation.id not in found
            continue
        fitting += 1
        ids, mask = found[conversation.id]
        assert ids == tokens.ids[at].tolist()
        assert mask == tokens.mask[at].tolist()
    assert len(found) == fitting == result.ledger.written.rows
    assert (rows.lengths <= rows.bucket).all()
    assert sum(bucket["rows"] for bucket in manifest.buckets) == len(rows)
    assert result.ledger.read == len(chats)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_runs_and_batch_sizes_give_the_same_bytes(
    layout: bucket.Layout,
    family: Family,
    tokenizer: Tokenizer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gather, "TOKENS_PER_FILE", 20_000)
    make("sample:toolcalls", tmp_path / "one", family, tokenizer, layout, max_length=600)
    make("sample:toolcalls", tmp_path / "two", family, tokenizer, layout, max_length=600)
    monkeypatch.setattr(intake, "BATCH", 77)
    make("sample:toolcalls", tmp_path / "three", family, tokenizer, layout, max_length=600)
    files = [
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
        for name in ("one", "two", "three")
    ]
    assert len([name for name in files[0] if name.endswith(".parquet")]) > 5
    assert files[0] == files[1] == files[2]
    assert verify(tmp_path / "three").findings == []


def test_files_hold_the_columns_that_are_promised(
    family: Family, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    data = write(tmp_path / "a.jsonl", [chat(("user", "hi"), ("assistant", "yo"))])
    make(data, tmp_path / "shards", family, tokenizer)
    schema = pq.read_schema(tmp_path / "shards/shard-00000.parquet")
    columns = {field.name: str(field.type).replace("element", "item") for field in schema}
    assert columns == {
        "input_ids": "list<item: int32>",
        "loss_mask": "list<item: uint8>",
        "position_ids": "list<item: int32>",
        "segment_ids": "list<item: int32>",
        "bucket": "int32",
        "conversation_ids": "list<item: string>",
    }
    manifest = orjson.loads((tmp_path / "shards/manifest.json").read_bytes())
    assert str(tmp_path) not in (tmp_path / "shards/manifest.json").read_text()
    assert manifest["stop_ids"] == [151336, 151337, 151338]
    assert manifest["pad_id"] == 151329
    assert manifest["tokenizer"] == {"name": "glm4", "sha256": tokenizer.fingerprint}


def test_what_is_not_written_is_listed_and_counted(
    family: Family, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    untrained = Message(role="assistant", content="yo", untrained="weight")
    chats = [
        chat(("user", "hi"), ("assistant", "yo")),
        chat(("user", "hi"), untrained),
        chat(("user", "hi"), ("assistant", "word " * 200)),
    ]
    data = write(tmp_path / "a.jsonl", chats)
    result = make(data, tmp_path / "shards", family, tokenizer, max_length=100)
    ledger = result.ledger
    assert ledger.differences() == []
    assert (ledger.read, ledger.rejected, ledger.written.rows) == (3, {"DF104": 1}, 1)
    assert ledger.set_aside["DL001"].rows == 1
    assert ledger.set_aside["DL001"].supervised == len(turn_targets(chats[2], family, tokenizer)[1])
    listed = [
        orjson.loads(line) for line in (tmp_path / "shards/rejects.jsonl").read_bytes().splitlines()
    ]
    assert [(line["where"], line["rule"]) for line in listed] == [
        (f"{data}:2", "DF104"),
        (f"{data}:3", "DL001"),
    ]
    assert result.reject_share == pytest.approx(2 / 3)


def test_an_output_folder_is_never_overwritten_unasked(
    family: Family, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    data = write(tmp_path / "a.jsonl", [chat(("user", "hi"), ("assistant", "yo"))])
    output = tmp_path / "shards"
    make(data, output, family, tokenizer)
    before = (output / "manifest.json").read_bytes()
    with pytest.raises(UsageError, match="holds shards already; pass --overwrite"):
        make(data, output, family, tokenizer)
    with pytest.raises(InputError, match="no such file"):  # not even when the input is mistyped
        make(f"{data}x", output, family, tokenizer, overwrite=True)
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"text": "no chat"}\n')
    with pytest.raises(InputError, match="no row can be trained on"):  # nor when it is no chat
        make(str(bad), output, family, tokenizer, overwrite=True)
    assert (output / "manifest.json").read_bytes() == before
    assert not verify(output).findings
    make(data, output, family, tokenizer, overwrite=True)
    (output / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"holds notes\.txt"):
        make(data, output, family, tokenizer, overwrite=True)
    with pytest.raises(UsageError, match="is a file"):
        make(data, output / "notes.txt", family, tokenizer)


def test_a_run_that_found_nothing_can_be_tried_again(
    family: Family, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "no chat"}\n')
    with pytest.raises(InputError, match="no row can be trained on"):
        make(str(tmp_path / "a.jsonl"), tmp_path / "shards", family, tokenizer)
    assert [path.name for path in (tmp_path / "shards").iterdir()] == ["rejects.jsonl"]
    data = write(tmp_path / "a.jsonl", [chat(("user", "hi"), ("assistant", "yo"))])
    make(data, tmp_path / "shards", family, tokenizer)


def test_contradicting_options_are_refused(
    family: Family, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="--tokens-per-batch 10 is less than --max-length"):
        bucket.Config(max_length=100, tokens_per_batch=10)
    with pytest.raises(UsageError, match="--buckets 0"):
        bucket.Config(buckets=0)
    for limit, message in ((3, "10 is the least"), (2**31, "2147483647 is the most")):
        with pytest.raises(UsageError, match=message):
            make("sample:meetings", tmp_path / "s", family, tokenizer, max_length=limit)
    assert not (tmp_path / "s").exists()


def test_rows_refuse_columns_that_do_not_fit_together() -> None:
    column = np.zeros(3, np.int32)
    sound = shards.Rows(
        input_ids=column,
        loss_mask=column.astype(np.uint8),
        position_ids=column,
        segment_ids=column,
        offsets=np.array([0, 3]),
        bucket=np.array([3], np.int32),
        conversation_ids=[["a"]],
    )
    with pytest.raises(ValueError, match="token columns differ"):
        replace(sound, input_ids=column[:2])
    with pytest.raises(ValueError, match="row columns differ"):
        replace(sound, conversation_ids=[])
    with pytest.raises(ValueError, match="a row without tokens"):
        replace(
            sound,
            offsets=np.array([0, 0, 3]),
            bucket=np.array([3, 3], np.int32),
            conversation_ids=[["a"], ["b"]],
        )
