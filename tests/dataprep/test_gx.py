"""The checks as a Great Expectations project."""

from __future__ import annotations

import builtins
import json
import os
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from glmprep import families, tokenizer
from glmprep.audit import Result, audit
from glmprep.errors import UsageError
from glmprep.source import Source

# Its own imports and pandas' warn of things that are not ours to change.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Result:
    sound = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    rows = [sound, [*sound, {"role": "user", "content": "  "}]]
    data = tmp_path_factory.mktemp("gx") / "chats.jsonl"
    data.write_text("".join(json.dumps({"messages": messages}) + "\n" for messages in rows))
    vocabulary = tokenizer.load()
    family = families.load("auto", vocabulary)
    return audit(Source(paths=[str(data)]), family=family, tokenizer=vocabulary, keep_flags=True)


def test_the_flags_name_each_message_and_the_rules_that_fired_there(audited: Result) -> None:
    assert audited.flags is not None
    fired = audited.flags.filter(pl.col("DF103"))
    assert fired["message"].to_list() == [3]
    assert fired["where"].str.ends_with("chats.jsonl:2").all()
    assert "content" not in audited.flags.columns


def test_the_project_fails_exactly_the_expectations_of_the_rules_that_fired(
    audited: Result, tmp_path: Path
) -> None:
    pytest.importorskip("great_expectations")
    from glmprep.gx import write_project

    assert not write_project(audited, tmp_path)
    assert os.environ["GX_ANALYTICS_ENABLED"] == "false"
    (validation,) = (tmp_path / "gx" / "uncommitted" / "validations").rglob("*.json")
    results = json.loads(validation.read_text())["results"]
    failed = {
        result["expectation_config"]["kwargs"]["column"]
        for result in results
        if not result["success"]
    }
    assert failed == {"DF103", "DF108"}
    assert (tmp_path / "gx/uncommitted/data_docs/local_site/index.html").exists()


def test_without_the_library_the_message_names_the_extra(
    audited: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from glmprep.gx import write_project

    real = builtins.__import__

    def missing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "great_expectations":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(UsageError, match=r"\[gx\]"):
        write_project(audited, tmp_path)
