"""Tokenized datasets of other trainers, with faults planted one by one."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from glmdiag.labels import Wanted, read
from glmdiag.labels.label_rules import judge
from glmprep import families, tokenizer
from glmprep.errors import InputError, UsageError
from glmprep.labels import tokenize
from glmprep.records import Conversation, Message, Origin

PAD, PREFIX, USER, ASSISTANT, OBSERVATION = 151329, [151331, 151333], 151336, 151337, 151338
TOPICS = ["rivers", "bread", "clocks", "paper", "glass", "salt", "bridges", "maps", "wool", "tea"]
Row = dict[str, list[int]]
load_once = cache(tokenizer.load)


@pytest.fixture(autouse=True)
def _vocabulary_loads_once(monkeypatch):
    monkeypatch.setattr(tokenizer, "load", lambda spec=tokenizer.EMBEDDED: load_once(spec))


def talk(number: int, turns: int) -> Conversation:
    topic = TOPICS[number % len(TOPICS)]
    messages = []
    for turn in range(turns):
        words = " ".join(TOPICS[(number * 3 + turn + each) % 10] for each in range(number % 7 + 2))
        messages += [
            Message(role="user", content=f"Tell me about {topic}, part {turn} of {number}."),
            Message(role="assistant", content=f"In part {turn}, {topic} go with {words}."),
        ]
    return Conversation(id=str(number), messages=tuple(messages), origin=Origin("x", number))


@cache
def whole_rows() -> str:
    """Forty conversations as they should be, in JSON, so that each test has its own."""
    vocabulary = load_once(tokenizer.EMBEDDED)
    family = families.load("glm4", vocabulary)
    talks = [talk(number, 1 + number % 4) for number in range(40)]
    batch = tokenize(talks, family, vocabulary)
    rows = []
    for begin, end in zip(batch.offsets[:-1], batch.offsets[1:], strict=True):
        ids, mask = batch.ids[begin:end], batch.mask[begin:end]
        rows.append({"input_ids": ids.tolist(), "labels": np.where(mask == 1, ids, -100).tolist()})
    return json.dumps(rows)


@pytest.fixture
def rows() -> list[Row]:
    return json.loads(whole_rows())


def arrow(folder: Path, rows: list[Row]) -> Path:
    """As `save_to_disk` writes it: Arrow's stream format, with a state beside it."""
    folder.mkdir(parents=True)
    table = pa.Table.from_pylist(rows)
    with pa.ipc.new_stream(folder / "data-00000-of-00001.arrow", table.schema) as writer:
        writer.write_table(table, max_chunksize=16)
    state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_split": None}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text("{}")
    return folder


def lines(path: Path, rows: list[Row]) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    return path


def found(path: Path, **wanted: Any) -> dict[str, Any]:
    return {f.rule: f for f in judge(read(path, Wanted(**wanted)))}


def rules(tmp_path: Path, rows: list[Row], **wanted: Any) -> set[str]:
    return set(found(lines(tmp_path / "set.jsonl", rows), **wanted))


@pytest.mark.parametrize("kind", ["arrow", "dict", "parquet", "lines", "folder"])
def test_right_labels_have_no_findings_in_any_format(tmp_path, rows, kind):
    if kind == "arrow":
        path = arrow(tmp_path / "set", rows)
    elif kind == "dict":
        path = arrow(tmp_path / "set" / "train", rows).parent
        arrow(path / "test", rows[:2])
        (path / "dataset_dict.json").write_text('{"splits": ["test", "train"]}')
    elif kind == "parquet":
        path = tmp_path / "set.parquet"
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path = lines(tmp_path / "set.jsonl", rows)
        path = path.parent if kind == "folder" else path
    seen = read(path)
    assert judge(seen) == []
    assert seen.total.rows == 40
    assert seen.total.supervised == sum(x != -100 for row in rows for x in row["labels"])


@pytest.mark.parametrize("shift", [-1, 1])
def test_labels_that_are_shifted_by_one_are_told_with_their_direction(tmp_path, rows, shift):
    for row in rows:
        labels = row["labels"]
        row["labels"] = [*labels[1:], -100] if shift > 0 else [-100, *labels[:-1]]
    (finding,) = judge(read(lines(tmp_path / "set.jsonl", rows)))
    assert (finding.rule, finding.data["shift"]) == ("DL109", shift)
    assert finding.data["share"] > 0.99 > 0.5 > finding.data["in_place"]


def test_labels_of_other_tokens_are_counted(tmp_path, rows):
    for row in rows[:3]:
        at = next(place for place, label in enumerate(row["labels"]) if label != -100) + 2
        row["labels"][at] = 17
    finding = found(lines(tmp_path / "set.jsonl", rows))["DL110"]
    assert finding.data["count"] == 3


def test_rows_cut_inside_an_answer_are_told_with_the_limit(tmp_path, rows):
    cut = [{name: values[:64] for name, values in row.items()} for row in rows]
    finding = found(lines(tmp_path / "set.jsonl", cut))["DL111"]
    assert finding.data["limit"] == 64
    assert finding.data["count"] > 3


def test_a_stop_behind_a_cut_answer_is_told(tmp_path, rows):
    """As LLaMA-Factory does: cut, and an end-of-text behind the cut, with a label."""
    for row in rows[::2]:
        starts = [place for place, token in enumerate(row["input_ids"]) if token == ASSISTANT]
        ids, labels = row["input_ids"][: starts[-1] + 8], row["labels"][: starts[-1] + 8]
        missing = 96 - len(ids)
        # Cut to one length for all, by a longer system message in front.
        row["input_ids"] = [*PREFIX, *[100 + n for n in range(missing)], *ids[2:-1], PAD]
        row["labels"] = [-100] * (missing + 2) + labels[2:-1] + [PAD]
    kept = [row for row in rows if len(row["input_ids"]) <= 96]
    finding = found(lines(tmp_path / "set.jsonl", kept))["DL112"]
    assert finding.data["limit"] == 96
    assert finding.data["count"] >= 15


@pytest.mark.parametrize(("count", "severity"), [(1, "warning"), (20, "error")])
def test_a_trained_prompt_is_an_error_only_where_it_is_no_single_row(
    tmp_path, rows, count, severity
):
    for row in rows[:count]:
        row["labels"] = list(row["input_ids"])
    finding = found(lines(tmp_path / "set.jsonl", rows))["DL106"]
    assert (finding.severity, finding.data["rows"]) == (severity, count)


def test_a_few_targets_in_many_prompts_are_a_warning(tmp_path, rows):
    for row in rows:
        row["labels"][4] = row["input_ids"][4]
    finding = found(lines(tmp_path / "set.jsonl", rows))["DL106"]
    assert (finding.severity, finding.data["rows"]) == ("warning", 40)
    assert finding.data["share"] < 0.05


@pytest.mark.parametrize(("count", "severity"), [(1, "warning"), (20, "error")])
def test_rows_without_labels_are_an_error_only_where_they_are_no_single_ones(
    tmp_path, rows, count, severity
):
    for row in rows[:count]:
        row["labels"] = [-100] * len(row["labels"])
    assert found(lines(tmp_path / "set.jsonl", rows))["DL101"].severity == severity


@pytest.mark.parametrize(("count", "severity"), [(1, "warning"), (20, "error")])
def test_a_row_that_is_cut_is_told_once(tmp_path, rows, count, severity):
    longest = max(len(row["input_ids"]) for row in rows)
    for row in rows[:count]:
        starts = [place for place, token in enumerate(row["input_ids"]) if token == ASSISTANT]
        for name, fill in (("input_ids", list(range(100, 1000))), ("labels", [-100] * 900)):
            kept = row[name][: starts[-1] + 5]
            row[name] = [*kept[:2], *fill[: longest + 1 - len(kept)], *kept[2:]]
    told = found(lines(tmp_path / "set.jsonl", rows), max_length=longest + 1)
    assert {name: each.severity for name, each in told.items()} == {"DL111": severity}


def test_a_stop_behind_a_prompt_that_was_cut_is_no_trained_prompt(tmp_path, rows):
    for row in rows:
        ids, labels = row["input_ids"], row["labels"]
        middle = ids.index(ASSISTANT) - 2
        row["input_ids"] = [*PREFIX, *range(100, 190 - middle), *ids[2:middle], PAD]
        row["labels"] = [-100] * (len(row["input_ids"]) - 1) + [PAD]
        assert len(labels) > middle
    assert "DL106" not in rules(tmp_path, rows)


def test_whole_answers_that_fill_a_row_are_no_cut_answers(tmp_path, rows):
    filled = []
    for row in rows:
        missing = 256 - len(row["input_ids"])
        ids = [*PREFIX, *[100 + n for n in range(missing)], *row["input_ids"][2:]]
        filled.append({"input_ids": ids, "labels": [-100] * missing + row["labels"]})
    assert rules(tmp_path, filled) == set()


def test_labels_on_padding_are_counted_with_an_attention_mask(tmp_path, rows):
    for row in rows:
        row["attention_mask"] = [1] * len(row["input_ids"]) + [0] * 6
        row["input_ids"] += [PAD] * 6
        row["labels"] += [PAD] * 6
    finding = found(lines(tmp_path / "set.jsonl", rows))["DL113"]
    assert finding.data["count"] == 6 * 40


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_without_labels_is_no_text(tmp_path, rows, side):
    for row in rows:
        pad = [PAD] * (300 - len(row["input_ids"]))
        parts = {"input_ids": pad, "labels": [-100] * len(pad)}
        for name, fill in parts.items():
            row[name] = fill + row[name] if side == "left" else row[name] + fill
        if side == "left":
            row["attention_mask"] = [0] * len(pad) + [1] * (300 - len(pad))
    assert rules(tmp_path, rows) == set()


def test_an_end_of_text_in_place_of_role_tokens_is_told(tmp_path, rows):
    for row in rows:
        ids, labels = row["input_ids"], row["labels"]
        row["labels"] = [PAD if label == USER else label for label in labels]
        ids[-1] = PAD
    finding = found(lines(tmp_path / "set.jsonl", rows))["DL114"]
    assert finding.data["share"] == 1.0
    assert finding.data["stops"] == 0


def test_stops_that_nobody_serves_are_told(tmp_path, rows):
    path = lines(tmp_path / "set.jsonl", rows)
    assert "DL115" not in found(path, stop_ids="151329,151336,151338")
    assert found(path, stop_ids="151329")["DL115"].data["ids"] == str(USER)
    model = tmp_path / "model"
    model.mkdir()
    (model / "generation_config.json").write_text('{"eos_token_id": 151329}')
    finding = found(path, model=model)["DL115"]
    assert finding.data["told_by"] == "generation_config.json"


def test_a_last_answer_without_a_stop_is_told(tmp_path, rows):
    bare = [{name: values[:-1] for name, values in row.items()} for row in rows]
    finding = found(lines(tmp_path / "set.jsonl", bare))["DL116"]
    assert finding.data["share"] == 1.0


def test_copied_rows_are_counted(tmp_path, rows):
    finding = found(lines(tmp_path / "set.jsonl", rows + rows[:20]))["DL117"]
    assert finding.data["count"] == 20


def test_rows_far_longer_than_the_others_are_noted(tmp_path, rows):
    row = rows[0]
    row["input_ids"][3:3] = list(range(100, 1100))
    row["labels"][3:3] = [-100] * 1000
    assert rules(tmp_path, rows) == {"DL118"}


def test_turns_that_are_never_trained_are_told_by_their_place(tmp_path, rows):
    for row in rows:
        starts = [place for place, token in enumerate(row["input_ids"]) if token == ASSISTANT]
        row["labels"][: starts[-1]] = [-100] * starts[-1]
    finding = found(lines(tmp_path / "set.jsonl", rows))["DL119"]
    assert (finding.data["first"], finding.data["last"]) == (0.0, 1.0)


def test_ids_beyond_the_vocabulary_are_an_error(tmp_path, rows):
    rows[0]["input_ids"][4] = 200_000
    assert found(lines(tmp_path / "set.jsonl", rows))["DL121"].data["largest"] == 200_000


def test_a_set_without_role_tokens_is_told_and_not_judged_by_turns(tmp_path):
    foreign = [{"input_ids": list(range(n, n + 30)), "labels": list(range(n, n + 30))}
               for n in range(30)]  # fmt: skip
    assert "DL122" in rules(tmp_path, foreign)


def test_a_prefix_that_stands_twice_is_told(tmp_path, rows):
    for row in rows:
        row["input_ids"][:0] = PREFIX
        row["labels"][:0] = [-100, -100]
    assert rules(tmp_path, rows) == {"DL123"}


def test_packed_rows_without_position_ids_are_told(tmp_path, rows):
    packed = [
        {name: one[name] + other[name] for name in one}
        for one, other in zip(rows[::2], rows[1::2], strict=True)
    ]
    assert rules(tmp_path, packed) == {"DL124"}
    for row, one, other in zip(packed, rows[::2], rows[1::2], strict=True):
        sizes = [len(one["input_ids"]), len(other["input_ids"])]
        row["position_ids"] = [place for size in sizes for place in range(size)]
    assert rules(tmp_path, packed) == set()


def test_a_set_with_input_ids_alone_is_trained_whole(tmp_path, rows):
    bare = [{"input_ids": row["input_ids"]} for row in rows]
    seen = read(lines(tmp_path / "set.jsonl", bare))
    assert seen.total.supervised_share == 1.0
    assert "DL106" in {f.rule for f in judge(seen)}
    assert "no column labels" in seen.as_json()["notes"][0]


def test_a_mask_of_what_is_trained_stands_for_labels(tmp_path, rows):
    masked = [
        {"input_ids": row["input_ids"], "assistant_masks": [int(x != -100) for x in row["labels"]]}
        for row in rows
    ]
    assert rules(tmp_path, masked) == set()


BAD = {
    "ragged.jsonl": '{"input_ids": [1, 2], "labels": [1]}\n',
    "text.jsonl": '{"input_ids": "one two", "labels": "x"}\n',
    "deep.jsonl": '{"input_ids": [[1], [2]], "labels": [[1], [2]]}\n',
    "negative.jsonl": '{"input_ids": [-1, 2], "labels": [1, 2]}\n',
    "null.jsonl": '{"input_ids": null, "labels": null}\n',
    "later.jsonl": '{"input_ids": [1], "labels": [1]}\n{"text": "x"}\n',
    "broken.jsonl": '{"input_ids": [1], "labels": [1]}\n{"input_ids": [1\n',
    "empty.jsonl": "",
    "cut.arrow": "not arrow",
    "cut.parquet": "PAR1 no more",
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_status_two(tmp_path, glmdiag, name):
    (tmp_path / name).write_text(BAD[name])
    for path in (tmp_path / name, tmp_path):
        status, out, err = glmdiag("labels", path)
        assert (status, out, err.count("\n")) == (2, "", 1)


def test_a_truncated_arrow_file_is_one_line(tmp_path):
    folder = arrow(tmp_path / "set", json.loads(whole_rows()))
    file = folder / "data-00000-of-00001.arrow"
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(InputError, match=r"\.arrow"):
        read(folder)


def test_stop_ids_that_are_no_ids_are_wrong_usage(tmp_path, rows):
    with pytest.raises(UsageError, match="--stop-ids"):
        read(lines(tmp_path / "set.jsonl", rows), Wanted(stop_ids="user"))


CHAT = [
    {"messages": [
        {"role": "user", "content": f"Tell me about {topic}."},
        {"role": "assistant", "content": "It is told of at length here, word by word. " * n},
    ]}
    for n, topic in enumerate(TOPICS * 2, 1)
]  # fmt: skip


def test_chat_data_is_labelled_as_a_trainer_does(tmp_path):
    path = lines(tmp_path / "chat.jsonl", CHAT)
    assert found(path) == {}
    assert "DL105" in found(path, by="official_combine", max_length=1024)
    assert "DL111" in found(path, by="official", max_length=64)
    assert "DL112" in found(path, by="llamafactory", max_length=64)
    assert "DL114" in found(path, by="llamafactory", max_length=1024)
    assert "DL106" in found(path, by="trl", max_length=1024)


def test_a_trainers_configuration_says_how_chat_data_is_labelled(tmp_path, glmdiag):
    path = lines(tmp_path / "chat.jsonl", CHAT)
    config = tmp_path / "train.yaml"
    config.write_text("stage: sft\nmodel_name_or_path: glm\ntemplate: glm4\ncutoff_len: 64\n"
                      "dataset: x\nfinetuning_type: lora\noutput_dir: out\n")  # fmt: skip
    status, out, _ = glmdiag("labels", path, "--config", config, "--json", "-")
    result = json.loads(out)
    assert (status, result["made_by"], result["max_length"]) == (1, "llamafactory", 64)


def test_the_page_has_turns_and_stops_in_both_languages(tmp_path, rows, glmdiag):
    path = lines(tmp_path / "set.jsonl", rows)
    report = tmp_path / "labels.html"
    glmdiag("labels", path, "--stop-ids", "151329", "--report", report)
    html = report.read_text("utf-8")
    assert "Which turns are trained" in html
    assert "哪些轮次参与训练" in html
    assert "生成不在回答结束的地方停止" in html


ASSETS = Path(os.environ.get("GLM_ASSETS", Path(__file__).parents[3] / "shared" / "assets"))


@pytest.mark.skipif(not ASSETS.is_dir(), reason="real data is not at hand (GLM_ASSETS)")
@pytest.mark.parametrize("family", ["glm4", "glm4-0414", "glm-z1"])
def test_real_chats_labelled_by_this_suite_are_clean_in_every_family(tmp_path, family):
    import gzip

    with gzip.open(ASSETS / "data" / "sgd" / "sgd_toolchat_dev.jsonl.gz", "rt") as file:
        (tmp_path / "sgd.jsonl").write_text(
            "".join(line for line, _ in zip(file, range(30), strict=False))
        )
    assert found(tmp_path / "sgd.jsonl", family=family) == {}
