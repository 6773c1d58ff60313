"""Steps of real small runs done again; each run has one planted fault."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from glmdiag.replay.activations import Spot, Trace
from glmdiag.replay.contributions import Pass
from glmdiag.replay.replay import replay
from glmdiag.replay.replay_rules import REPLAY_RULES, judge
from glmdiag.replay.replayed import Record, Replay, Weight
from glmdiag.views.replay import page
from glmprep.errors import InputError, UsageError
from glmreport import render
from safetensors.torch import load_file, save_file

from tests.diagnose import replay_runs as runs
from tests.train.conftest import conversation, to_rows, write_shards

HALF = {"dtype": "fp16", "initial_loss_scale": 16.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("replay")


@pytest.fixture(scope="module")
def rows(folder):
    return runs.shards(folder / "shards")


@pytest.fixture(scope="module")
def plain(folder):
    return runs.model(folder / "plain")


@pytest.fixture(scope="module")
def overflowing(folder, rows):
    """In fp16, one row's activations are too large."""
    base = runs.model(folder / "gain", gain=300.0)
    return runs.run(folder / "overflowing", base, rows, precision=HALF, run={"save_every": 2})


@pytest.fixture(scope="module")
def healthy(folder, plain, rows):
    every = {"save_every": 2, "keep_checkpoints": 9}
    return runs.run(folder / "healthy", plain, rows, run=every)


def first_left_out(run):
    return next(line["step"] for line in runs.lines(run) if line["event"] == "skipped")


def rules(found):
    return [finding.rule for finding in judge(found)]


def digests(run):
    return {
        path.relative_to(run): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(run.rglob("*"))
        if path.is_file()
    }


def test_an_overflow_in_fp16_names_module_record_and_token(overflowing):
    before = digests(overflowing)
    found = replay(overflowing, first_left_out(overflowing))
    (finding,) = judge(found)
    assert (finding.rule, found.origin, found.rerun) == ("LG121", "evidence", 0)
    assert finding.data["module"] == "model.layers.0.mlp.down_proj"
    assert finding.data["side"] == "input"  # the product of gate and up projection
    assert finding.data["peak"] > 65504 == finding.data["limit"]
    assert [record.row for record in found.broken] == [7]
    worst = found.records[0]
    assert (worst.row, worst.conversation, worst.start.text) == (7, "c7-0", str(runs.RARE))
    assert f"{runs.RARE}" in worst.excerpt
    assert "⟦20 21 22" in worst.excerpt
    assert not found.passes["fp16"].finite
    assert found.passes["fp32"].finite
    assert digests(overflowing) == before


@pytest.mark.parametrize("step", [1, 4, 6])
def test_a_healthy_step_gives_the_logs_numbers_to_the_last_digit(healthy, step):
    found, line = replay(healthy, step), runs.lines(healthy)[step - 1]
    assert found.compared.loss == line["loss"]
    assert found.compared.norm == pytest.approx(line["grad_norm"], rel=1e-6)
    assert (found.since, found.rerun, found.missing) == ((step - 1) // 2 * 2, (step - 1) % 2, 0)
    assert found.differs in (None, 0.0)
    assert rules(found) == []


def test_steps_that_are_too_many_to_train_again_are_said(healthy):
    found = replay(healthy, 2, most=0)
    assert (found.origin, found.rerun, found.missing) == ("beginning", 0, 1)
    assert found.compared.loss != runs.lines(healthy)[1]["loss"]
    assert "1 step behind" in render(page(found, [], "glmdiag replay"))


def test_another_format_tells_what_it_would_do(folder, rows, overflowing):
    base = folder / "gain"
    run = runs.run(folder / "single", base, rows, run={"max_steps": 6})
    step = next(line["step"] for line in runs.lines(run) if 7 in line["rows"])
    assert rules(replay(run, step)) == []
    found = replay(run, step, dtype="fp16")
    assert (rules(found), found.own, found.dtype) == (["LG121"], "fp32", "fp16")


def test_a_record_that_is_not_finite_in_fp32_either_is_named(folder, rows):
    base = runs.model(folder / "inf", gain=1.7e19)
    run = runs.run(folder / "infinite", base, rows)
    found = replay(run, first_left_out(run))
    assert rules(found) == ["LG123"]
    assert [record.row for record in found.broken] == [7]


def test_a_nan_in_a_weight_names_weight_row_and_the_record_that_uses_it(folder, plain, rows):
    """The weight breaks in a checkpoint, and the run goes on from there."""
    whole = {"method": "full"}
    first = runs.run(folder / "first", plain, rows, model=whole, run={"max_steps": 1})
    kept = folder / "spoiled"
    shutil.copytree(first / "checkpoints" / "step-000001", kept)
    weights = load_file(kept / "weights.safetensors")
    weights["model.embed_tokens.weight"][runs.RARE] = math.nan
    save_file(weights, kept / "weights.safetensors")
    run = runs.run(folder / "second", plain, rows, model=whole, start=kept)
    found = replay(run, first_left_out(run))
    (finding,) = judge(found)
    assert (finding.rule, finding.data["weight"]) == ("LG122", "model.embed_tokens.weight")
    assert finding.data["rows"] == f" [{runs.RARE}]"
    assert [record.row for record in found.broken] == [7]
    assert found.records[0].passes["fp32"].first.module == "model.embed_tokens"


def test_a_rate_far_too_high_is_told_from_a_bad_record(folder, plain, rows):
    run = runs.run(
        folder / "hot", plain, rows, model={"method": "full"}, optimiser={"learning_rate": 1e30}
    )
    found = replay(run, 2)
    assert rules(found) == ["LG124"]
    assert len(found.broken) == len(found.records) > 1
    later = replay(run, 4)
    assert (later.origin, later.since, later.rerun) == ("evidence", 1, 2)
    assert rules(later) == ["LG124"]


def test_packed_rows_are_taken_apart_and_the_segment_is_named(folder, overflowing):
    random = np.random.default_rng(2)
    made = [[conversation(random, 1) for _ in range(3)] for _ in range(4)]
    made[2][1][0][2] = runs.RARE
    shards = write_shards(folder / "packed", to_rows(made, [128] * 4), layout="packed")
    run = runs.run(folder / "of-packed", folder / "gain", shards, precision=HALF)
    (record,) = replay(run, first_left_out(run)).broken
    assert (record.row, record.segment, record.conversation) == (2, 1, "c2-1")


def test_one_row_alone_can_be_looked_at(overflowing):
    step = first_left_out(overflowing)
    found = replay(overflowing, step, row=7)
    assert ([record.row for record in found.records], rules(found)) == ([7], ["LG121"])
    with pytest.raises(UsageError, match=rf"--row 99: not in step {step}"):
        replay(overflowing, step, row=99)


def test_shards_that_moved_are_found_again(folder, healthy, rows):
    moved = folder / "elsewhere"
    shutil.copytree(rows, moved)
    run = folder / "moved-run"
    shutil.copytree(healthy, run)
    record = json.loads((run / "run.json").read_text())
    record["shards"][0]["folder"] = str(folder / "gone")
    (run / "run.json").write_text(json.dumps(record))
    with pytest.raises(UsageError, match="name the folder where they lie with --shards"):
        replay(run, 1)
    assert replay(run, 1, moved=[str(moved)]).compared.loss == runs.lines(run)[0]["loss"]


def test_a_run_with_a_kernel_of_cuda_is_replayed_where_there_is_none(folder, healthy):
    run = folder / "fused-run"
    shutil.copytree(healthy, run)
    settings = run / "config.resolved.toml"
    lines = settings.read_text()
    assert lines.count('kernel = "auto"') == 1
    settings.write_text(lines.replace('kernel = "auto"', 'kernel = "liger"'))
    assert replay(run, 1).compared.loss == runs.lines(run)[0]["loss"]


def test_the_command_tells_the_record_and_writes_page_and_json(overflowing, glmdiag, tmp_path):
    report, result = tmp_path / "x.html", tmp_path / "x.json"
    step = first_left_out(overflowing)
    status, out, _ = glmdiag(
        "replay", overflowing, "--step", step, "--report", report, "--json", result
    )
    assert status == 1
    assert "row 7 (c7-0)" in out
    data = json.loads(result.read_text())
    assert data["findings"][0]["rule"] == "LG121"
    assert data["records"][0]["first_token_not_finite"] == 2
    text = report.read_text("utf-8")
    assert "在 fp16 中溢出" in text
    assert "overflows in fp16" in text


def spoil_weights(run):
    path = next((run / "evidence").glob("*/weights.safetensors"))
    path.write_bytes(path.read_bytes()[:100])


def spoil_facts(run):
    next((run / "evidence").glob("*/step.json")).write_text("{")


def spoil_rows(run):
    path = next((run / "evidence").glob("*/step.json"))
    path.write_text(path.read_text().replace('"rows": [', '"rows": [5555,'))


def spoil_record(run):
    record = json.loads((run / "run.json").read_text())
    del record["shards"][0]["manifest_sha256"]
    (run / "run.json").write_text(json.dumps(record))


def spoil_base(run):
    record = json.loads((run / "run.json").read_text())
    record["base"]["fingerprint"] = "0"
    (run / "run.json").write_text(json.dumps(record))


def lose_base(run):
    path = run / "config.resolved.toml"
    path.write_text(path.read_text().replace('/gain"', '/gone"'))


def spoil_log(run):
    (run / "metrics.jsonl").write_text('{"step": {}}\n')


def lose_log(run):
    (run / "metrics.jsonl").unlink()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (spoil_weights, "its weights do not fit the model"),
        (spoil_facts, "not what a run keeps of a step"),
        (spoil_rows, "its rows are not those"),
        (spoil_record, "its record or log is damaged"),
        (spoil_base, "no longer the model"),
        (lose_base, "no such folder"),
        (spoil_log, "its record or log is damaged"),
        (lose_log, "its log has steps 1 to 0"),
        (shutil.rmtree, "holds no run"),
    ],
)
def test_what_is_damaged_is_said_in_one_line(overflowing, glmdiag, tmp_path, spoil, said):
    run = tmp_path / "run"
    shutil.copytree(overflowing, run)
    spoil(run)
    status, out, err = glmdiag("replay", run, "--step", first_left_out(overflowing))
    assert (status, out) == (2, "")
    assert said in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize("step", [0, -1, 7, 10**9])
def test_a_step_that_the_run_never_came_to_is_refused(healthy, step):
    with pytest.raises(UsageError, match="its log has steps 1 to 6"):
        replay(healthy, step)


def test_shards_whose_rows_changed_are_refused(folder, healthy, rows):
    changed = folder / "changed"
    shutil.copytree(rows, changed)
    path = next(changed.glob("*.parquet"))
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(InputError, match="gone or changed since the run"):
        replay(healthy, 1, moved=[str(changed)])


def seen(loss=1.0, norm=1.0, *, dtype="fp32", spot=None, gradient=None):
    trace = Trace(first=spot, gradient=gradient, peaks={("m", "output"): 10.0})
    return Pass(dtype=dtype, loss=loss, norm=norm, trace=trace)


def record(row=0, *, half=None, **exact):
    passes = {"fp16": half or seen(dtype="fp16"), "fp32": seen(**exact)}
    return Record(
        row=row,
        folder="shards",
        number=row,
        segment=0,
        conversation=f"<b>{row}",
        tokens=9,
        labels=3,
        passes=passes,
        excerpt="\x1b[31m⟦<script>⟧",
    )


SPOT = Spot(module="m", side="output", peak=math.nan)
NAN = {"loss": math.nan, "norm": math.nan, "spot": SPOT}
SOUND = Replay(
    run=Path("run"),
    step=3,
    logged={"loss": 1.0},
    own="fp16",
    dtype="fp16",
    origin="evidence",
    since=2,
    rerun=0,
    missing=0,
    differs=None,
    ranks=1,
    vocabulary=320,
    passes={"fp16": seen(dtype="fp16"), "fp32": seen()},
    records=[record(row) for row in range(5)],
    weights=[Weight(name="w", peak=1.0)],
)


def with_passes(half, exact, **changes):
    return replace(SOUND, passes={"fp16": half, "fp32": exact}, **changes)


OTHERS = [record(row) for row in range(1, 5)]
FAULTY = {
    "LG121": with_passes(seen(**NAN, dtype="fp16"), seen()),
    "LG122": replace(SOUND, weights=[Weight(name="w", peak=math.inf, rows=[4])]),
    "LG123": with_passes(seen(**NAN), seen(**NAN), records=[record(**NAN), *OTHERS]),
    "LG124": with_passes(seen(**NAN), seen(**NAN), records=[record(n, **NAN) for n in range(4)]),
    "LG125": with_passes(seen(), seen(norm=math.inf, gradient=replace(SPOT, side="gradient"))),
    "LG126": with_passes(seen(norm=math.inf, dtype="fp16"), seen()),
    "LG127": replace(SOUND, records=[record(norm=50.0), *OTHERS]),
    "LG128": replace(SOUND, records=[record(n, loss=20.0) for n in range(4)]),
    "LG129": replace(SOUND, logged={"loss": None, "nonfinite": "nan"}),
}


@pytest.mark.parametrize("rule", REPLAY_RULES, ids=lambda rule: rule.id)
def test_each_rule_fires_on_its_fault_alone(rule):
    assert rules(FAULTY[rule.id]) == [rule.id]
    assert list(rule(SOUND)) == []


@pytest.mark.parametrize(
    "sound",
    [
        replace(SOUND, records=[record(norm=5.0), *OTHERS]),
        replace(SOUND, records=[record(norm=50.0), *OTHERS[:2]]),  # too few to compare
        replace(SOUND, records=[record(loss=20.0), *OTHERS]),
        replace(SOUND, logged={"loss": None, "nonfinite": "nan"}, only=3),
        replace(SOUND, records=[]),
    ],
)
def test_what_only_looks_like_a_fault_is_passed_over(sound):
    assert rules(sound) == []


@pytest.mark.parametrize("found", [SOUND, *FAULTY.values()])
def test_a_page_is_made_of_every_outcome_and_escapes_what_the_data_holds(found):
    told = replace(found, records=[replace(one, excerpt="<script>x") for one in found.records])
    text = render(page(told, judge(told), "glmdiag replay run --step 3"))
    assert "<script>x" not in text
    assert "<b>0" not in text


@pytest.mark.slow
def test_text_file_and_line_are_told_of_real_shards_and_hostile_text_is_escaped(tmp_path, glmdiag):
    """Chat in words, through the whole suite with the built-in tiny model."""
    from glmprep.cli import glmprep

    answer = "<script>alert(1)</script>\x1b]0;title\x07 好的"
    turns = [{"role": "user", "content": "你好"}, {"role": "assistant", "content": answer}]
    lines = [json.dumps({"id": f"one-{n}", "messages": turns}) for n in range(2)]
    data, shards = tmp_path / "chat.jsonl", tmp_path / "shards"
    data.write_text("\n".join(lines), encoding="utf-8")
    asked = ["bucket", str(data), "-o", str(shards), "--max-length", "128", "--quiet"]
    with pytest.raises(SystemExit, match="0"):
        glmprep.main(asked, standalone_mode=False)
    run = runs.run(tmp_path / "run", Path("tiny"), shards, run={"max_steps": 1})
    report = tmp_path / "x.html"
    status, out, _ = glmdiag("replay", run, "--step", 1, "--report", report)
    assert status == 0
    assert "chat.jsonl:1" in out
    assert "你好" in out
    assert "\x1b" not in out
    text = report.read_text("utf-8")
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text
