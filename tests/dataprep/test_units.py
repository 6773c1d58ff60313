"""Units: what is kept of a block is what was made, and what is not whole is made again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from glmprep import blocks, bucket, read, units
from glmprep.families import Family
from glmprep.gather import ShardFile
from glmprep.labels import tokenize
from glmprep.shards import read as read_shards
from glmprep.source import Source
from glmprep.store import Folder
from glmprep.tokenizer import Tokenizer
from glmprep.tokenizing import Ready
from glmprep.units import Tokenize, Unit, record, stamp

SAMPLE = "sample:toolcalls"


@pytest.fixture
def work(family: Family, tokenizer: Tokenizer, tmp_path: Path) -> Tokenize:
    ready = Ready(tokenizer, family)
    source = Source(paths=[SAMPLE])
    store = Folder(tmp_path / "units")
    return Tokenize(source=source, tokenizing=ready, store=store, stamp=stamp(source, ready))


@pytest.fixture
def block() -> blocks.Block:
    (found,) = blocks.blocks(read.files([SAMPLE]))
    return found


def test_records_hold_ids_mask_and_name_of_each_conversation(
    work: Tokenize, block: blocks.Block, family: Family, tokenizer: Tokenizer
) -> None:
    unit = work(block)
    starts = np.cumsum(unit.records) - unit.records
    lengths = unit.numbers["tokens"]
    parts = work.store.ranges(f"{unit.name}.tokens", starts.tolist(), unit.records.tolist())
    from glmprep.intake import Intake

    intake = Intake(work.source, family=family, special_tokens=list(tokenizer.added))
    rows = [row for batch in intake.batches() for row in batch.rows]
    tokens = tokenize(rows, family, tokenizer)
    for place, part in enumerate(parts):
        found = record(part, int(lengths[place]))
        begin, end = tokens.offsets[place], tokens.offsets[place + 1]
        assert np.array_equal(np.frombuffer(found.ids, np.int32), tokens.ids[begin:end])
        assert np.array_equal(np.frombuffer(found.mask, np.uint8), tokens.mask[begin:end])
        assert found.conversation == rows[place].id
    assert len(parts) == len(rows)
    with pytest.raises(ValueError, match="changed or cut off"):
        record(parts[0][:-200], int(lengths[0]))


def test_a_unit_that_is_there_is_not_made_again(work: Tokenize, block: blocks.Block) -> None:
    made, found = work(block), work(block)
    assert (made.kept, found.kept) == (False, True)
    assert _plain(made) == _plain(found)


@pytest.mark.parametrize(
    ("kind", "damage"),
    [("tokens", "cut"), ("tokens", "gone"), ("rows", "cut"), ("rows", "gone"), ("rows", "changed")],
)
def test_a_unit_that_is_damaged_is_made_again(
    work: Tokenize, block: blocks.Block, kind: str, damage: str
) -> None:
    made = work(block)
    path = work.store.path / f"{made.name}.{kind}"  # type: ignore[attr-defined]
    data = path.read_bytes()
    if damage == "gone":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(data[: len(data) // 2])
    else:
        path.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    again = work(block)
    assert not again.kept
    assert _plain(again) == _plain(made)
    assert path.read_bytes() == data


def test_settings_and_versions_that_make_other_tokens_have_units_of_their_own(
    family: Family, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = Ready(tokenizer, family)
    sources = [Source(paths=()), Source(paths=(), repair=True), Source(paths=(), train_on="last")]
    stamps = [stamp(source, ready) for source in sources]
    assert len(set(stamps)) == 3
    assert stamp(Source(paths=["elsewhere"]), ready) == stamps[0]
    monkeypatch.setattr(units, "__version__", "0.0.0")
    assert stamp(sources[0], ready) != stamps[0]


def test_shards_of_many_small_blocks_are_those_of_one(
    family: Family, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made(name: str) -> Path:
        bucket.bucket(
            Source(paths=[SAMPLE, "sample:counselling"], repair=True),
            Folder(tmp_path / name),
            tokenizing=Ready(tokenizer, family),
            config=bucket.Config(layout="packed", max_length=700),
        )
        return tmp_path / name

    one = made("one")
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 20_000)
    many = made("many")
    assert {path.name for path in one.iterdir()} == {path.name for path in many.iterdir()}
    for path in one.iterdir():
        assert path.read_bytes() == (many / path.name).read_bytes(), path.name
    assert len(read_shards(one)[1]) > 10


def test_a_record_that_was_changed_is_noticed_before_it_is_written(
    work: Tokenize, block: blocks.Block, tmp_path: Path
) -> None:
    from glmprep.errors import InputError
    from glmprep.gather import Gather

    unit = work(block)
    path = work.store.path / f"{unit.name}.tokens"  # type: ignore[attr-defined]
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(bytes(data))
    one = np.array([0])
    file = ShardFile(
        name="shard-00000.parquet",
        sizes=np.array([1]),
        bucket=np.array([64], np.int32),
        units=[unit.name],
        unit=one,
        lengths=unit.numbers["tokens"][:1],
        records=unit.records[:1],
        starts=one,
    )
    with pytest.raises(InputError, match="was changed on disk"):
        Gather(work.store, Folder(tmp_path / "out"))(file)


def _plain(unit: Unit) -> tuple[Any, ...]:
    columns = {name: column.tolist() for name, column in unit.numbers.items()}
    return unit.name, columns, unit.records.tolist(), unit.seen, unit.sound
