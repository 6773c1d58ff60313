from __future__ import annotations

import json
import math

import pytest
from glmdiag.logs import read
from glmreport import Catalogue


def line(step: int, loss: float | None = 1.0, **more) -> str:
    entry = {"step": step, "loss": loss, "grad_norm": 1.0, "learning_rate": 1e-4, "epoch": 0.5}
    return json.dumps(entry | {"eval_loss": 1.0, "peak_memory": 1 << 30} | more)


@pytest.fixture
def write(tmp_path):
    def write(text: str | bytes, name: str = "metrics.jsonl"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def notes(log) -> list[str]:
    english = Catalogue.load("en")
    return [english.say(note) for note in log.notes]


def trainer_state(*entries: dict) -> str:
    return json.dumps({"best_metric": None, "log_history": list(entries)}, indent=2)


def test_metrics_are_read_with_their_fields(write):
    log = read(write(line(1, 2.5, event="overflow") + "\n" + line(2, 2.25) + "\n"))
    assert log.kind == "metrics"
    assert [(s.step, s.loss, s.event) for s in log.steps] == [(1, 2.5, "overflow"), (2, 2.25, None)]
    assert log.notes == []


def test_numbers_that_json_lacks_are_read_from_their_names_beside(write):
    text = line(1, None, nonfinite="inf", grad_norm=None, nonfinite_grad_norm="nan")
    (step,) = read(write(text)).steps
    assert (step.loss, step.nonfinite) == (None, "inf")
    assert math.isnan(step.grad_norm)


def test_bare_nan_and_infinity_are_read(write):
    log = read(write('{"step": 1, "loss": NaN}\n{"step": 2, "loss": -Infinity}\n'))
    assert [step.nonfinite for step in log.steps] == ["nan", "-inf"]


def test_a_trainer_state_gives_its_training_entries_only(write):
    text = trainer_state(
        {"step": 10, "loss": 2.0, "grad_norm": 1.0, "learning_rate": 1e-4, "epoch": 0.1},
        {"step": 10, "eval_loss": 1.9},
        {"step": 20, "train_runtime": 3.0, "train_loss": 1.8},
    )
    log = read(write(text, "trainer_state.json"))
    assert (log.kind, [step.step for step in log.steps]) == ("trainer_state", [10])


def test_a_trainer_state_on_one_line_is_recognised(write):
    text = json.dumps({"log_history": [{"step": 1, "loss": 2.0}]})
    assert read(write(text)).kind == "trainer_state"


def test_a_last_line_that_is_cut_off_is_left_out_and_said(write):
    log = read(write(line(1) + "\n" + line(2) + "\n" + line(3)[:20]))
    assert [step.step for step in log.steps] == [1, 2]
    assert notes(log) == [
        "Line 3, the last one, is cut off and was left out; "
        "the run was stopped while writing it, or still writes."
    ]


def test_damaged_lines_in_the_middle_are_counted(write):
    log = read(write("\n".join([line(1), "oops", "[3]", line(4), ""])))
    assert notes(log) == ["2 lines are no JSON object and were left out."]


def test_fields_that_no_step_has_are_said(write):
    log = read(write('{"step": 1, "loss": 2.0}\n'))
    assert [note.split(",")[0] for note in notes(log)] == [
        "No gradient norm was logged",
        "No learning rate was logged",
        "No loss on held-out rows",
    ]


def test_steps_that_go_back_are_said(write):
    log = read(write("\n".join(map(line, (1, 2, 3, 2, 3, 4)))))
    assert notes(log)[0].startswith("Step 2 follows step 3: the run was resumed")


@pytest.mark.parametrize("value", ["true", '"high"', "[1]", "{}"])
def test_a_loss_that_is_no_number_is_passed_over(write, value):
    log = read(write(line(1) + "\n" + f'{{"step": 2, "loss": {value}}}\n'))
    assert [step.loss for step in log.steps] == [1.0, None]


UNREADABLE = {
    "empty": b"",
    "binary": bytes(range(256)) * 8,
    "prose": b"hello world\n",
    "a list": b"[1, 2]\n",
    "another object": b'{"a": 1}\n',
    "a state without history": b'{"log_history": 7}\n',
    "a state that was cut off": b'{\n  "log_history": [\n    {"step": 1,',
    "nested beyond reason": b"[" * 100_000,
    "blank lines": b"\n\n\n",
    "no loss anywhere": b'{"step": 1, "eval_loss": 2.0}\n',
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_file_of_another_kind_is_one_line_and_status_2(write, glmdiag, name):
    path = write(UNREADABLE[name])
    status, out, err = glmdiag("log", path)
    assert (status, out) == (2, "")
    assert err.startswith(f"glmdiag: {path}: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("name", ["missing.jsonl", "."])
def test_a_missing_file_or_a_folder_is_one_line_and_status_2(tmp_path, glmdiag, name):
    for command in ("log", "labels"):
        status, out, err = glmdiag(command, tmp_path / name)
        assert (status, out, err.count("\n")) == (2, "", 1)


def test_log_tells_a_hidden_nan_with_status_1_and_a_report(write, glmdiag, tmp_path):
    steps = [
        {"step": i, "loss": 2.0 - i / 100, "grad_norm": 1.0, "learning_rate": 1e-4}
        for i in range(1, 51)
    ]
    steps += [{"step": i, "loss": 0.0, "grad_norm": math.nan} for i in range(51, 60)]
    path, report = write(trainer_state(*steps)), tmp_path / "log.html"
    status, out, err = glmdiag("log", path, "--report", report)
    assert status == 1
    assert "LG003" in out
    html = report.read_text("utf-8")
    assert "The zero loss from step 51 on is a hidden NaN" in html
    assert "第 51 步起 loss 为零，其实是被掩盖的 NaN" in html
    assert "Traceback" not in err


def test_a_log_without_any_finite_loss_still_has_a_page(write, glmdiag, tmp_path):
    path = write('{"step": 1, "loss": NaN}\n')
    status, _, _ = glmdiag("log", path, "--report", tmp_path / "log.html", "--json", "-")
    assert status == 1
    assert "none with a finite loss" in (tmp_path / "log.html").read_text("utf-8")


def test_a_sound_log_has_status_0(write, glmdiag):
    path = write("\n".join(line(i, 3 - i / 50) for i in range(1, 60)))
    status, out, _ = glmdiag("log", path, "--fail-on", "warning", "--json", "-")
    assert status == 0
    assert json.loads(out)["last_loss"] == pytest.approx(3 - 59 / 50)


def test_a_long_log_keeps_its_worst_point_in_the_chart():
    from glmdiag.views.log import POINTS, _line

    points = [(i, 1.0) for i in range(20_000)]
    points[7_777], points[9_999] = (7_777, 50.0), (9_999, math.nan)
    drawn = _line("loss", points)
    assert len(drawn.x) <= POINTS
    assert 50.0 in drawn.y
    assert any(map(math.isnan, drawn.y))
