"""The checks as a Great Expectations project."""

from __future__ import annotations

import builtins
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from glmprep import families, tokenizer
from glmprep.audit import Result as Audit
from glmprep.audit import audit
from glmprep.errors import InputError, UsageError
from glmprep.gxresult import Check, Result
from glmprep.source import Source

# Its own imports and pandas' warn of things that are not ours to change.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
MESSAGES = Path("gx", "expectations", "messages.json")
GUARD = """
import runpy, socket, sys

def refused(*_, **__):
    raise AssertionError("the network was tried")

socket.getaddrinfo = socket.create_connection = socket.socket.connect = refused
sys.argv = [sys.argv[1]]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    assert not [name for name in sys.modules if name.startswith("glmprep")]
"""


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Audit:
    sound = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    rows = [sound, [*sound, {"role": "user", "content": "  "}]]
    data = tmp_path_factory.mktemp("gx") / "chats.jsonl"
    data.write_text("".join(json.dumps({"messages": messages}) + "\n" for messages in rows))
    vocabulary = tokenizer.load()
    family = families.load("auto", vocabulary)
    source = Source(paths=[str(data)])
    return audit(source, family=family, tokenizer=vocabulary, max_length=1000, keep_flags=True)


@pytest.fixture(scope="module")
def written(audited: Audit, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """A project, written while every way into the network is watched."""
    pytest.importorskip("great_expectations")
    from glmprep.gx import write_project

    tried: list[Any] = []

    def refused(*arguments: Any, **_: Any) -> Any:
        tried.append(arguments)
        raise OSError("no network here")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refused)
        patch.setattr(socket, "create_connection", refused)
        patch.setattr(socket, "getaddrinfo", refused)
        result = write_project(audited, tmp_path_factory.mktemp("project"))
    assert tried == []
    return result


@pytest.fixture
def project(written: Result, tmp_path: Path) -> Path:
    """A copy of the project, elsewhere."""
    return Path(shutil.copytree(written.folder, tmp_path / "copy"))


def edit(project: Path, change: Callable[[list[dict[str, Any]]], object]) -> None:
    """Change the expectations on messages, as a person would in an editor."""
    path = project / MESSAGES
    suite = json.loads(path.read_text())
    change(suite["expectations"])
    path.write_text(json.dumps(suite))


def on(rule: str, expectations: list[dict[str, Any]]) -> dict[str, Any]:
    [found] = [one for one in expectations if one["kwargs"].get("column") == rule]
    return found


def run_again(project: Path) -> subprocess.CompletedProcess[str]:
    """The project's own script, in a process of its own without a network."""
    script = str(project / "run_checkpoint.py")
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", GUARD, script],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "GX_ANALYTICS_ENABLED": "true"},
    )


def test_the_flags_name_each_message_and_the_rules_that_fired_there(audited: Audit) -> None:
    assert audited.flags is not None
    fired = audited.flags.filter(pl.col("DF103"))
    assert fired["message"].to_list() == [3]
    assert fired["where"].str.ends_with("chats.jsonl:2").all()
    assert "content" not in audited.flags.columns


def test_exactly_the_expectations_of_the_rules_that_fired_fail(written: Result) -> None:
    failed = {check.rule: check for check in written.checks if not check.holds}
    assert set(failed) == {"DF103", "DF108"}
    assert (failed["DF103"].unexpected, failed["DF103"].total) == (1, 5)
    assert failed["DF103"].places[0].endswith("chats.jsonl:2 message 3")
    assert str(failed["DF103"].severity) == "error"
    assert not written.holds
    assert {"DL001", "DL002"} <= {check.rule for check in written.checks}
    assert json.loads(json.dumps(written.as_json()))["holds"] is False


def test_the_project_holds_numbers_and_flags_and_no_text(written: Result) -> None:
    names = {path.name for path in written.folder.iterdir()}
    assert {"README.md", "README.zh.md", "run_checkpoint.py", "messages.parquet"} <= names
    types = set(pl.read_parquet(written.folder / "messages.parquet").dtypes)
    assert types <= {pl.String, pl.Boolean, pl.UInt32, pl.Int64}
    assert written.docs.exists()
    for path in written.folder.rglob("*.json"):
        assert "hello" not in path.read_text()


def test_telemetry_is_off_for_the_process_and_in_the_project(written: Result) -> None:
    assert os.environ["GX_ANALYTICS_ENABLED"] == "false"
    config = (written.folder / "gx" / "great_expectations.yml").read_text()
    assert "analytics_enabled: false" in config
    assert str(written.folder) not in config


@pytest.mark.slow
def test_an_edited_suite_is_checked_again_without_this_package(
    written: Result, project: Path
) -> None:
    def allow(expectations: list[dict[str, Any]]) -> None:
        on("DF103", expectations)["kwargs"]["mostly"] = 0.5
        expectations.append(
            {
                "type": "expect_column_max_to_be_between",
                "kwargs": {"column": "characters", "max_value": 4},
            }
        )

    edit(project, allow)
    after = run_again(project)
    assert after.returncode == 1, after.stderr
    assert "messages: DF108: A conversation ends without an answer. (1 of 5 rows)" in after.stdout
    assert "expect_column_max_to_be_between {'column': 'characters'" in after.stdout
    assert f"failed: 2 of {len(written.checks) + 1} expectations" in after.stdout
    edit(project, lambda expectations: expectations.clear())
    assert run_again(project).returncode == 0


def test_a_suite_that_was_edited_is_used_and_never_overwritten(
    audited: Audit, project: Path
) -> None:
    from glmprep.gx import write_project

    edit(project, lambda expectations: expectations.remove(on("DF103", expectations)))
    edited = (project / MESSAGES).read_text()
    result = write_project(audited, project)
    assert [check.rule for check in result.checks if not check.holds] == ["DF108"]
    assert list(result.kept) == ["messages", "conversations"]
    assert "DF103" not in edited
    assert len(json.loads((project / MESSAGES).read_text())["expectations"]) == len(
        json.loads(edited)["expectations"]
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda expectations: expectations[3].update(type="expect_luck"), "expectation 4: .*luck"),
        (lambda expectations: expectations[3].update(severity="dire"), "cannot use this project"),
        (lambda expectations: expectations[3]["kwargs"].update(value_set=3), "cannot use this"),
        (lambda expectations: expectations[3].pop("type"), "not a suite"),
    ],
)
def test_a_suite_that_could_be_used_only_in_part_is_refused(
    change: Callable[[list[dict[str, Any]]], object], words: str, audited: Audit, project: Path
) -> None:
    from glmprep.gx import write_project

    edit(project, change)
    with pytest.raises(InputError, match=words) as refused:
        write_project(audited, project)
    assert "\n" not in str(refused.value)


def test_an_expectation_that_cannot_be_computed_fails_and_says_why(
    audited: Audit, project: Path
) -> None:
    from glmprep.gx import write_project

    def mix(expectations: list[dict[str, Any]]) -> None:
        expectations[:] = [
            {"type": "expect_column_values_to_be_null", "kwargs": {"column": "nowhere"}},
            {
                "type": "expect_column_pair_values_a_to_be_greater_than_b",
                "kwargs": {"column_A": "characters", "column_B": "role"},
            },
        ]

    edit(project, mix)
    missing, mixed = write_project(audited, project).checks[:2]
    assert not missing.holds
    assert "nowhere" in (missing.error or "")
    assert not mixed.holds
    assert mixed.error


def test_tables_without_a_line_and_flags_that_cannot_say_are_no_error(
    audited: Audit, tmp_path: Path
) -> None:
    pytest.importorskip("great_expectations")
    from glmprep.gx import write_project

    assert audited.flags is not None
    nothing = pl.lit(None, pl.Boolean)
    empty = replace(
        audited, flags=audited.flags.with_columns(DF103=nothing), table=audited.table.clear()
    )
    failed = [check for check in write_project(empty, tmp_path).checks if not check.holds]
    assert [(check.rule, check.name) for check in failed][1:] == [(None, "rows")]
    assert [check.rule for check in failed] == ["DF108", None]
    assert failed[1].observed == "0"


def test_the_result_is_a_section_of_our_own_page(written: Result) -> None:
    from glmprep.views.gx import gx_section
    from glmreport import Literal, Page, Provenance, Verdict, render

    own = Check(
        table="messages", rule=None, name="<b>mine</b>", severity=written.checks[0].severity,
        holds=False, error="no column",
    )  # fmt: skip
    section = gx_section(replace(written, checks=[*written.checks, own]))
    page = Page(
        kind="glmprep audit",
        title=Literal("t"),
        subject="s",
        verdict=Verdict(level="good", headline=Literal("h"), detail=Literal("d")),
        sections=[section],
        provenance=Provenance(version="1", command="glmprep audit"),
    )
    text = render(page)
    for words in (
        f"{len(written.checks) + 1} expectations",
        "3 fail",
        "DF103 does not fire: A message has no text",
        "DF103 不触发：消息没有文本",
        "chats.jsonl:2 message 3",
        "20.0%",
        "&lt;b&gt;mine&lt;/b&gt;",
        "could not be computed: no column",
        "✗ 不成立",
    ):
        assert words in text, words
    assert text.index("✗ fails") < text.index("✓ holds")


def test_without_the_library_the_message_names_the_extra(
    audited: Audit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from glmprep.gx import require_library, write_project

    real = builtins.__import__

    def missing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "great_expectations":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(UsageError, match=r"\[gx\]"):
        require_library()
    with pytest.raises(UsageError, match=r"\[gx\]"):
        write_project(audited, tmp_path)
    assert list(tmp_path.iterdir()) == []
