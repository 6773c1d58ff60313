"""Changes tried on real small runs that have a planted fault."""

from __future__ import annotations

import hashlib
import json
import math

import pytest
from glmdiag.replay.verify_fix import Attempt, Trial, attempt
from glmdiag.views import verify_fix as view
from glmprep.errors import InputError, UsageError
from glmreport import render
from glmreport.page import Page, Provenance, Verdict
from glmreport.text import Literal

from tests.diagnose import replay_runs as runs

NOT_FINITE = ["LG001"]
LOW_RATE = {"optimiser.learning_rate": "1e-3"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fix")


@pytest.fixture(scope="module")
def rows(folder):
    return runs.shards(folder / "shards")


@pytest.fixture(scope="module")
def overflowing(folder, rows):
    """One of its records overflows in fp16."""
    base = runs.model(folder / "gain", gain=300.0)
    return runs.run(
        folder / "overflowing",
        base,
        rows,
        precision={"dtype": "fp16", "initial_loss_scale": 16.0},
        run={"save_every": 2},
    )


@pytest.fixture(scope="module")
def hot(folder, rows):
    """Its learning rate is far too high."""
    base = runs.model(folder / "plain")
    return runs.run(
        folder / "hot", base, rows, model={"method": "full"}, optimiser={"learning_rate": 1e30}
    )


def digests(run):
    return {
        path: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in run.rglob("*")
        if path.is_file()
    }


def test_a_rate_far_too_high_is_cleared_by_a_lower_one(hot, tmp_path):
    before = digests(hot)
    found = attempt(hot, LOW_RATE, NOT_FINITE, steps=6, workdir=tmp_path)
    assert (found.verdict, found.first, found.since) == ("cleared", 2, 0)
    assert found.before.rules == {"LG001"}
    assert [math.isnan(loss) for _, loss in found.before.losses[:3]] == [False, True, True]
    assert len(found.after.losses) == 6
    assert all(math.isfinite(loss) for _, loss in found.after.losses)
    assert found.after.losses[0] == found.before.losses[0]  # the same rows and first weights
    assert digests(hot) == before
    assert list(tmp_path.iterdir()) == []


def test_a_rate_that_is_still_too_high_does_not_clear_it(hot):
    found = attempt(hot, {"optimiser.learning_rate": "1e29"}, NOT_FINITE, steps=5)
    assert found.verdict == "not cleared"


def test_an_overflow_of_fp16_is_cleared_by_fp32(overflowing):
    found = attempt(overflowing, {"precision.dtype": "fp32"}, NOT_FINITE, steps=6)
    assert (found.verdict, found.others) == ("cleared", frozenset())


def test_a_poisoned_row_is_cleared_by_shards_without_it(overflowing, folder):
    clean = {"data.shards": json.dumps([str(runs.shards(folder / "clean", planted=None))])}
    assert attempt(overflowing, clean, NOT_FINITE, steps=6).verdict == "cleared"


def test_what_has_nothing_to_do_with_the_fault_does_not_clear_it(overflowing):
    found = attempt(overflowing, {"optimiser.weight_decay": "0.2"}, NOT_FINITE, steps=6)
    assert found.verdict == "not cleared"


def test_a_fault_that_the_run_does_not_have_is_not_reproduced(overflowing):
    found = attempt(overflowing, LOW_RATE, ["LG003"], steps=5)
    assert (found.verdict, found.first) == ("not reproduced", None)


def test_a_late_fault_is_tried_from_a_checkpoint_before_it(folder, rows):
    """The first checkpoint from which it comes soon enough, not the last before it."""
    base = folder / "gain"
    late = {"max_steps": 18, "save_every": 1, "keep_checkpoints": 99}
    order = {"order": "short-first", "tokens_per_batch": 32}
    half = {"dtype": "fp16", "initial_loss_scale": 16.0}
    run = runs.run(folder / "late", base, rows, run=late, data=order, precision=half)
    first = next(line["step"] for line in runs.lines(run) if line["event"] == "skipped")
    assert first > 5
    found = attempt(run, {"precision.dtype": "bf16"}, NOT_FINITE, steps=5)
    assert (found.verdict, found.first, found.since) == ("cleared", first, first - 3)
    logged = {line["step"]: line["loss"] for line in runs.lines(run)}
    step, loss = found.before.losses[0]
    assert (step, loss) == (first - 2, logged[first - 2])


def test_settings_that_are_refused_are_said(overflowing):
    with pytest.raises(UsageError, match=r"no setting optimiser\.rate"):
        attempt(overflowing, {"optimiser.rate": "1"}, NOT_FINITE)
    with pytest.raises(UsageError, match="tried with 5 to 20"):
        attempt(overflowing, LOW_RATE, NOT_FINITE, steps=50)
    with pytest.raises(InputError, match="holds no run"):
        attempt(overflowing / "nowhere", LOW_RATE, NOT_FINITE)


def test_a_change_that_keeps_the_run_from_starting_clears_nothing(overflowing, tmp_path):
    gone = {"data.shards": json.dumps([str(tmp_path / "gone")])}
    found = attempt(overflowing, gone, NOT_FINITE, steps=6)
    assert found.verdict == "not cleared"
    assert "no such shard folder" in found.after.stopped


def made(*, before=("LG001",), after=(), stopped=None):
    def trial(rules, why=None):
        losses = [(1, 2.0), (2, math.nan)]
        return Trial(losses=losses, rules=frozenset(rules), stopped=why)

    return Attempt(
        changes={"data.shards": "<script>x"},
        faults=frozenset(NOT_FINITE),
        since=0,
        first=2,
        before=trial(before),
        after=trial(after, stopped),
    )


@pytest.mark.parametrize(
    ("found", "verdict", "said"),
    [
        (made(), "cleared", "takes the fault away"),
        (made(after=["LG001"]), "not cleared", "does not take"),
        (made(after=["LG004"]), "cleared", "other rules find something: LG004"),
        (made(stopped="<script>x"), "not cleared", "gave up with the change"),
        (made(before=[]), "not reproduced", "nothing is known"),
    ],
)
def test_the_section_tells_every_verdict_and_escapes(found, verdict, said):
    assert found.verdict == verdict
    assert json.loads(json.dumps(found.as_json(), allow_nan=False))["verdict"] == verdict
    text = render(
        Page(
            kind="glmdiag report",
            title=Literal("x"),
            subject="x",
            verdict=Verdict(level="good", headline=Literal("x"), detail=Literal("x")),
            sections=[view.section(found)],
            provenance=Provenance(version="x", command="x"),
        )
    )
    assert said in text
    assert "<script>x" not in text
