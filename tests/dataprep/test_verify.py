"""Whatever is changed in a shard folder after it was written is seen."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from glmprep import bucket, shards
from glmprep.errors import IncompleteShards, InputError
from glmprep.families import Family
from glmprep.files import sha256
from glmprep.show import show
from glmprep.source import Source
from glmprep.tokenizer import Tokenizer
from glmprep.verify import verify

SHARD = "shard-00001.parquet"
Table = dict[str, list[Any]]


@pytest.fixture(scope="module")
def written(family: Family, tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written") / "shards"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bucket, "TOKENS_PER_FILE", 60_000)
        bucket.bucket(
            Source(paths=["sample:toolcalls"]),
            folder,
            family=family,
            tokenizer=tokenizer,
            config=bucket.Config(layout="packed", max_length=2048),
        )
    return folder


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "shards"))


def rules(folder: Path) -> set[str]:
    return {finding.rule for finding in verify(folder).findings}


def edit_manifest(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "manifest.json"
    data = orjson.loads(path.read_bytes())
    edit(data)
    path.write_bytes(orjson.dumps(data))


def edit_rows(folder: Path, edit: Callable[[Table], object], *, forge: bool) -> None:
    """Rewrite a shard as sound Parquet; `forge` makes the manifest's checksum agree with it."""
    path = folder / SHARD
    columns = pq.read_table(path).to_pydict()
    edit(columns)
    known = {name: columns[name] for name in shards.SCHEMA.names if name in columns}
    schema = pa.schema([field for field in shards.SCHEMA if field.name in known])
    pq.write_table(pa.table(known, schema=schema), path)
    if forge:
        edit_manifest(folder, lambda data: data["files"][1].update(sha256=sha256(path)))


def test_a_folder_as_it_was_written_is_verified(folder: Path) -> None:
    result = verify(folder)
    assert result.findings == []
    assert result.as_json()["verified"] is True
    manifest, rows = shards.read(folder)
    assert result.rows == len(rows) == sum(entry["rows"] for entry in manifest.files)
    assert result.tokens == len(rows.input_ids)
    assert result.supervised == int(rows.loss_mask.sum())


def test_every_changed_byte_is_seen(folder: Path) -> None:
    path = folder / SHARD
    data = bytearray(path.read_bytes())
    for place in (0, len(data) // 3, len(data) // 2, len(data) - 1):
        changed = data.copy()
        changed[place] ^= 1
        path.write_bytes(changed)
        assert "DV001" in rules(folder)


def test_a_missing_file_is_seen(folder: Path) -> None:
    (folder / SHARD).unlink()
    assert rules(folder) == {"DV001"}


def flip(columns: Table) -> None:
    place = columns["loss_mask"][0].index(1)
    columns["loss_mask"][0][place] = 0


def train_first(columns: Table) -> None:
    columns["loss_mask"][0][0] = 1


def train_padding(columns: Table) -> None:
    place = columns["loss_mask"][0].index(1)
    columns["input_ids"][0][place] = 151329


def train_nothing(columns: Table) -> None:
    columns["loss_mask"][0] = [0] * len(columns["loss_mask"][0])


def mask_of_two(columns: Table) -> None:
    place = columns["loss_mask"][0].index(1)
    columns["loss_mask"][0][place] = 2


def run_positions_on(columns: Table) -> None:
    columns["position_ids"][0] = list(range(len(columns["position_ids"][0])))


def swap_segments(columns: Table) -> None:
    columns["segment_ids"][0] = columns["segment_ids"][0][::-1]


def narrow_bucket(columns: Table) -> None:
    columns["bucket"][0] = 5


def lose_an_id(columns: Table) -> None:
    columns["conversation_ids"][0] = columns["conversation_ids"][0][1:]


def lose_a_row(columns: Table) -> None:
    for values in columns.values():
        values.pop()


@pytest.mark.parametrize(
    ("edit", "rule"),
    [
        (flip, "DV002"),
        (lose_a_row, "DV002"),
        (lose_an_id, "DV002"),
        (lose_an_id, "DV003"),
        (run_positions_on, "DV003"),
        (swap_segments, "DV003"),
        (narrow_bucket, "DV003"),
        (train_first, "DV004"),
        (train_padding, "DV004"),
        (train_nothing, "DV004"),
        (mask_of_two, "DV004"),
    ],
)
def test_changed_rows_are_seen_even_with_a_forged_checksum(
    edit: Callable[[Table], object], rule: str, folder: Path
) -> None:
    edit_rows(folder, edit, forge=True)
    assert rule in rules(folder)


def test_a_finding_names_the_row_that_is_broken(folder: Path) -> None:
    first = shards.read_manifest(folder).files[0]["rows"]
    edit_rows(folder, train_first, forge=True)
    finding = next(f for f in verify(folder).findings if f.rule == "DV004")
    assert [example.where for example in finding.examples] == [f"row {first}"]


@pytest.mark.parametrize(
    "edit",
    [
        lambda data: data["ledger"]["written"].update(supervised=1),
        lambda data: data["ledger"]["tokenized"].update(tokens=1),
        lambda data: data["ledger"].update(read=1),
        lambda data: data["ledger"].update(open_ends=7),
        lambda data: data["ledger"]["rejected"].clear(),
        lambda data: data["files"][0].update(rows=1),
        lambda data: data["files"][0].update(tokens=1),
        lambda data: data["files"][0].update(supervised=1),
    ],
)
def test_a_sum_that_is_changed_no_longer_balances(
    edit: Callable[[dict[str, Any]], object], folder: Path
) -> None:
    edit_manifest(folder, edit)
    assert rules(folder) == {"DV002"}


def test_a_folder_without_manifest_was_not_finished(folder: Path) -> None:
    (folder / "manifest.json").unlink()
    with pytest.raises(IncompleteShards, match=r"no manifest\.json: .* not finished"):
        verify(folder)
    with pytest.raises(InputError, match="no such shard folder"):
        verify(folder / "nowhere")


@pytest.mark.parametrize(
    "edit",
    [
        lambda data: data.clear(),
        lambda data: data.update(format="glmprep-shards/99"),
        lambda data: data.update(format=["x"]),
        lambda data: data.update(extra=1),
        lambda data: data.pop("seed"),
        lambda data: data.update(files="abc"),
        lambda data: data.update(files=[1]),
        lambda data: data["files"][0].pop("sha256"),
        lambda data: data["files"][0].update(rows="many"),
        lambda data: data.update(ledger=None),
        lambda data: data["ledger"].pop("read"),
        lambda data: data["ledger"].update(rejected=[]),
        lambda data: data["ledger"]["written"].update(tokens="many"),
        lambda data: data["ledger"]["written"].update(more=1),
        lambda data: data.update(tokenizer="glm4"),
        lambda data: data["tokenizer"].pop("sha256"),
        lambda data: data.update(pad_id=None),
        lambda data: data.update(stop_ids=5),
    ],
)
def test_a_manifest_of_another_form_is_an_error_of_one_line(
    edit: Callable[[dict[str, Any]], object], folder: Path
) -> None:
    edit_manifest(folder, edit)
    for command in (lambda: verify(folder), lambda: show(folder, [0])):
        with pytest.raises(InputError) as caught:
            command()
        assert str(folder / "manifest.json") in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_manifest_that_was_cut_off_is_an_error(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(InputError, match="not a shard manifest"):
        verify(folder)
    path.write_bytes(b"[1, 2]")
    with pytest.raises(InputError, match="not a shard manifest"):
        verify(folder)


def no_rows(columns: Table) -> None:
    for values in columns.values():
        values.clear()


def no_tokens(columns: Table) -> None:
    for name in shards.TOKEN_COLUMNS:
        columns[name][-1] = []


def negative_id(columns: Table) -> None:
    columns["input_ids"][0][3] = -5


@pytest.mark.parametrize(
    "edit",
    [
        no_rows,
        no_tokens,
        negative_id,
        lambda columns: columns.pop("conversation_ids"),
        lambda columns: columns.pop("input_ids"),
        lambda columns: columns.update(bucket=[None] * len(columns["bucket"])),
        lambda columns: columns["conversation_ids"].__setitem__(0, None),
        lambda columns: columns["loss_mask"].__setitem__(0, None),
        lambda columns: columns["input_ids"][0].pop(),
        lambda columns: columns["input_ids"][0].__setitem__(0, None),
    ],
)
def test_rows_that_cannot_be_rows_are_findings_and_never_a_crash(
    edit: Callable[[Table], object], folder: Path
) -> None:
    edit_rows(folder, edit, forge=False)
    assert "DV001" in rules(folder)
    first = shards.read_manifest(folder).files[0]["rows"]
    with contextlib.suppress(InputError):
        show(folder, [first + 5])
