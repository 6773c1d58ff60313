"""A log that is followed while it is written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from itertools import pairwise

import pytest
from glmdiag.logs.following import Following


def line(step: int, loss: float = 1.0) -> str:
    return json.dumps({"step": step, "loss": loss, "grad_norm": 1.0, "learning_rate": 1e-4}) + "\n"


class Scripted:
    """In place of waiting: each wait does the next thing to the file."""

    def __init__(self, *deeds) -> None:
        self.deeds = list(deeds)
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self.deeds:
            self.deeds.pop(0)()

    def follow(self, path, **options) -> list[int]:
        followed = Following(
            path=path, poll=1.0, timeout=3.0, clock=lambda: self.now, sleep=self.sleep, **options
        )
        return [step.step for step in followed.steps() if step is not None]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "metrics.jsonl"


def test_a_file_that_is_not_there_yet_is_waited_for(path):
    waits = Scripted(lambda: None, lambda: path.write_text(line(1) + line(2)))
    assert waits.follow(path) == [1, 2]


def test_a_line_in_two_parts_is_one_step(path):
    def append(text):
        return lambda: path.write_text(path.read_text() + text)

    path.write_text(line(1))
    whole = line(2)
    assert Scripted(append(whole[:9]), append(whole[9:] + line(3))).follow(path) == [1, 2, 3]


def test_a_file_that_is_replaced_or_cut_short_is_read_from_its_begin(path):
    def replaced():
        path.with_suffix(".new").write_text(line(1) + line(2))
        os.replace(path.with_suffix(".new"), path)

    path.write_text(line(1) + line(2) + line(3))
    assert Scripted(replaced, lambda: path.write_text(line(1))).follow(path) == [1, 2, 3, 1, 2, 1]


def test_a_state_that_is_written_anew_gives_its_new_steps(tmp_path):
    path = tmp_path / "trainer_state.json"

    def write(last):
        history = [{"step": i, "loss": 1.0} for i in range(1, last + 1)]
        path.write_text(json.dumps({"log_history": history}, indent=2))

    write(2)
    assert Scripted(lambda: write(4)).follow(path) == [1, 2, 3, 4]


def test_it_ends_at_a_step_or_when_the_run_says_that_it_is_over(path):
    path.write_text("".join(map(line, range(1, 10))))
    assert Scripted().follow(path, until=4) == [1, 2, 3, 4]
    (path.parent / "run.json").write_text('{"state": "finished"}')
    waits = Scripted()
    assert waits.follow(path) == list(range(1, 10))
    assert waits.now == 0.0


def test_each_finding_is_told_once_with_its_step_while_another_writes(path, glmdiag):
    def write():
        with path.open("a") as file:
            for step in range(1, 60):
                file.write(line(step, 2 - step / 50 if step < 40 else float("nan")))
                file.flush()
                time.sleep(0.002)

    writer = threading.Thread(target=write)
    writer.start()
    report = path.parent / "log.html"
    status, out, err = glmdiag(
        "log", path, "--follow", "--poll", "0.01", "--until", "59", "--report", report
    )
    writer.join()
    told = [text for text in out.splitlines() if "LG001" in text]
    assert (status, len(told)) == (1, 1)
    assert "step 40: error LG001" in told[0]
    assert report.exists()
    assert "Traceback" not in err


def test_a_quiet_log_ends_after_the_timeout_with_status_0(path, glmdiag):
    path.write_text("".join(line(i, 2 - i / 50) for i in range(1, 40)))
    status, _, _ = glmdiag("log", path, "--follow", "--poll", "0.01", "--timeout", "0.05")
    assert status == 0


def test_a_file_that_never_comes_is_one_line_and_status_2(path, glmdiag):
    status, _, err = glmdiag("log", path, "--follow", "--poll", "0.01", "--timeout", "0.05")
    assert (status, err.count("\n")) == (2, 1)


@pytest.mark.parametrize("arguments", [["--until", "5"], ["--timeout", "1"], ["b", "--follow"]])
def test_options_that_do_not_fit_are_wrong_usage(path, glmdiag, arguments):
    path.write_text(line(1))
    status, out, _ = glmdiag("log", path, *arguments)
    assert (status, out) == (2, "")


def test_an_interrupt_ends_it_with_the_status_of_the_findings(path):
    path.write_text("".join(line(i, float("nan")) for i in range(1, 9)))
    # A test run in the background may have inherited to ignore interrupts.
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from glmdiag.cli import main; main()"
    )
    command = [sys.executable, "-c", code, "log", str(path), "--follow", "--poll", "0.05"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        assert "LG001" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        try:
            _, err = process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode == 1
    assert "stopped at step" in err


def test_steps_of_a_console_are_followed_too(tmp_path):
    path = tmp_path / "train.log"
    path.write_text("start\n")

    def append():
        with path.open("a") as file:
            file.writelines(f"{{'loss': {2 - i / 10}, 'epoch': {i / 10}}}\n" for i in range(4))

    steps = Scripted(append).follow(path)
    assert steps == [1, 2, 3, 4]
    assert all(b == a + 1 for a, b in pairwise(steps))
