"""Every command of the READMEs is run, in order, in an empty folder."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)
EXPECTED = re.compile(r"\s+# exit (\d)$")


def commands(name: str) -> list[str]:
    text = (ROOT / name).read_text("utf-8")
    return [line for block in BLOCK.findall(text) for line in block.splitlines() if line]


def environment() -> dict[str, str]:
    scripts = Path(sys.executable).parent
    return os.environ | {"PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}


@pytest.mark.slow
def test_every_command_of_the_readme_does_what_it_says(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    for line in commands("README.md"):
        expected = EXPECTED.search(line)
        done = subprocess.run(
            shlex.split(EXPECTED.sub("", line)),
            cwd=tmp_path,
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
        )
        wanted = int(expected[1]) if expected else 0
        assert done.returncode == wanted, f"{line}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr, line
    checked = {"audit", "worst", "simulate", "diff", "segment", "bucket", "verify", "show"}
    reports = checked | {"noted", "merge", "hw", "labels", "train", "log", "learned", "eval"}
    reports |= {"why", "memory", "step"}
    assert {path.stem for path in tmp_path.glob("*.html")} == reports
    assert (tmp_path / "run" / "adapter_model.safetensors").stat().st_size > 0


def test_both_readmes_show_the_same_commands() -> None:
    assert commands("README.md") == commands("README.zh.md")


def test_the_commands_table_names_every_command_that_exists() -> None:
    import importlib

    text = (ROOT / "README.md").read_text("utf-8")
    for package in ("glmprep", "glmtrain", "glmdiag"):
        group = getattr(importlib.import_module(f"{package}.cli"), package)
        for command in group.commands:
            assert f"{package} {command}" in text
