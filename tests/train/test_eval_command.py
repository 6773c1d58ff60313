"""`glmtrain eval` as a person calls it."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from glmprep.cli import glmprep
from glmprep.errors import InputError, UsageError
from glmprep.tokenizer import load
from glmreport import check_catalogues, render
from glmreport.text import Catalogue, rule_text
from glmtrain import evaluation, model
from glmtrain.answers import CallScores
from glmtrain.commands.eval import eval as command
from glmtrain.eval_report import page
from glmtrain.eval_rules import worse_on_long, wrong_calls
from glmtrain.evaluate import GROUPS, Sums
from glmtrain.evaluation import Wanted, evaluate
from glmtrain.inference import Asked

tiny_config = model.tiny_config
read_once = cache(load)
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
RULES = ("LG111", "LG112", "LG113", "LG114", "LG115")


def silent(what):
    return lambda done, total: None


def call(city):
    arguments = json.dumps({"city": city})
    return [{"type": "function", "function": {"name": "weather", "arguments": arguments}}]


@pytest.fixture(scope="module", autouse=True)
def narrow():
    """A tiny model that is narrower still, and a tokenizer that is read once."""
    widths = {"hidden_size": 16, "intermediate_size": 32, "head_dim": 8, "num_attention_heads": 2}
    config = {**tiny_config(), **widths, "num_key_value_heads": 1}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(model, "tiny_config", lambda: config)
        patched.setattr("glmprep.tokenizer.load", read_once)
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Conversations in both languages, of different lengths, some with a tool call."""
    rows = []
    for n in range(6):
        said = [{"role": "user", "content": f"How is the weather in town {n}?"}]
        said += [{"role": "assistant", "tool_calls": call(f"town {n}")}]
        said += [{"role": "tool", "content": "clear <b>"}]
        said += [{"role": "assistant", "content": f"It is clear in town {n}." + " Fine." * 9 * n}]
        rows.append({"messages": said, "tools": TOOLS})
        said = [{"role": "user", "content": f"第{n}天的天气怎么样？"}]
        said += [{"role": "assistant", "content": f"第{n}天是晴天，适合出门散步。"}]
        rows.append({"messages": said})
    path = tmp_path_factory.mktemp("data") / "held.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


@pytest.fixture(scope="module")
def shards(data):
    folder = data.parent / "shards"
    with pytest.raises(SystemExit) as end:
        glmprep.main(["bucket", str(data), "-o", str(folder), "--quiet"], standalone_mode=False)
    assert end.value.code == 0
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A model of the same form with other weights."""
    folder = tmp_path_factory.mktemp("base")
    with model.quiet_libraries():
        model.tiny(seed=5).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def result(data, shards, base):
    """All that there is to measure."""
    torch.set_num_threads(1)
    wanted = Wanted(
        shards=[str(shards)],
        paths=[str(data)],
        base=str(base),
        general=[str(data)],
        count=8,
        turns="all",
    )
    asked = Asked(model="tiny", dtype="fp32", max_new_tokens=24, prepared={})
    return evaluate(asked, wanted, silent)


@pytest.fixture
def run(capsys):
    """Calls the command: status, output, errors."""

    def run(*arguments):
        torch.set_num_threads(1)
        with pytest.raises(SystemExit) as end:
            command.main(["--model", "tiny", "--dtype", "fp32", *arguments], standalone_mode=False)
        shown = capsys.readouterr()
        return end.value.code, shown.out, shown.err

    return run


def test_loss_alone_is_printed_and_written_as_json(run, shards, tmp_path):
    path = tmp_path / "r.json"
    status, out, _ = run("--shards", str(shards), "--max-new-tokens", "2", "--json", str(path))
    assert status == 0
    made = json.loads(path.read_text())
    whole = made["loss"]["all"]["all"]
    assert f"loss {whole['loss']:.3f} ±" in out
    assert math.exp(whole["loss"]) == pytest.approx(whole["perplexity"])
    lengths = made["loss"]["length"].values()
    assert sum(each["tokens"] for each in lengths) == whole["tokens"]
    assert set(made["loss"]["kind"]) == {"text", "tool_call"}
    assert (made["answers"], made["forgetting"]) == (None, None)
    assert len(made["probes"]) == 6


def test_all_that_was_asked_for_is_measured(result):
    told = result.as_json()
    assert told["loss"]["gap"] is not None
    assert len(told["answers"]["answers"]) == 8
    assert told["forgetting"]["texts"] == 8
    assert told["forgetting"]["kl"] > 0
    assert {probe["changed"] for probe in told["probes"]} == {True}
    wanted = sum(each["wanted"] for each in told["answers"]["calls"])
    assert wanted + sum(each["answers"] for each in told["answers"]["scores"]) == 8


def test_a_random_model_is_found_to_be_endless(result):
    found = {finding.rule: finding for finding in result.findings()}
    assert "LG111" in found
    assert "without a stop" in found["LG111"].evidence
    assert found["LG111"].where == "tiny"


def test_the_page_says_it_in_both_languages(result):
    made = page(result, "glmtrain eval --model tiny")
    html = render(made)
    for language in ("en", "zh"):
        words = Catalogue.load(language)
        assert words.say(made.verdict.headline) in html
        assert words.template("eval.section.forgetting") in html
    assert made.verdict.level == "warn"
    assert not re.search(r"<b>(?!\w)", html)


def test_the_page_of_a_part_says_what_else_could_be_measured(result):
    part = replace(result, answers=None, divergence=None)
    made = page(part, "glmtrain eval --model tiny")
    asked = ["eval.next.data", "eval.next.base", "eval.next.read"]
    assert [step.text.key for step in made.steps] == asked
    bare = page(replace(result, loss=None), "glmtrain eval --model tiny")
    assert "no loss" in Catalogue.load("en").say(bare.verdict.detail)


def test_both_languages_have_the_same_entries():
    assert [problem for problem in check_catalogues() if "eval." in problem] == []
    assert all(set(rule_text(rule, "zh")) == {"title", "evidence", "why", "fix"} for rule in RULES)


def test_nothing_to_evaluate_on_is_refused():
    with pytest.raises(UsageError, match="pass --shards DIR, --data FILE, or both"):
        Wanted()


def test_shards_of_another_tokenizer_are_refused(small_model, bucketed):
    asked = Asked(model=str(small_model), tokenizer="glm4", dtype="fp32", prepared={})
    with pytest.raises(UsageError, match="tokenizer"):
        evaluate(asked, Wanted(shards=[str(bucketed)]), silent)
    asked = replace(asked, model="tiny")
    with pytest.raises(UsageError, match="made with another tokenizer than the model's"):
        evaluate(asked, Wanted(shards=[str(bucketed)]), silent)


def test_shards_with_weights_are_refused(shards):
    asked = Asked(model="tiny", dtype="fp32", prepared={})
    with pytest.raises(UsageError, match="leave out weights"):
        evaluate(asked, Wanted(shards=[f"{shards}:0.5"]), silent)


def test_a_base_of_another_vocabulary_is_refused(shards, small_model):
    wanted = Wanted(shards=[str(shards)], base=str(small_model))
    asked = Asked(model="tiny", dtype="fp32", prepared={})
    with pytest.raises(UsageError, match="320 tokens, and the model has 151552"):
        evaluate(asked, wanted, silent)


def test_a_loss_that_is_not_a_number_is_refused_with_its_row(shards, monkeypatch):
    whole = evaluation.losses

    def broken(*arguments):
        found = whole(*arguments)
        return replace(found, loss=np.where(found.row == 3, math.nan, found.loss))

    monkeypatch.setattr(evaluation, "losses", broken)
    asked = Asked(model="tiny", dtype="fp32", prepared={})
    with pytest.raises(InputError, match="the loss of row 3 is not a number"):
        evaluate(asked, Wanted(shards=[str(shards)]), silent)


def test_probes_that_are_none_are_refused_before_the_model_is_loaded(run, tmp_path, shards):
    path = tmp_path / "p.jsonl"
    path.write_text("{}\n")
    with pytest.raises(InputError, match=r"p\.jsonl:1: no question"):
        command.main(
            ["--model", "nowhere", "--shards", str(shards), "--probe", str(path)],
            standalone_mode=False,
        )


def gap_of(short, long):
    """Sums in which rows of ten tokens have these mean losses."""
    names = [name for names in GROUPS.values() for name in names]
    array = np.zeros((len(names), 6))
    for name, means in (("short", short), ("long", long)):
        totals = np.array(means) * 10
        products = [totals @ totals, totals.sum() * 10, len(means) * 100]
        array[names.index(name)] = [len(means), 10 * len(means), totals.sum(), *products]
    return Sums(array)


def test_a_gap_is_found_where_it_is_large_and_no_chance():
    found = worse_on_long(gap_of([1.0, 1.1, 1.0, 1.1], [2.0, 2.1, 2.0, 2.1]))
    assert found["gap"] == pytest.approx(1)
    assert found["times"] == pytest.approx(math.e)
    assert worse_on_long(gap_of([1.0, 1.1, 1.0, 1.1], [1.2, 1.2, 1.1, 1.2])) is None
    assert worse_on_long(gap_of([0.0, 2.0, 0.1, 1.9], [0.0, 4.0, 0.1, 3.0])) is None
    assert worse_on_long(gap_of([2.0, 2.1], [1.0, 1.1])) is None


def calls(wanted, exact):
    facts = {"wanted": wanted, "called": wanted, "named": exact, "exact": exact}
    return CallScores(language="english", texts=0, needless=0, **facts)


def test_wrong_calls_are_found_where_there_are_some():
    assert wrong_calls([calls(4, 1), calls(4, 2)]) == {
        "wanted": 8,
        "called": 8,
        "named": 3,
        "count": 3,
    }
    assert wrong_calls([calls(8, 4)]) is None
    assert wrong_calls([calls(4, 0)]) is None
    assert wrong_calls([]) is None
