from __future__ import annotations

import numpy as np
import pytest
from glmtrain import data
from glmtrain.exchanges import draw, shuffled
from glmtrain.loss import IGNORED


@pytest.fixture(params=["bucketed", "packed"])
def rows(request):
    return data.load([str(request.getfixturevalue(request.param))])


def stretches(rows):
    """All trained stretches of the shards with what stands before them in their segment."""
    found = set()
    ids, mask = rows.rows.input_ids, rows.rows.loss_mask
    starts = np.flatnonzero(rows.rows.position_ids == 0)
    for start, end in zip(starts, [*starts[1:], len(ids)], strict=True):
        bounds = np.flatnonzero(np.diff(mask[start:end], prepend=0, append=0)).reshape(-1, 2)
        for first, last in bounds + start:
            found.add((tuple(ids[start:first]), tuple(ids[first:last])))
    return found


def test_an_exchange_is_a_trained_stretch_and_its_segment_up_to_there(rows):
    known = stretches(rows)
    for exchange in draw(rows, 10**6, seed=1):
        assert (tuple(exchange.prompt), tuple(exchange.answer)) in known


def test_the_same_seed_draws_the_same_and_just_enough(rows):
    one, again = (draw(rows, 40, seed=3) for _ in range(2))
    assert [e.answer.tolist() for e in one] == [e.answer.tolist() for e in again]
    held = [len(e.answer) for e in one]
    assert sum(held) >= 40 > sum(held[:-1])


def test_there_are_two_at_least_so_that_answers_can_change_places(rows):
    assert len(draw(rows, 1, seed=3)) == 2


def test_only_the_answer_is_labelled(rows):
    exchange = draw(rows, 1, seed=3)[0]
    inputs = exchange.inputs()
    labels = inputs.labels[0].tolist()
    assert labels[: len(exchange.prompt)] == [IGNORED] * len(exchange.prompt)
    assert labels[len(exchange.prompt) :] == exchange.answer.tolist()
    assert inputs.supervised == len(exchange.answer)


def test_shuffled_answers_all_stand_behind_another_prompt(rows):
    drawn = draw(rows, 60, seed=3)
    for exchange, other, inputs in zip(drawn, [*drawn[1:], drawn[0]], shuffled(drawn), strict=True):
        wanted = [*exchange.prompt.tolist(), *other.answer.tolist()]
        assert inputs.input_ids[0].tolist() == wanted


def test_an_answer_without_a_stop_token_is_told_apart(tools, tmp_path):
    ids, mask = tools.conversation(np.random.default_rng(0), 1)
    cut = tools.to_rows([[(ids[:-1], mask[:-1])], [(ids, mask)]], [32, 32])
    loaded = data.load([str(tools.write_shards(tmp_path / "s", cut))])
    assert sorted(e.stops for e in draw(loaded, 10**6, seed=0)) == [False, True]
