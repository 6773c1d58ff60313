"""What commands import before they work: help knows all commands without loading one."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import click
import orjson
import pytest
from glmprep.lazy import Commands, LazyGroup

GROUPS = ("glmprep", "glmtrain", "glmdiag")
HELP = {"glmprep", "glmprep.console", "glmprep.errors", "glmprep.lazy"}
AUDIT = {
    *("click", "ftfy", "glmprep", "glmreport", "numpy", "orjson", "polars", "pyarrow", "rensa"),
    *("rich", "tokenizers", "typing_extensions", "wcwidth"),
}
"""What `glmprep audit` may load; below each what it brings with it."""
BROUGHT = {"cloudpickle", "cython_runtime", "markdown_it", "mdurl", "pygments", "zstandard"}
HEAVY = {
    *("torch", "transformers", "peft", "accelerate", "matplotlib", "pandas", "scipy", "sklearn"),
    *("great_expectations", "datasets", "ray", "jinja2", "fsspec", "huggingface_hub", "nltk"),
}
LOADED = """
import sys
before = set(sys.modules)
sys.argv = {words!r}
from {package}.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print(*sorted(set(sys.modules) - before), file=sys.stderr)
"""


def loaded(*words: str) -> set[str]:
    """The modules beyond Python's own that a command line imports."""
    script = LOADED.format(words=list(words), package=words[0])
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    modules = set(done.stderr.splitlines()[-1].split())
    return {m for m in modules if m.partition(".")[0] not in sys.stdlib_module_names}


def packages(modules: set[str]) -> set[str]:
    return {name for m in modules if not (name := m.partition(".")[0]).startswith("_")}


@pytest.mark.parametrize("argument", ["--help", "--version"])
@pytest.mark.parametrize("package", GROUPS)
def test_help_and_version_load_click_and_a_handful_of_our_own(package: str, argument: str) -> None:
    modules = loaded(package, argument)
    assert packages(modules) == {"click", "glmprep", package}
    ours = {m for m in modules if m.startswith("glm")}
    assert ours == HELP | {package, f"{package}.cli"}


def test_the_help_of_a_command_loads_that_command_and_no_library() -> None:
    modules = loaded("glmprep", "audit", "--help")
    assert packages(modules) == {"click", "glmprep"}
    assert {m for m in modules if m.startswith("glmprep.commands.")} == {"glmprep.commands.audit"}


def test_an_audit_loads_what_it_needs_and_nothing_of_training_or_reports(tmp_path: Path) -> None:
    data = tmp_path / "ten.jsonl"
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    data.write_bytes((orjson.dumps({"messages": turns}) + b"\n") * 10)
    modules = loaded("glmprep", "audit", str(data), "--fail-on", "never")
    assert not packages(modules) & HEAVY
    assert packages(modules) <= AUDIT | BROUGHT


@pytest.mark.parametrize("package", GROUPS)
def test_the_short_help_of_each_command_is_that_of_its_docstring(package: str) -> None:
    commands = importlib.import_module(f"{package}.cli").COMMANDS
    for name, command in commands.items():
        assert isinstance(command, click.Command)
        assert command.name == name
        assert command.get_short_help_str(limit=1000) == commands.words[name]


@pytest.mark.parametrize("package", GROUPS)
def test_every_command_that_there_is_is_offered(package: str) -> None:
    commands = importlib.import_module(f"{package}.cli").COMMANDS
    folder = Path(importlib.import_module(f"{package}.commands").__path__[0])
    files = {path.stem.replace("_", "-") for path in folder.glob("*.py")} - {"--init--"}
    assert set(commands) == files


def test_a_command_that_is_none_is_told_as_click_tells_it() -> None:
    group = LazyGroup(name="some", offers=Commands("glmprep.commands", {"audit": "Check."}))
    with pytest.raises(click.UsageError, match="No such command 'aduit'"):
        group.main(["aduit"], standalone_mode=False)
    with pytest.raises(KeyError):
        group.commands["convert"]
