"""Whatever is changed in a shard folder or in its data, after it was written, is seen."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from glmprep import accounts, bucket, canonical, families, gather, reread, shards, tokenizing
from glmprep.cli import glmprep
from glmprep.console import run
from glmprep.errors import IncompleteShards, InputError, UsageError
from glmprep.families import Family
from glmprep.files import sha256
from glmprep.records import Conversation, Message
from glmprep.reread import Inputs
from glmprep.show import show
from glmprep.source import Source
from glmprep.store import Folder
from glmprep.tokenizer import Tokenizer
from glmprep.tokenizing import Named, Ready
from glmprep.verify import verify

from .chats import chat

SHARD, LEDGER = "shard-00001.parquet", "ledger.parquet"
LIMIT = 200
Table = dict[str, list[Any]]
Edit = Callable[[Table], object]


def some_chats() -> list[Conversation]:
    """Conversations of many lengths, some of them longer than LIMIT or partly untrained."""
    untrained = Message(role="assistant", content="A bad answer.", untrained="weight")
    return [
        replace(
            chat(
                ("user", f"Question {n}?"),
                untrained if n % 5 == 0 else ("assistant", "Let me think."),
                ("user", "Go on."),
                ("assistant", f"Answer {n}. " * (1 + 7 * n % 17 + 40 * (n % 20 == 7))),
            ),
            id=f"chat-{n}",
        )
        for n in range(60)
    ]


def data_lines() -> list[bytes]:
    """The conversations as lines; 3, 11 and 20 (from 0) are rejected."""
    lines = [canonical.line(one) for one in some_chats()]
    lines[3] = b"{\n"
    lines[11] = canonical.line(chat(("user", "hi"), ("assistant", "")))
    lines[20] = b'{"text": "no chat"}\n'
    return lines


class Asked(Ready):
    """A tokenizer and a family that are there, as if they had been asked for by name."""

    def settings(self) -> dict[str, Any]:
        return {"asked": self.family.name, "thinking": "on", "template": None}


def make(
    folder: Path, family: Family, tokenizer: Tokenizer, layout: Any = "packed", **source: Any
) -> Path:
    """The lines above in data.jsonl, and the shard folder of them."""
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "data.jsonl"
    data.write_bytes(b"".join(data_lines()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gather, "TOKENS_PER_FILE", 1500)
        bucket.bucket(
            Source(paths=[str(data)], **source),
            Folder(folder / "shards"),
            tokenizing=Asked(tokenizer, family),
            config=bucket.Config(layout=layout, max_length=LIMIT),
        )
    return folder / "shards"


@pytest.fixture(scope="module")
def written(family: Family, tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("written"), family, tokenizer)


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    shutil.copytree(written.parent, tmp_path, dirs_exist_ok=True)
    return tmp_path / "shards"


@pytest.fixture
def from_data(family: Family, tokenizer: Tokenizer) -> Callable[..., set[str]]:
    """The rules that are broken when a folder is verified beside its data."""

    def run(folder: Path, name: str = "data.jsonl") -> set[str]:
        paths = [str(folder.parent / name)]
        inputs = Inputs(paths=paths, tokenizing=Ready(tokenizer, family))
        return {finding.rule for finding in verify(folder, inputs).findings}

    return run


def rules(folder: Path) -> set[str]:
    return {finding.rule for finding in verify(folder).findings}


def edit_manifest(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "manifest.json"
    data = orjson.loads(path.read_bytes())
    edit(data)
    path.write_bytes(orjson.dumps(data))


def edit_ledger(folder: Path, edit: Edit) -> None:
    """Rewrite the ledger, and make the manifest agree with it."""
    path = folder / LEDGER
    columns = pq.read_table(path).to_pydict()
    edit(columns)
    pq.write_table(pa.table(columns, schema=accounts.SCHEMA), path)
    new = {"rows": len(columns["line"]), "sha256": sha256(path)}
    edit_manifest(folder, lambda data: data["ledger_file"].update(new))


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


@pytest.mark.parametrize("name", [SHARD, LEDGER])
def test_a_missing_file_is_seen(name: str, folder: Path) -> None:
    (folder / name).unlink()
    assert rules(folder) == {"DV001"}


def test_shards_without_a_ledger_are_not_proven(folder: Path) -> None:
    edit_manifest(folder, lambda data: data.update(ledger_file=None))
    assert rules(folder) == {"DV001"}


def test_every_changed_byte_of_the_ledger_is_seen(folder: Path) -> None:
    path = folder / LEDGER
    data = bytearray(path.read_bytes())
    for place in (0, len(data) // 3, len(data) // 2, len(data) - 1):
        changed = data.copy()
        changed[place] ^= 1
        path.write_bytes(changed)
        assert "DV001" in rules(folder)


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


def change_an_id(columns: Table) -> None:
    columns["input_ids"][0][5] += 1


def shift_a_position(columns: Table) -> None:
    columns["position_ids"][0][5] += 1


def rename(columns: Table) -> None:
    columns["conversation_ids"][0][0] = "another"


def swap_rows(columns: Table) -> None:
    for values in columns.values():
        values[0], values[1] = values[1], values[0]


def train_elsewhere(columns: Table) -> None:
    """Move one label, so that no sum changes."""
    mask = columns["loss_mask"][0]
    mask[mask.index(1)] = 0
    mask[1 + mask.index(0, 1)] = 1


@pytest.mark.parametrize(
    ("edit", "rule"),
    [
        (flip, "DV005"),
        (train_elsewhere, "DV005"),
        (change_an_id, "DV005"),
        (rename, "DV005"),
        (swap_rows, "DV005"),
        (shift_a_position, "DV003"),
        (lose_a_row, "DV006"),
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


# The ledger, with checksums that were made to fit


def where(columns: Table, outcome: str) -> int:
    return columns["outcome"].index(outcome)


def remove(outcome: str) -> Edit:
    def edit(columns: Table) -> None:
        place = where(columns, outcome)
        for values in columns.values():
            del values[place]

    return edit


def double(outcome: str) -> Edit:
    def edit(columns: Table) -> None:
        place = where(columns, outcome)
        for values in columns.values():
            values.insert(place, values[place])

    return edit


def change(outcome: str, /, **values: Any) -> Edit:
    def edit(columns: Table) -> None:
        place = where(columns, outcome)
        for name, value in values.items():
            before = columns[name][place]
            columns[name][place] = value(before) if callable(value) else value

    return edit


def flip_a_bit(digest: bytes) -> bytes:
    return bytes([digest[0] ^ 1, *digest[1:]])


def more(value: int) -> int:
    return value + 1


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (remove("written"), {"DV002", "DV006"}),
        (remove("set_aside"), {"DV002", "DV007"}),
        (remove("rejected"), {"DV002", "DV007"}),
        (double("written"), {"DV002", "DV006"}),
        (double("set_aside"), {"DV002", "DV007"}),
        (double("rejected"), {"DV002", "DV007"}),
        (change("written", outcome="set_aside"), {"DV002", "DV006", "DV007"}),
        (change("written", outcome="rejected", rule="DF001"), {"DV002", "DV006", "DV007"}),
        (change("set_aside", outcome="written", rule=None), {"DV002", "DV006", "DV007"}),
        (change("rejected", rule="DF002"), {"DV002", "DV007"}),
        (change("rejected", line=more), {"DV002", "DV007"}),
        (change("written", digest=flip_a_bit), {"DV005"}),
        (change("written", digest=None), {"DV005"}),
        (change("written", conversation="another"), {"DV005"}),
        (change("written", tokens=more), {"DV002", "DV005"}),
        (change("written", supervised=more), {"DV002", "DV005"}),
        (change("written", turns=more), {"DV002"}),
        (change("written", untrained_weight=more), {"DV002"}),
        (change("set_aside", tokens=more), {"DV002"}),
        (change("written", shard_row=10_000), {"DV006"}),
        (change("written", segment=more), {"DV006"}),
        (change("written", shard_row=None), {"DV006"}),
    ],
)
def test_a_changed_line_of_the_ledger_is_seen(edit: Edit, expected: set[str], folder: Path) -> None:
    edit_ledger(folder, edit)
    assert expected <= rules(folder) <= expected | {"DV005"}


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (change("written", line=99), {"DV009", "DV010"}),
        (change("written", file_index=1), {"DV009", "DV010"}),
        (change("set_aside", digest=flip_a_bit), {"DV012"}),
    ],
)
def test_what_only_the_data_can_tell_is_seen_beside_it(
    edit: Edit, expected: set[str], folder: Path, from_data: Callable[..., set[str]]
) -> None:
    edit_ledger(folder, edit)
    assert rules(folder) == set()
    assert from_data(folder) >= expected


@pytest.mark.parametrize("line", [0, -1])
def test_a_line_that_is_missing_in_the_list_of_rejected_rows_is_seen(
    line: int, folder: Path
) -> None:
    path = folder / "rejects.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) == 5
    del lines[line]
    path.write_bytes(b"".join(lines))
    assert rules(folder) == {"DV007"}


@pytest.mark.parametrize("extra", [b"{\n", b"[]\n", b'{"where": 3}\n', b"\xff\n"])
def test_a_line_too_many_in_the_list_of_rejected_rows_is_seen(extra: bytes, folder: Path) -> None:
    with (folder / "rejects.jsonl").open("ab") as file:
        file.write(extra)
    assert rules(folder) == {"DV007"}


# The data


@pytest.mark.parametrize(
    ("layout", "source"),
    [
        ("packed", {}),
        ("buckets", {}),
        ("buckets", {"train_on": "last"}),
        ("packed", {"train_on": "last-and-tool-calls"}),
    ],
)
def test_a_folder_as_it_was_written_is_proven_from_its_data_wherever_both_are(
    layout: str,
    source: dict[str, Any],
    family: Family,
    tokenizer: Tokenizer,
    tmp_path: Path,
    from_data: Callable[..., set[str]],
) -> None:
    made = make(tmp_path / "here", family, tokenizer, layout, **source)
    assert rules(made) == set()
    assert from_data(made) == set()
    moved = Path(shutil.move(made.parent, tmp_path / "there")) / "shards"
    assert from_data(moved) == set()


def edit_data(folder: Path, edit: Callable[[list[bytes]], object]) -> None:
    lines = data_lines()
    edit(lines)
    (folder.parent / "data.jsonl").write_bytes(b"".join(lines))


def edited(line: int, old: bytes, new: bytes) -> Callable[[list[bytes]], None]:
    def edit(lines: list[bytes]) -> None:
        assert old in lines[line]
        lines[line] = lines[line].replace(old, new)

    return edit


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (edited(4, b"Answer", b"Retort"), {"DV012"}),
        (edited(4, b"chat-4", b"chat-5"), {"DV012"}),
        (edited(5, b'"weight":0', b'"weight":1'), {"DV002", "DV012"}),
        (edited(7, b"Answer", b"Retort"), {"DV012"}),  # which is set aside
        (edited(3, b"{", b"{}"), {"DV002", "DV011"}),  # which is rejected otherwise
        (lambda lines: lines.__setitem__(3, lines[4]), {"DV002", "DV011"}),
        (lambda lines: lines.__setitem__(4, b"{\n"), {"DV002", "DV011"}),
        (lambda lines: lines.pop(), {"DV002", "DV009"}),
        (lambda lines: lines.pop(30), {"DV002", "DV009", "DV011", "DV012"}),
        (lambda lines: lines.append(lines[0]), {"DV002", "DV010"}),
        (lambda lines: lines.insert(1, b"\n"), {"DV009", "DV010", "DV011", "DV012"}),
    ],
)
def test_data_that_were_changed_are_seen(
    edit: Callable[[list[bytes]], object],
    expected: set[str],
    folder: Path,
    from_data: Callable[..., set[str]],
) -> None:
    edit_data(folder, edit)
    assert rules(folder) == set()
    assert from_data(folder) - {"DV002"} == expected - {"DV002"}
    assert ("DV002" in from_data(folder)) >= ("DV002" in expected)


def test_a_change_that_makes_the_same_tokens_is_none(
    folder: Path, from_data: Callable[..., set[str]]
) -> None:
    edit_data(folder, lambda lines: lines.__setitem__(0, lines[0].replace(b'":', b'" : ')))
    assert from_data(folder) == set()


def test_a_file_of_another_name_is_seen(folder: Path, from_data: Callable[..., set[str]]) -> None:
    (folder.parent / "data.jsonl").rename(folder.parent / "other.jsonl")
    assert from_data(folder, "other.jsonl") == {"DV008"}


def test_files_of_one_name_in_two_folders_are_told_apart(
    tmp_path: Path, family: Family, tokenizer: Tokenizer
) -> None:
    paths = []
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        paths.append(str(tmp_path / place / "a.jsonl"))
        text = canonical.line(chat(("user", "hi"), ("assistant", f"Number {place}.")))
        Path(paths[-1]).write_bytes(text)
    config = bucket.Config()
    output = tmp_path / "shards"
    tokenizing = Ready(tokenizer, family)
    bucket.bucket(Source(paths=paths), Folder(output), tokenizing=tokenizing, config=config)

    def broken(files: list[str]) -> set[str]:
        inputs = Inputs(paths=files, tokenizing=Ready(tokenizer, family))
        return {finding.rule for finding in verify(output, inputs).findings}

    assert broken(paths) == set()
    assert broken(paths[::-1]) == {"DV012"}
    assert broken(paths[:1]) == {"DV002", "DV008", "DV009"}


def test_examples_name_the_line_of_the_data(
    folder: Path, family: Family, tokenizer: Tokenizer
) -> None:
    edit_data(folder, edited(4, b"Answer", b"Retort"))
    data = str(folder.parent / "data.jsonl")
    found = verify(folder, Inputs(paths=[data], tokenizing=Ready(tokenizer, family))).findings
    [tokens] = [finding for finding in found if finding.rule == "DV012"]
    assert [example.where for example in tokens.examples] == [f"{data}:5"]


def test_the_family_is_loaded_as_it_was_asked_for(
    folder: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "load_tokenizer", lambda spec: tokenizer)
    monkeypatch.setattr(tokenizing, "load_tokenizer", lambda spec, **_: tokenizer)
    manifest = shards.read_manifest(folder)
    data = [str(folder.parent / "data.jsonl")]
    inputs = reread.load(manifest, data, tokenizer=None, template=None)
    assert inputs.tokenizing.load()[1].name == families.load("auto", tokenizer).name
    assert verify(folder, inputs).findings == []
    template = folder.parent / "mine.jinja"
    template.write_text("{{ messages }}")
    with pytest.raises(UsageError, match="without a template of your own"):
        reread.load(manifest, data, tokenizer=None, template=template)
    asked = {"family": Named(tokenizer="glm4", template=template).settings()}
    mine = replace(manifest, config={**manifest.config, **asked})
    with pytest.raises(UsageError, match="pass it as --template FILE"):
        reread.load(mine, data, tokenizer=None, template=None)
    with pytest.raises(InputError, match="does not tell how the family glm4 was chosen"):
        reread.load(replace(manifest, config={}), data, tokenizer=None, template=None)
    other = replace(manifest, tokenizer={"name": "other", "sha256": "0"})
    with pytest.raises(UsageError, match="made with the tokenizer 'other'; pass --tokenizer"):
        reread.load(other, data, tokenizer=None, template=None)
    with pytest.raises(UsageError, match="made with other and glm4"):
        reread.read_again(other, inputs)


def test_the_command_takes_the_data_after_the_folder_and_its_status_tells_the_outcome(
    folder: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "load_tokenizer", lambda spec: tokenizer)
    monkeypatch.setattr(tokenizing, "load_tokenizer", lambda spec, **_: tokenizer)
    data = folder.parent / "data.jsonl"

    def status(*arguments: str | Path) -> int:
        monkeypatch.setattr("sys.argv", ["glmprep", "verify", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            run(glmprep)
        return int(end.value.code or 0)

    report, found = folder.parent / "report.html", folder.parent / "found.json"
    assert status(folder) == 0
    assert status(folder, data, "--report", report, "--json", found) == 0
    assert "Proven from the data" in report.read_text("utf-8")
    assert orjson.loads(found.read_bytes())["rows_of_data"] == 60
    edit_data(folder, edited(4, b"Answer", b"Retort"))
    assert status(folder, data) == 1
    assert status(folder, data, "--fail-on", "never") == 0
    data.unlink()
    assert status(folder, data) == 2


@pytest.mark.parametrize(
    "edit",
    [
        lambda config: config.pop("roles"),
        lambda config: config.update(roles=5),
        lambda config: config.update(take=["chosen"]),
        lambda config: config.update(repair="yes"),
        lambda config: config.update(train_on="first"),
    ],
)
def test_a_manifest_that_does_not_tell_how_the_data_were_read_is_an_error_of_one_line(
    edit: Callable[[dict[str, Any]], object], folder: Path, from_data: Callable[..., set[str]]
) -> None:
    edit_manifest(folder, lambda data: edit(data["config"]))
    with pytest.raises(InputError, match="the manifest does not tell '"):
        from_data(folder)


# The manifest


@pytest.mark.parametrize(
    "edit",
    [
        lambda data: data["ledger"]["written"].update(supervised=1),
        lambda data: data["ledger"]["tokenized"].update(tokens=1),
        lambda data: data["ledger"].update(read=1),
        lambda data: data["ledger"]["sound"].update(trained_turns=1),
        lambda data: data["ledger"]["set_aside"].clear(),
        lambda data: data["ledger"]["written"].update(untrained_weight=1),
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
        lambda data: data.update(ledger_file=[]),
        lambda data: data.update(ledger_file={"name": "ledger.parquet"}),
        lambda data: data.update(inputs=[1]),
        lambda data: data.update(config=None),
        lambda data: data["ledger"].pop("sound"),
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


def test_shards_of_an_earlier_version_are_to_be_made_again(folder: Path) -> None:
    edit_manifest(folder, lambda data: data.update(format="glmprep-shards/1"))
    with pytest.raises(InputError, match="write the shards again with glmprep bucket"):
        verify(folder)


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
    edit: Callable[[Table], object],
    folder: Path,
    tokenizer: Tokenizer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shards, "load_tokenizer", lambda spec: tokenizer)
    monkeypatch.setattr(tokenizing, "load_tokenizer", lambda spec, **_: tokenizer)
    edit_rows(folder, edit, forge=False)
    assert "DV001" in rules(folder)
    first = shards.read_manifest(folder).files[0]["rows"]
    with contextlib.suppress(InputError):
        show(folder, [first + 5])
