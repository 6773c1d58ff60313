"""`glmtrain verify` as a person calls it, on runs that learned, memorised, and did nothing."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from glmprep.errors import InputError, UsageError
from glmreport import check_catalogues, render
from glmreport.text import Catalogue, rule_text
from glmtrain import rules, verification
from glmtrain.cli import glmtrain
from glmtrain.commands.verify import verify as command
from glmtrain.evaluate import Mean
from glmtrain.learned import Learned, Measured
from glmtrain.verification import HeldOut, Wanted, verify
from glmtrain.verify_report import page

METHODS = ("lora", "ptuning", "full")


def silent(done, total):
    """No progress."""


@pytest.fixture(scope="module")
def held_out(tools, tmp_path_factory):
    """Other conversations of the same kind as those in `bucketed`."""
    random = np.random.default_rng(9)
    rows = [[tools.conversation(random, turns)] for turns in (1, 2, 3) * 4]
    folder = tmp_path_factory.mktemp("held") / "shards"
    return tools.write_shards(folder, tools.to_rows(rows, [128] * len(rows)))


@pytest.fixture(scope="module")
def noise(tools, tmp_path_factory):
    """Answers without any rule, which can only be learned by heart; two parts of one kind."""

    def answers(name, seed):
        random = np.random.default_rng(seed)
        rows = []
        for _ in range(12):
            ids, mask = tools.conversation(random, 1)
            answered = random.integers(0, 250, size=sum(mask) - 1)
            ids[len(ids) - sum(mask) : -1] = answered.tolist()
            rows.append([(ids, mask)])
        folder = tmp_path_factory.mktemp(name) / "shards"
        return tools.write_shards(folder, tools.to_rows(rows, [32] * len(rows)))

    return answers("noise", 1), answers("other-noise", 2)


@pytest.fixture(scope="module")
def finished(small_model, bucketed, tmp_path_factory):
    """Makes runs on the small model."""
    made = {}

    def finished(method="lora", shards=bucketed, steps=12, rate=0.02, **more):
        key = (method, str(shards), steps, *more.items())
        if key not in made:
            made[key] = tmp_path_factory.mktemp("runs") / method
            sets = {"run.sample_tokens": 64, **more}
            if method == "lora":
                sets |= {"lora.rank": 8, "lora.dropout": 0.0}
            options = ["--model", small_model, "--method", method, "--shards", shards]
            options += ["--max-steps", steps, "--lr", rate, "--dtype", "fp32", "-o", made[key]]
            options += [part for one in sets.items() for part in ("--set", "{}={}".format(*one))]
            assert called(glmtrain, "run", *options, "--quiet") in (0, 1)
        return made[key]

    return finished


@pytest.fixture(scope="module")
def found(finished):
    """What is found of a run that learned."""
    return verify(Wanted(run=finished(), count=6, dtype="fp32"), silent)


def called(group, *arguments):
    with pytest.raises(SystemExit) as end:
        group.main([*map(str, arguments)], standalone_mode=False)
    return end.value.code


def told_of(folder):
    """What a run said of itself."""
    told = json.loads((folder / "run.json").read_text())["learned"]
    sides = {side: Measured.from_json(told[side]) for side in ("before", "after")}
    return Learned(answers=told["answers"], tokens=told["tokens"], **sides)


@pytest.mark.parametrize("method", METHODS)
def test_a_run_is_compared_with_the_base_that_it_began_with(finished, method):
    # A prefix, other than LoRA, changes the model before its first step; its base is the same.
    base, own = (told_of(finished(each)) for each in ("lora", method))
    wanted = Wanted(run=finished(method), count=own.answers, dtype="fp32")
    found = verify(wanted, silent)
    assert found.verdict == found.learned.verdict == "learned"
    assert found.learned.answers == own.answers
    assert found.learned.before.loss == pytest.approx(base.before.loss, rel=1e-4)
    assert found.learned.before.shuffled == pytest.approx(base.before.shuffled, rel=1e-4)
    assert found.learned.after.loss == pytest.approx(own.after.loss, rel=1e-4)
    assert found.learned.after.stop == pytest.approx(own.after.stop, rel=1e-3)


def test_every_answer_tells_how_far_it_was_written_again(found):
    assert len(found.written) == 6
    for each in found.written:
        answer, made = each.answer.split(), each.made.split()
        assert len(answer) == each.tokens
        assert answer[: each.same] == made[: each.same]
        assert each.exact == (answer == made)
        assert each.exact or answer[: each.same + 1] != made[: each.same + 1]
    assert found.learned.exact == sum(each.exact for each in found.written) / 6
    assert [remark.key for remark in found.remarks] == ["verify.remark.tokenizer"]


def test_held_out_answers_that_follow_the_same_rule_are_learned_too(finished, held_out):
    found = verify(Wanted(run=finished(), validation=str(held_out), dtype="fp32"), silent)
    assert found.held_out.rise.rows == 12
    assert found.held_out.after < found.held_out.before
    difference = found.held_out.after - found.held_out.before
    assert found.held_out.rise.value == pytest.approx(difference, rel=1e-6)
    assert "LG104" not in [finding.rule for finding in found.findings()]


def test_noise_is_only_learned_by_heart(finished, noise):
    trained_on, other = noise
    folder = finished("full", shards=trained_on, steps=60, rate=0.01)
    found = verify(Wanted(run=folder, validation=str(other), dtype="fp32"), silent)
    assert found.learned.verdict == "learned"
    assert found.verdict == "memorised"
    assert "LG104" in [finding.rule for finding in found.findings()]


def test_the_validation_of_the_run_is_the_default(finished, held_out, tmp_path):
    place = tmp_path / "held"
    shutil.copytree(held_out, place)
    folder = finished(**{"data.validation": place})
    assert verify(Wanted(run=folder, dtype="fp32"), silent).validation == str(place)
    shutil.rmtree(place)
    found = verify(Wanted(run=folder, dtype="fp32"), silent)
    assert found.held_out is None
    assert "verify.remark.validation" in [remark.key for remark in found.remarks]


def test_shards_that_moved_are_known_by_their_manifests(finished, bucketed, packed, tmp_path):
    first = tmp_path / "first"
    shutil.copytree(bucketed, first)
    folder = finished(shards=first, steps=2)
    there = verify(Wanted(run=folder, count=4, dtype="fp32"), silent)
    first.rename(tmp_path / "second")
    with pytest.raises(UsageError, match="name the folder where they lie with --shards"):
        verify(Wanted(run=folder), silent)
    with pytest.raises(UsageError, match=r"not shards that .* was trained on"):
        verify(Wanted(run=folder, shards=[str(packed)]), silent)
    moved = Wanted(run=folder, shards=[str(tmp_path / "second")], count=4, dtype="fp32")
    assert verify(moved, silent).learned == there.learned


def test_where_the_base_of_a_whole_model_is_gone_the_run_s_own_figures_stand_in(
    finished, small_model, tmp_path
):
    base = tmp_path / "base"
    shutil.copytree(small_model, base)
    folder = finished("full", **{"model.path": base})
    shutil.rmtree(base)
    found = verify(Wanted(run=folder, dtype="fp32"), silent)
    told = told_of(folder)
    assert found.learned.before == told.before
    assert found.learned.after.loss == pytest.approx(told.after.loss, rel=1e-4)
    assert "verify.remark.base" in [remark.key for remark in found.remarks]
    with pytest.raises(InputError, match="no such folder"):
        verify(Wanted(run=folder, model=str(base)), silent)
    again = verify(Wanted(run=folder, model=str(small_model), dtype="fp32"), silent)
    assert again.learned.answers == 20


def test_what_was_trained_on_is_not_held_out(finished, bucketed):
    with pytest.raises(UsageError, match="trained on these very shards"):
        verify(Wanted(run=finished(), validation=str(bucketed)), silent)


def test_held_out_rows_of_another_tokenizer_are_refused(finished, tools, tmp_path):
    rows = tools.to_rows([[tools.conversation(np.random.default_rng(0), 1)]], [32])
    other = {"name": "other", "sha256": "1" * 64}
    folder = tools.write_shards(tmp_path / "s", rows, tokenizer=other)
    with pytest.raises(UsageError, match="another tokenizer"):
        verify(Wanted(run=finished(), validation=str(folder)), silent)


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no run"):
        verify(Wanted(run=tmp_path), silent)


def test_the_command_prints_and_writes_what_was_found(finished, held_out, tmp_path, capsys):
    places = {name: tmp_path / name for name in ("r.json", "r.html")}
    options = ["--validation", held_out, "--answers", 8, "--dtype", "fp32"]
    more = ["--json", places["r.json"], "--report", places["r.html"]]
    assert called(command, finished(), *options, *more) == 0
    said = capsys.readouterr().out
    told = json.loads(places["r.json"].read_text())
    assert "it learned" in said
    assert f"{told['learned']['before']['loss']:.3f} before" in said
    assert f"loss of {told['held_out']['answers']} held-out answers" in said
    assert len(told["written"]) == 8
    assert "glmtrain verify" in places["r.html"].read_text()


def test_the_status_follows_fail_on(finished):
    idle = finished(steps=1, rate=1e-9)
    options = ["--answers", 4, "--dtype", "fp32", "--quiet"]
    assert called(command, idle, *options) == 0
    assert called(command, idle, *options, "--fail-on", "warning") == 1


def test_hostile_text_is_escaped_on_the_page_and_in_the_terminal(found, capsys, monkeypatch):
    nasty = "<script>alert(1)</script>\x1b[31m\u202e"
    written = [replace(each, prompt=nasty, answer=nasty, made=nasty) for each in found.written]
    html = render(page(replace(found, written=written), "glmtrain verify"))
    assert "<script>alert" not in html
    monkeypatch.setattr(verification, "verify", lambda *_: replace(found, written=written))
    called(command, found.folder)
    assert not re.search(r"[\x1b\u202e]", capsys.readouterr().out)


@pytest.mark.parametrize("verdict", ["learned", "memorised", "unchanged", "worse"])
def test_the_page_has_a_headline_and_a_next_step_for_each_verdict(found, verdict):
    by_heart = held(rise=0.5)
    after = {"unchanged": 1.0, "worse": 1.5}.get(verdict, 0.5) * found.learned.before.loss
    changed = replace(
        found,
        learned=replace(found.learned, after=Measured(loss=after, shuffled=9.0, stop=0.9)),
        held_out=by_heart if verdict == "memorised" else None,
    )
    made = page(changed, "glmtrain verify")
    assert made.verdict.headline.key == f"verify.verdict.{verdict}"
    assert made.verdict.level == {"learned": "good", "worse": "bad"}.get(verdict, "warn")
    assert made.steps
    html = render(made)
    for language in ("en", "zh"):
        assert Catalogue.load(language).template(f"verify.verdict.{verdict}") in html


def test_both_languages_have_the_same_entries():
    assert [problem for problem in check_catalogues() if "verify." in problem] == []
    assert set(rule_text("LG104", "zh")) == {"title", "evidence", "why", "fix"}


def held(rise=0.5, error=0.1, rows=10):
    spread = Mean(rows=rows, tokens=10 * rows, value=rise, error=error)
    return HeldOut(before=2.0, after=2.0 + rise, rise=spread)


def came_to(after):
    sides = [Measured(loss=loss, shuffled=3.0, stop=0.9) for loss in (2.0, after)]
    return Learned(before=sides[0], after=sides[1], answers=20, tokens=200)


@pytest.mark.parametrize(
    ("after", "others", "found"),
    [
        (0.5, held(), True),
        (1.7, held(), False),
        (0.5, held(rise=0.15), False),
        (0.5, held(rise=0.03, error=0.001), False),
        (0.5, held(rise=-0.5), False),
        (0.5, held(rows=4), False),
    ],
)
def test_learning_by_heart_is_told_where_there_is_evidence(after, others, found):
    assert (rules.only_memorised(came_to(after), others) is not None) is found
