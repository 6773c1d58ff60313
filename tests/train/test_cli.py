from __future__ import annotations

import json
import subprocess
import sys

import pytest
from glmprep.errors import UsageError
from glmtrain.cli import glmtrain

FAST = ["--max-steps", "4", "--lr", "0.02", "--dtype", "fp32"]


def call(*arguments):
    """The exit status of a command line."""
    with pytest.raises(SystemExit) as end:
        glmtrain.main([str(a) for a in arguments], standalone_mode=False)
    return end.value.code


@pytest.mark.parametrize(
    ("command", "option"), [("run", "--gradient-checkpointing"), ("chat", "--max-new-tokens")]
)
def test_help_loads_no_torch(command, option):
    script = (
        "import sys\nfrom glmtrain.cli import glmtrain\n"
        f"glmtrain.main(['{command}', '--help'], standalone_mode=False)\n"
        "sys.exit(bool({'torch', 'transformers', 'polars'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert option in done.stdout


def test_without_torch_one_line_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(
        "glmtrain.libraries.find_spec", lambda name: None if name == "torch" else True
    )
    with pytest.raises(UsageError, match=r"^models need torch: pip install torch.*\[train\]"):
        glmtrain.main(["run", "-o", str(tmp_path / "run")], standalone_mode=False)


def test_a_run_prints_its_decisions_and_what_came_of_it(small_model, bucketed, tmp_path, capsys):
    files = ["--json", tmp_path / "r.json", "--report", tmp_path / "r.html"]
    model = ["--model", small_model, "--shards", bucketed, "-o", tmp_path / "run"]
    assert call("run", *model, *FAST, *files, "--set", "run.sample_tokens=32") == 0
    shown = capsys.readouterr()
    assert "trained 4 steps; adapter in" in shown.out
    assert "of the trained answers" in shown.out
    assert "lora.rank = 4 (what 24 conversations can bear)" in shown.err
    assert "step 4/4  loss" in shown.err
    result = json.loads((tmp_path / "r.json").read_text())
    assert result["state"] == "finished"
    assert result["learned"]["verdict"] in {"learned", "unchanged", "worse"}
    assert "findings" in result
    page = (tmp_path / "r.html").read_text()
    assert "<svg" in page
    assert "训练" in page


def test_json_on_standard_output_is_alone_there(small_model, bucketed, tmp_path, capsys):
    model = ["--model", small_model, "--shards", bucketed, "-o", tmp_path / "run"]
    call("run", *model, *FAST, "--json", "-", "--quiet")
    shown = capsys.readouterr()
    assert json.loads(shown.out)["last_step"] == 4
    assert shown.err == ""


def test_a_stopped_run_says_how_to_go_on_and_exits_with_1(
    small_model, bucketed, tmp_path, capsys, monkeypatch
):
    from glmtrain.stop import StopSignal

    plain = StopSignal.__enter__

    def stopped(self):
        plain(self)
        self._note(15, None)
        return self

    monkeypatch.setattr(StopSignal, "__enter__", stopped)
    model = ["--model", small_model, "--shards", bucketed, "-o", tmp_path / "run"]
    report = ["--report", tmp_path / "r.html"]
    assert call("run", *model, *FAST, *report) == 1
    line = f"go on with: glmtrain run --output {tmp_path / 'run'} --resume"
    assert f"stopped by SIGTERM after step 1 of 4; a checkpoint is saved, {line}" in (
        capsys.readouterr().out
    )
    assert "The run was stopped after step 1 of 4" in (tmp_path / "r.html").read_text()
    monkeypatch.undo()
    assert call("run", "--output", tmp_path / "run", "--resume") == 0


def test_options_override_the_file_and_set_overrides_both(small_model, bucketed, tmp_path):
    path = tmp_path / "settings.toml"
    path.write_text(
        f'[data]\nshards = ["{bucketed}"]\n[model]\npath = "{small_model}"\n'
        "[run]\nmax_steps = 9\nseed = 5\n[lora]\nrank = 2\n"
    )
    output = ["--output", tmp_path / "run", "--quiet"]
    call("run", "--config", path, *FAST, *output, "--set", "lora.rank=3")
    resolved = (tmp_path / "run" / "config.resolved.toml").read_text()
    assert all(line in resolved for line in ("max_steps = 4", "seed = 5", "rank = 3"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "rank=3"], "write SECTION.KEY=VALUE"),
        (["--set", "lora.rnk=3"], "--set lora.rnk=3: no setting lora.rnk; did you mean rank"),
        (["--method", "lra"], "model.method is one of"),
        (["--resume", "--output", "nowhere"], "nowhere: holds no run"),
        ([], "pass --shards DIR"),
    ],
)
def test_wrong_calls_are_refused_in_one_line(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=message) as caught:
        glmtrain.main(["run", *arguments], standalone_mode=False)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
