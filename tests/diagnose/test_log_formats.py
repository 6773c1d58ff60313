"""Logs of other trainers, and what is wrong with files as they are found."""

from __future__ import annotations

import json
import math

import pytest
from glmdiag.logs import read
from glmreport import Catalogue
from glmtrain.detectors import detect

GIB = 1 << 30


@pytest.fixture
def write(tmp_path):
    def write(text: str | bytes, name: str = "log.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def notes(log) -> str:
    english, chinese = Catalogue.load("en"), Catalogue.load("zh")
    assert all(chinese.say(note) for note in log.notes)
    return " ".join(english.say(note) for note in log.notes)


def jsonl(*entries: dict) -> str:
    return "".join(json.dumps(entry) + "\n" for entry in entries)


def test_llamafactory(write):
    text = jsonl(
        {"current_steps": 5, "total_steps": 100, "loss": 1.5, "lr": 1e-4, "epoch": 0.1},
        {"current_steps": 10, "total_steps": 100, "loss": 1.25, "lr": 9e-5, "epoch": 0.2},
        {"current_steps": 10, "total_steps": 100, "eval_loss": 1.4, "epoch": 0.2},
        {"current_steps": 10, "total_steps": 100, "percentage": 10.0, "elapsed_time": "0:00:09"},
    )
    log = read(write(text, "trainer_log.jsonl"))
    first, last = log.steps
    assert (log.kind, first.step, first.learning_rate, first.planned) == (
        "llamafactory",
        5,
        1e-4,
        100,
    )
    assert (last.loss, last.eval_loss, last.epoch) == (1.25, 1.4, 0.2)


def test_swift(write):
    entry = {
        "loss": 1.2,
        "acc": 0.7,
        "grad_norm": 0.5,
        "learning_rate": 1e-5,
        "memory(GiB)": 12.5,
        "train_speed(s/it)": 2.0,
        "epoch": 0.1,
        "global_step/max_steps": "5/100",
        "percentage": "5.00%",
        "elapsed_time": "10s",
    }
    log = read(write(jsonl(entry), "logging.jsonl"))
    (step,) = log.steps
    assert (log.kind, step.step, step.planned, step.loss) == ("swift", 5, 100, 1.2)
    assert (step.memory, step.speed) == (12.5 * GIB, 0.5)


def test_the_trainers_console_takes_steps_from_the_bar(write):
    text = (
        "Map: 100%|####| 50/50 [00:00<00:00, 9.1it/s]\n"
        "\r  0%|          | 0/100 [00:00<?, ?it/s]\r 10%|#         | 10/100 [00:05<00:45,  2.0it/s]"
        "{'loss': 1.5, 'grad_norm': nan, 'learning_rate': 5e-05, 'epoch': 0.1}\n"
        "\r  0%|          | 0/13 [00:00<?, ?it/s]\r 20%|##        | 20/100 [00:10<00:40,  2.0it/s]"
        "{'loss': '1.25', 'grad_norm': '0.5', 'learning_rate': '4e-05', 'epoch': '0.2'}\n"
        "{'eval_loss': 1.4, 'eval_runtime': 3.1, 'epoch': 0.2}\n"
        "{'train_runtime': 30.1, 'train_loss': 1.3, 'epoch': 0.2}\n"
    )
    log = read(write(text))
    assert log.kind == "console"
    assert [(s.step, s.loss, s.eval_loss, s.planned) for s in log.steps] == [
        (10, 1.5, None, 100),
        (20, 1.25, 1.4, 100),
    ]
    assert math.isnan(log.steps[0].grad_norm)


def test_a_console_without_a_bar_is_numbered_in_its_order_and_says_so(write):
    log = read(write("".join(f"{{'loss': {2 - i / 10}, 'epoch': {i / 10}}}\n" for i in range(5))))
    assert [s.step for s in log.steps] == [1, 2, 3, 4, 5]
    assert "numbered in their order" in notes(log)


def test_deepspeeds_console(write):
    text = (
        "[2026-05-01 10:00:00,000] [INFO] [logging.py:96:log_dist] [Rank 0] step=10, skipped=1, "
        "lr=[5e-05], mom=[(0.9, 0.999)]\n"
        "steps: 10 loss: 1.2500 iter time (s): 0.500 samples/sec: 16.0\n"
        "[2026-05-01 10:00:01,000] [INFO] [loss_scaler.py:190:update_scale] [deepspeed] OVERFLOW! "
        "Rank 0 Skipping step. Attempted loss scale: 65536, reducing to 32768\n"
        "steps: 20 loss: nan iter time (s): 0.500 samples/sec: 16.0\n"
    )
    log = read(write(text))
    assert [s.step for s in log.steps if s.loss is not None or s.nonfinite] == [10, 20]
    assert [s.loss_scale for s in log.steps if s.loss_scale] == [32768.0]
    assert {s.event for s in log.steps} >= {"overflow"}
    assert [f.data["step"] for f in detect(log.steps) if f.rule == "LG001"] == [20]


END = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 23.69 GiB"


@pytest.mark.parametrize(
    ("last", "rule"),
    [(END, "LG033"), ("ValueError: bad \x1b[31mrow", "LG034"), ("Killed, out of memory", "LG033")],
)
def test_the_end_of_a_console_tells_why_the_run_ended(write, last, rule):
    steps = "".join(f"{{'loss': {2 - i / 50}, 'epoch': {i / 50}}}\n" for i in range(30))
    trace = 'Traceback (most recent call last):\n  File "train.py", line 3, in <module>\n'
    log = read(write(steps + trace + last + "\n"))
    (found,) = (f for f in detect(log.steps) if f.severity == "error")
    assert (found.rule, found.data["step"]) == (rule, 30)
    assert "\x1b" not in found.evidence
    assert str(found.data["message"]).startswith(last[:12])


def test_memory_that_runs_out_in_an_evaluation_is_told_from_that_in_training(write):
    frames = '  File "trainer.py", line 4, in evaluate\n  File "model.py", line 9, in forward\n'
    trace = f"Traceback (most recent call last):\n{frames}{END}\n"
    log = read(write("{'loss': 2.0, 'epoch': 0.1}\n" + trace))
    assert [f.rule for f in detect(log.steps)] == ["LG046"]


def test_a_run_that_failed_before_its_first_step_is_told_by_its_message(write):
    text = "Traceback (most recent call last):\n  File 'a.py'\nValueError: not both\n"
    (found,) = detect(read(write(text)).steps)
    assert (found.rule, found.data["message"]) == ("LG034", "ValueError: not both")


def test_a_console_beside_a_log_says_how_the_run_ended(write):
    steps = write(jsonl(*({"step": i, "loss": 2.0 - i / 100} for i in range(1, 21))), "a")
    ended = write(f"Traceback (most recent call last):\n{END}\n", "b")
    (found,) = (f for f in detect(read(steps, ended).steps) if f.severity == "error")
    assert (found.rule, found.data["step"]) == ("LG033", 20)


def test_code_in_a_console_is_text(write):
    text = "{'loss': __import__('os').abort(), 'epoch': 1}\n{'loss': 1.5, 'epoch': 0.1}\n"
    assert [s.loss for s in read(write(text)).steps if s.loss is not None] == [1.5]


def test_tensorboard(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    for name, steps in (("runs/a", (10, 20)), ("runs/b", (20, 30))):
        writer = EventFileWriter(str(tmp_path / name))
        for step in steps:
            values = [
                Summary.Value(tag="train/loss", simple_value=30.0 / step),
                Summary.Value(tag="train/learning_rate", simple_value=1e-4),
                Summary.Value(tag="eval/loss", simple_value=1.5),
                Summary.Value(tag="eval/runtime", simple_value=9.0),
            ]
            writer.add_event(Event(step=step, summary=Summary(value=values)))
        writer.close()
    log = read(tmp_path / "runs" / "a")
    assert (log.kind, [s.step for s in log.steps]) == ("tensorboard", [10, 20])
    assert [s.loss for s in read(tmp_path).steps] == [3.0, 1.5, 1.0]
    assert log.steps[0].eval_loss == 1.5
    (file,) = (tmp_path / "runs" / "a").iterdir()
    file.write_bytes(file.read_bytes()[:-20])
    assert [s.step for s in read(file).steps] == [10]


def test_tensorboards_package_is_asked_for_where_it_is_missing(write, monkeypatch, glmdiag):
    from glmdiag.logs import tensorboard

    monkeypatch.setattr(tensorboard, "find_spec", lambda _: None)
    status, _, err = glmdiag("log", write(b"\0" * 40, "events.out.tfevents.1.host"))
    assert status == 2
    assert "pip install tensorboard" in err


def test_a_folder_gives_its_newest_state(write, tmp_path):
    for step in (50, 200, 1000):
        history = [{"step": step, "loss": 1.5}]
        write(json.dumps({"log_history": history}), f"run/checkpoint-{step}/trainer_state.json")
    write("{}", "run/checkpoint-last/trainer_state.json")
    assert [s.step for s in read(tmp_path / "run").steps] == [1000]


def test_a_folder_gives_our_metrics_first_with_the_limit_of_its_settings(write, tmp_path):
    write(jsonl({"step": 3, "loss": 1.5}), "run/metrics.jsonl")
    write("[optimiser]\nmax_grad_norm = 0.5\n", "run/config.resolved.toml")
    write(jsonl({"current_steps": 7, "loss": 1.5}), "run/trainer_log.jsonl")
    (step,) = read(tmp_path / "run").steps
    assert (step.step, step.max_grad_norm) == (3, 0.5)


def test_a_folder_without_a_log_is_one_line_and_status_2(tmp_path, glmdiag):
    status, out, err = glmdiag("log", tmp_path)
    assert (status, out, err.count("\n")) == (2, "", 1)


def test_pieces_of_a_run_are_joined_by_step_and_the_later_one_counts(write):
    first = write(jsonl(*({"step": i, "loss": 2.0, "grad_norm": 1.0} for i in range(1, 31))), "a")
    later = write(jsonl(*({"step": i, "loss": 1.0} for i in range(21, 41))), "b")
    log = read(first, later)
    assert [s.step for s in log.steps] == list(range(1, 41))
    assert [log.steps[19].loss, log.steps[20].loss] == [2.0, 1.0]
    assert (log.steps[20].event, log.steps[20].grad_norm) == ("resumed", 1.0)
    assert "10 steps are in several pieces" in notes(log)


def test_a_state_that_was_cut_off_gives_its_whole_entries(write):
    history = [{"step": i, "loss": 2 - i / 100} for i in range(1, 50)]
    text = json.dumps({"max_steps": 100, "log_history": history}, indent=2)
    log = read(write(text[: len(text) // 2], "trainer_state.json"))
    assert 20 < len(log.steps) < 30
    assert "cut off" in notes(log)


LINES = jsonl(*({"step": i, "loss": 2.0 - i / 100, "grad_norm": 1.0} for i in range(1, 21)))
DAMAGED = {
    "a byte order mark": b"\xef\xbb\xbf" + LINES.encode(),
    "UTF-16": LINES.encode("utf-16"),
    "UTF-16 without a mark": LINES.encode("utf-16-le"),
    "a damaged first line": b'{"step": 0, "lo\n' + LINES.encode(),
    "prose first": b"starting\n\n" + LINES.encode(),
    "NUL bytes": LINES.encode().replace(b"}\n", b"}\n" + b"\0" * 5, 3),
    "another encoding": LINES.encode() + "训练完成\n".encode("gb18030"),
    "a huge line": LINES.encode() + b"x" * 9_000_000 + b"\n",
    "carriage returns": LINES.encode().replace(b"\n", b"\r\n"),
    "numbers as text": LINES.replace("1.0}", '"1.0"}').encode(),
    "numbers of hundreds of digits": LINES.encode() + b'{"step": ' + b"9" * 400 + b', "loss": 1}\n',
    "two formats": LINES.encode() + b"{'loss': 1.5, 'epoch': 1.0}\n",
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_gives_what_is_whole(write, name):
    log = read(write(DAMAGED[name]))
    assert [s.step for s in log.steps] == list(range(1, 21))
    assert all(s.grad_norm == 1.0 for s in log.steps)
    assert notes(log)


def test_names_of_numbers_that_json_lacks_are_read(write):
    text = jsonl({"step": 1, "loss": "NaN"}, {"step": 2, "loss": "-Infinity"})
    assert [s.nonfinite for s in read(write(text)).steps] == ["nan", "-inf"]


def test_a_long_log_takes_little_memory_and_gives_its_steps_back(write):
    import tracemalloc

    n = 20_000
    entry = {"loss": 1.5, "grad_norm": 1.0, "learning_rate": 1e-4, "epoch": 0.5}
    path = write(jsonl(*({"step": i, **entry} for i in range(n))))
    tracemalloc.start()
    log = read(path)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept / n < 100
    assert log.steps[n - 1] == log.steps[-1]
    assert [s.step for s in log.steps[5:8]] == [5, 6, 7]
