from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from glmtrain import data, learned, model
from glmtrain.exchanges import draw
from glmtrain.generate import Speaker
from glmtrain.learned import Learned, Measured
from glmtrain.learner import Learner
from glmtrain.loss import Objective
from glmtrain.precision import choose
from glmtrain.settings import Precision

CPU = torch.device("cpu")
BEFORE = Measured(loss=2.0, shuffled=2.1, stop=0.1)


def compared(answers=8, **after):
    now = replace(Measured(loss=1.0, shuffled=2.5, stop=0.9), **after)
    return Learned(before=BEFORE, after=now, answers=answers, tokens=100)


def rules(result):
    return [finding.rule for finding in learned.judge(result)]


def graded(result):
    return [(finding.rule, finding.severity) for finding in learned.judge(result)]


@pytest.fixture(scope="module")
def exchanges(bucketed):
    return draw(data.load([str(bucketed)]), 10**6, seed=3)


@pytest.fixture(scope="module")
def learner(small_model):
    with model.quiet_libraries():
        causal = model.load(str(small_model), torch.float32)
    return Learner(causal, objective=Objective(dtype=torch.float32)).eval()


@pytest.mark.parametrize(
    ("after", "verdict"),
    [
        (1.9, "learned"),
        (1.97, "unchanged"),
        (2.03, "unchanged"),
        (2.1, "worse"),
        (math.nan, "worse"),
    ],
)
def test_the_verdict_follows_the_loss(after, verdict):
    result = compared(loss=after)
    assert result.verdict == verdict
    assert ("LG101" in rules(result)) == (verdict != "learned")


def test_a_model_that_learned_answers_to_their_prompts_and_stops_is_not_complained_of():
    assert rules(compared()) == []


def test_a_loss_that_falls_for_wrong_answers_as_well_is_told():
    assert graded(compared(shuffled=1.02)) == [("LG102", "warning")]


def test_a_base_that_told_prompts_apart_before_is_told_of_without_a_warning():
    assert graded(compared(shuffled=1.11)) == [("LG102", "info")]


def test_few_answers_say_nothing_of_shuffled_ones():
    assert rules(compared(shuffled=1.11, answers=3)) == []


def test_a_model_that_does_not_expect_the_end_is_told_of():
    assert graded(compared(stop=0.3)) == [("LG103", "info")]
    assert graded(compared(stop=0.09)) == [("LG103", "warning")]
    assert rules(compared(stop=None)) == []


def test_what_is_not_a_number_is_null_in_json_and_comes_back():
    before = Measured(loss=math.nan, shuffled=2.0, stop=None)
    values = before.as_json()
    assert values == {"loss": None, "shuffled": 2.0, "stop": None}
    assert math.isnan(Measured.from_json(values).loss)


def test_measured_values_are_means_over_the_tokens_of_the_answers(learner, exchanges):
    with torch.no_grad():
        found = learned.measure(learner, exchanges, CPU)
        each = [learner(exchange.inputs(), "own") for exchange in exchanges]
    assert found.loss == pytest.approx(float(torch.cat(each).mean()), rel=1e-5)
    stops = torch.stack([losses[-1] for losses in each]).neg().exp()
    assert found.stop == pytest.approx(float(stops.mean()), rel=1e-5)


def test_an_answer_is_exact_only_where_every_token_is(learner, exchanges, small_model):
    causal = learner.causal
    speaker = Speaker(causal=causal, precision=choose(Precision(dtype="fp32"), CPU), vocabulary=320)
    some = exchanges[:2]
    assert learned.exact(speaker, some, stops=[302]) == 0.0
    with torch.no_grad():
        first = int(
            causal(input_ids=some[0].inputs().input_ids[:, : len(some[0].prompt)])
            .logits[0, -1]
            .argmax()
        )
    spoken = replace(some[0], answer=torch.tensor([first]).numpy())
    assert learned.exact(speaker, [spoken, some[1]], stops=[302]) == 0.5
