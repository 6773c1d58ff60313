"""`glmdiag report` on recorded runs: the planted fault is the first cause, sound runs have none."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from glmdiag.report.case import Case, Given, examine
from glmdiag.report.remedies import try_first
from glmdiag.views.report import page
from glmprep.errors import UsageError
from glmreport import render

from tests.diagnose import replay_runs as planted

torch.set_num_threads(1)
GALLERY = Path(__file__).resolve().parents[1] / "gallery"
KINDS = sorted(path.stem for path in GALLERY.glob("rc*.zip"))
SEED = "-s1/"
RATE = {"learning_rate": 1e9}

Unpack = Callable[[str], list[Path]]


@pytest.fixture(scope="module")
def unpack(tmp_path_factory: pytest.TempPathFactory) -> Unpack:
    """The records of seed 1 in an archive."""

    def records(kind: str) -> list[Path]:
        folder = tmp_path_factory.mktemp(kind)
        with zipfile.ZipFile(GALLERY / f"{kind}.zip") as archive:
            names = [name for name in archive.namelist() if SEED in name]
            archive.extractall(folder, names)
        return sorted(folder.iterdir())

    return records


def given(record: Path) -> Given:
    data = (record / "data" / "shards", record / "data" / "train.parquet")
    return Given(
        run=record / "run",
        shards=next((path for path in data if path.exists()), None),
        configs=sorted((record / "config").iterdir()),
        base=str(record / "base"),
        card=json.loads((record / "machine.json").read_bytes())["card"],
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_planted_fault_is_the_first_cause(kind: str, unpack: Unpack) -> None:
    (record,) = unpack(kind)
    truth = json.loads((record / "truth.json").read_bytes())
    found = examine(given(record))
    assert found.suspects[0].cause.id == truth["cause"]


@pytest.mark.parametrize("trainer", ["glmtrain", "hf"])
def test_no_cause_is_named_for_a_sound_run(trainer: str, unpack: Unpack) -> None:
    for record in unpack(f"healthy-{trainer}-s1"):
        found = examine(given(record))
        assert [suspect.cause.id for suspect in found.suspects] == [], record.name


@pytest.fixture(scope="module")
def masked(unpack: Unpack) -> Path:
    (record,) = unpack("rc001-all-masked")
    return record


def test_a_log_alone_is_examined_and_the_rest_is_said_to_be_missing(masked: Path) -> None:
    found = examine(Given(run=masked / "run" / "trainer_state.json", card="A100"))
    assert {finding.rule for finding in found.findings["log"]} == {"LG003"}
    assert {"config", "labels", "checkpoint"} <= set(found.unseen)
    assert "--shards" in found.unseen["labels"]


def test_data_that_cannot_be_read_leaves_the_other_examinations(
    masked: Path, tmp_path: Path
) -> None:
    record = tmp_path / "record"
    shutil.copytree(masked, record)
    (record / "data" / "train.parquet").write_bytes(b"PAR1 cut off")
    found = examine(given(record))
    assert "train.parquet" in found.unseen["labels"]
    assert {"log", "config"} <= set(found.findings)


def test_a_folder_of_nothing_is_wrong_usage(
    glmdiag: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    (tmp_path / "notes.md").write_text("nothing")
    status, out, err = glmdiag("report", tmp_path, "--simulate", "A100")
    assert (status, out) == (2, "")
    assert "nothing of a run could be examined" in err
    assert "Traceback" not in err


def test_the_page_names_the_cause_in_both_languages(masked: Path) -> None:
    html = render(page(examine(given(masked)), None, "glmdiag report run"))
    assert "Rows have no label, so there is nothing to learn from" in html
    assert "有的行没有任何标签，无从学起" in html


def test_the_command_gives_causes_with_their_evidence_as_json(
    glmdiag: Callable[..., tuple[int, str, str]], masked: Path
) -> None:
    asked = given(masked)
    status, out, _ = glmdiag(
        "report", asked.run, "--shards", asked.shards, "--config", asked.configs[0],
        "--base", asked.base, "--simulate", "A100", "--json", "-",
    )  # fmt: skip
    told = json.loads(out)
    first = told["causes"][0]
    assert status == 1
    assert (first["id"], first["severity"], first["confidence"]) == ("RC001", "error", "certain")
    assert [sign["rule"] for sign in first["for"]] == ["DL101", "LG003"]
    assert told["findings"][0]["rule"] == "RC001"


def test_a_fix_is_not_tried_on_another_trainers_run(masked: Path) -> None:
    with pytest.raises(UsageError, match="needs a glmtrain run"):
        try_first(examine(given(masked)), steps=5)


def test_the_fix_of_the_first_cause_is_tried_on_the_runs_own_steps(tmp_path: Path) -> None:
    rows, base = planted.shards(tmp_path / "shards"), planted.model(tmp_path / "base")
    run = planted.run(tmp_path / "run", base, rows, model={"method": "full"}, optimiser=RATE)
    case: Case = examine(Given(run=run))
    tried = try_first(case, steps=5)
    assert tried.suspect.cause.id == "RC021"
    assert set(tried.attempt.changes) == {"optimiser.learning_rate"}
    assert tried.attempt.verdict in ("cleared", "not cleared")
    assert tried.as_json()["cause"] == "RC021"
