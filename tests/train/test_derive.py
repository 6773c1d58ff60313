from __future__ import annotations

import pytest
from glmtrain import data, derive
from glmtrain.config import build
from glmtrain.settings import Config


@pytest.fixture(scope="module")
def few(bucketed):
    return data.load([str(bucketed)])


@pytest.fixture
def many(tools, tmp_path):
    """As many conversations as asked for, a thousand a row."""

    def many(count):
        one = ([301, 302, 5, 303, 20, 302], [0, 0, 0, 0, 1, 1])
        rows = tools.to_rows(
            [[one] * min(1000, count - n) for n in range(0, count, 1000)],
            [6000] * -(-count // 1000),
        )
        return data.load([str(tools.write_shards(tmp_path / str(count), rows))])

    return many


def filled(rows, **settings):
    return derive.fill(build([("test", settings)]), rows, ("q_proj",))[0]


def test_no_gap_stays_open_and_every_one_is_told_of(few):
    config, decisions = derive.fill(Config(), few, ("q_proj",))
    named = {decision.setting for decision in decisions}
    assert named == {
        "optimiser.learning_rate",
        "optimiser.weight_decay",
        "data.tokens_per_batch",
        "lora.rank",
        "lora.dropout",
        "lora.alpha",
        "run.epochs",
    }
    for decision in decisions:
        section, _, name = decision.setting.partition(".")
        assert f"{getattr(getattr(config, section), name):g}" == f"{float(decision.value):g}"


def test_little_data_gets_little_capacity(few, many):
    small, large = filled(few), filled(many(5000))
    assert derive.conversations(few) == 24
    assert (small.lora.rank, large.lora.rank) == (4, 16)
    assert small.lora.dropout > large.lora.dropout == 0
    assert small.optimiser.weight_decay > large.optimiser.weight_decay
    assert small.run.epochs > large.run.epochs == 1


def test_what_was_asked_for_stays(few):
    asked = {
        "optimiser": {"learning_rate": 1e-3, "weight_decay": 0.5},
        "lora": {"rank": 3, "alpha": 7.0, "dropout": 0.4},
        "data": {"tokens_per_batch": 99},
        "run": {"epochs": 2},
    }
    config, decisions = derive.fill(build([("test", asked)]), few, ("q_proj",))
    assert decisions == []
    assert (config.lora.rank, config.lora.alpha, config.run.epochs) == (3, 7.0, 2)


def test_a_limit_of_steps_leaves_the_epochs_open(few):
    assert filled(few, run={"max_steps": 5}).run.epochs is None


@pytest.mark.parametrize(("method", "rate"), [("full", 2e-5), ("ptuning", 1e-2), ("lora", 2e-4)])
def test_the_rate_follows_the_method_and_the_optimiser(few, method, rate):
    model = {"path": "somewhere", "method": method}
    assert filled(few, model=model).optimiser.learning_rate == rate
    lion = filled(few, model=model, optimiser={"name": "lion"})
    assert lion.optimiser.learning_rate == pytest.approx(rate / 5)


def test_alpha_is_twice_the_rank_but_fixed_for_rslora(few):
    assert filled(few, lora={"rank": 32}).lora.alpha == 64
    assert filled(few, lora={"rank": 32, "rslora": True}).lora.alpha == 16


def test_a_prefix_has_a_length_and_no_rank(few):
    config = filled(few, model={"method": "ptuning"})
    assert config.prefix.tokens == 16
    assert config.lora.rank is None


def test_adapters_of_expert_weights_get_no_dropout(few):
    config, _ = derive.fill(Config(), few, ("q_proj", "experts.gate_up_proj"))
    assert config.lora.dropout == 0


def test_patience_is_for_little_data_with_rows_held_out(few):
    assert filled(few).evaluation.patience is None
    assert filled(few, data={"validation": "held-out"}).evaluation.patience == 3


def test_packed_conversations_are_counted_one_by_one(packed):
    assert derive.conversations(data.load([str(packed)])) == 24
