from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest
import yaml
from glmdiag.configuration.lengths import of_data, of_shards
from glmdiag.machine.hardware import simulated
from glmprep.options import Reading
from glmprep.source import Source

from tests.diagnose.configuring import SAMPLES, sample

ASSETS = Path(os.environ.get("GLM_ASSETS", Path(__file__).parents[3] / "shared" / "assets"))
CHATS = [
    [("user", "Hello"), ("assistant", "word " * 40)],
    [("user", "Hello"), ("assistant", "word " * 400), ("user", "more"), ("assistant", "no")],
    [("user", "word " * 300), ("assistant", "yes")],
]


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "chats.jsonl"
    rows = [
        {"messages": [{"role": role, "content": text} for role, text in chat]} for chat in CHATS
    ]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def reading(path: Path) -> Reading:
    source = Source(paths=[str(path)])
    return Reading(source=source, tokenizer="glm4", family="glm4", template=None, thinking="on")


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("*.*")), ids=lambda path: path.name)
def test_every_sample_has_a_page_in_both_languages(glmdiag, tmp_path, path):
    report = tmp_path / "page.html"
    code, out, _ = glmdiag("config", path, "--simulate", "V100", "--report", report)
    html = report.read_text(encoding="utf-8")
    assert code in (0, 1)
    assert "trainer" in out
    assert "实际生效" in html
    assert "As it holds" in html


def test_autos_are_resolved_as_the_trainer_fills_them_in(glmdiag, tmp_path):
    out = tmp_path / "out.json"
    glmdiag(
        "config",
        sample("llamafactory"),
        sample("ds_zero3"),
        *("--simulate", "A100", "--gpus", "4", "--json", out),
    )
    effects = {e["setting"]: e["effective"] for e in json.loads(out.read_text())["effects"]}
    assert effects["train_micro_batch_size_per_gpu"] == "1"
    assert effects["train_batch_size"] == "32"
    assert effects["gradient_clipping"] == "1"
    assert (effects["bf16.enabled"], effects["fp16.enabled"]) == ("true", "false")
    assert effects["zero_optimization.reduce_bucket_size"] == str(4096**2)


def test_the_limits_are_held_against_data(glmdiag, tmp_path, data):
    out = tmp_path / "out.json"
    code, _, _ = glmdiag(
        "config", sample("official_ptuning"), "--data", data, "--simulate", "A100", "--json", out
    )
    found = next(f for f in json.loads(out.read_text())["findings"] if f["rule"] == "CF221")
    assert code == 1
    assert found["data"]["bare"] == 1
    assert found["data"]["answers"] == 0.25


def test_data_and_its_shards_are_cut_alike(tmp_path, data):
    from glmprep.cli import glmprep

    folder = tmp_path / "shards"
    arguments = ["bucket", str(data), "-o", str(folder), "--max-length", "4096", "--quiet"]
    with pytest.raises(SystemExit):
        glmprep.main([*arguments, "--family", "glm4"], standalone_mode=False)
    by_data, by_shards = of_data(reading(data), 257), of_shards([folder], 257)
    assert np.array_equal(np.sort(by_data.conversations), np.sort(by_shards.conversations))
    assert by_data.supervised == by_shards.supervised
    assert by_data.answers == by_shards.answers
    assert by_data.cut == by_shards.cut
    assert by_data.cut is not None
    assert (by_data.cut.answers_cut, by_data.cut.without_labels) == (1, 1)


def test_a_corrected_copy_is_written_and_the_input_is_not_touched(glmdiag, tmp_path):
    out, before = tmp_path / "out.yaml", sample("llamafactory").read_bytes()
    path = tmp_path / "mine.yaml"
    path.write_bytes(before)
    code, text, _ = glmdiag("config", path, "--simulate", "T4", "--fix", out)
    assert code == 1
    assert "+fp16: true" in text
    assert yaml.safe_load(out.read_text())["bf16"] is False
    assert path.read_bytes() == before
    code, _, told = glmdiag("config", path, "--simulate", "T4", "--fix", path)
    assert (code, path.read_bytes()) == (2, before)
    assert "is the file itself" in told


def test_another_machine_is_taken_from_its_file(glmdiag, tmp_path):
    machine = tmp_path / "machine.json"
    machine.write_text(json.dumps(simulated("V100").as_json()), encoding="utf-8")
    code, out, _ = glmdiag("config", sample("llamafactory"), "--machine", machine)
    assert code == 1
    assert "CF202" in out


@pytest.mark.parametrize("name", ["gone.yaml", "training_args.bin"])
def test_what_cannot_be_read_ends_with_one_line_and_status_two(glmdiag, tmp_path, name):
    code, out, told = glmdiag("config", tmp_path / name)
    assert (code, out) == (2, "")
    assert told.count("\n") == 1


def test_hostile_values_reach_neither_the_terminal_nor_the_page(glmdiag, tmp_path):
    path, report = tmp_path / "x.yaml", tmp_path / "x.html"
    text = sample("llamafactory").read_text(encoding="utf-8")
    path.write_text(
        text.replace("template: glm4", 'template: "\\e[31m<script>alert(1)</script>"'),
        encoding="utf-8",
    )
    _, out, _ = glmdiag("config", path, "--simulate", "A100", "--report", report)
    assert "\x1b[31m" not in out
    assert "<script>alert(1)" not in report.read_text(encoding="utf-8")


def test_real_dialogues_with_tools_lose_many_labels_at_the_official_limits(glmdiag, tmp_path):
    path = ASSETS / "data" / "sgd" / "sgd_toolchat_dev.jsonl.gz"
    if not path.is_file():
        pytest.skip("no real data: set GLM_ASSETS")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [next(file) for _ in range(60)]
    data, out = tmp_path / "rows.jsonl", tmp_path / "out.json"
    data.write_text("".join(rows), encoding="utf-8")
    arguments = ("--data", data, "--simulate", "A100", "--json", out, "--quiet")
    glmdiag("config", sample("official_lora"), *arguments)
    found = next(f for f in json.loads(out.read_text())["findings"] if f["rule"] == "CF221")
    assert found["data"]["lost"] > 0.3
    assert found["severity"] == "error"
