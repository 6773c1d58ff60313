"""`glmdiag memory`: what is predicted, the smallest change that fits, and its rules."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from glmdiag.memory.changes import smallest
from glmdiag.memory.memory_rules import judge
from glmdiag.memory.prediction import GIB, Lengths, Setup, predict
from glmprep import shapes
from glmprep.memory import Training
from glmreport import render


def lengths(*tokens: int, bucket: int | None = None) -> Lengths:
    made = np.array(tokens, np.int64)
    return Lengths(tokens=made, labelled=made // 2, buckets=np.full_like(made, bucket or max(made)))


NINE = shapes.KNOWN["GLM-4-9B-chat"]
AIR = shapes.KNOWN["GLM-4.5-Air"]
ROOMY = Setup(
    shape=NINE,
    training=Training(),
    loss="chunked",
    lengths=lengths(2048, 2048, 2048, 2048),
    tokens=8192,
    card="A100",
    memory=80 * GIB,
)


def setup(memory: float = 80, **changes) -> Setup:
    training = {name: changes.pop(name) for name in list(changes) if hasattr(ROOMY.training, name)}
    made = replace(ROOMY, training=replace(ROOMY.training, **training), **changes)
    return replace(made, memory=round(memory * GIB))


NEED = predict(ROOMY).largest.total / GIB
FAULTY = {
    "CF301": setup(40, checkpointing=False),
    "CF302": setup(NEED * 1.05),
    "CF303": setup(40, loss="naive", rows=8, lengths=lengths(*[4096] * 8)),
    "CF304": setup(40, answers=1 << 20),
    "CF305": setup(2000, shape=AIR, checkpointing=False),
    "CF306": setup(24, lengths=lengths(1000, 100_000)),
    "CF307": setup(16, shape=AIR),
}


def rules_of(made: Setup) -> set[str]:
    return {finding.rule for finding in judge(predict(made))}


@pytest.mark.parametrize("rule", FAULTY)
def test_each_rule_fires_on_its_fault(rule):
    assert rule in rules_of(FAULTY[rule])


def test_a_run_with_room_has_no_finding():
    assert rules_of(ROOMY) == set()


def test_no_rule_speaks_of_a_card_where_none_is_named():
    assert rules_of(replace(ROOMY, memory=None)) == set()


def test_no_experts_are_kept_twice_with_checkpointing():
    assert "CF305" not in rules_of(setup(2000, shape=AIR))


def test_the_smallest_change_is_fewer_tokens_where_that_is_enough():
    change = smallest(setup(22.5))
    assert change.fits
    assert [option.split()[0] for option in change.options] == ["--tokens-per-batch"]
    tokens = int(change.options[0].split()[1])
    more = replace(setup(22.5 * 0.9), tokens=tokens + 512)
    assert tokens >= 2048
    assert predict(replace(more, tokens=8192)).largest.total > more.memory


@pytest.mark.parametrize("rule", ["CF301", "CF303", "CF306"])
def test_with_the_change_all_fits(rule):
    change = smallest(FAULTY[rule])
    assert change.fits
    assert change.prediction.largest.total <= FAULTY[rule].memory


def test_a_loss_in_pieces_is_the_first_thing_for_another_trainer():
    made = setup(45, loss="naive", rows=1, lengths=lengths(16_384))
    assert "--trainer glmtrain" in smallest(made).options


def test_slices_are_only_proposed_where_there_are_several_cards():
    one, eight = (smallest(setup(80, method="full", gpus=gpus)) for gpus in (1, 8))
    assert not any("--zero" in option for option in one.options)
    assert any("--zero" in option for option in eight.options)


def test_shorter_rows_come_last_and_say_how_many_are_cut():
    change = smallest(FAULTY["CF306"])
    assert change.options[-1].startswith("--max-length")
    assert change.cut == 0.5


def test_what_comes_nearest_is_told_where_nothing_fits():
    change = smallest(FAULTY["CF307"])
    assert not change.fits
    assert "--method qlora" in change.options


def test_the_parts_are_the_whole():
    for made in (ROOMY, *FAULTY.values()):
        for need in predict(made).needs:
            assert sum(need.parts().values()) == pytest.approx(need.total, abs=4)


def test_a_bucket_is_as_large_as_its_longest_rows():
    found = Setup.batches(setup(lengths=lengths(100, 200, 300, 250, bucket=512), tokens=1024))
    assert {bucket: (b.rows, b.length, b.masked) for bucket, b in found.items()} == {
        512: (2, 300, True)
    }


def test_the_command_predicts_for_a_card_and_exits_by_what_it_finds(glmdiag, tmp_path):
    page = tmp_path / "page.html"
    asked = ["memory", "--model", "GLM-4-9B-chat", "--length", "4096", "--card", "V100"]
    status, said, _ = glmdiag(*asked, "--report", page)
    assert status == 1
    assert "--checkpointing" in said
    assert "激活值" in page.read_text(encoding="utf-8")
    status, said, _ = glmdiag(*asked, "--checkpointing", "--json", "-", "--quiet")
    found = json.loads(said)
    assert (status, found["fits"], found["change"], found["card"]) == (0, True, None, "V100")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], "say which model"),
        (["--model", "tiny"], "--shards DIR, or --length"),
        (["--model", "tiny", "--length", "8", "--card", "V99"], "--card V99"),
        (["--model", "tiny", "--length", "8", "--card", "V100", "--memory", "3"], "not both"),
        (["--model", "tiny", "--length", "8", "--offload"], "--zero 2"),
        (["--model", "tiny", "--length", "9999999", "--batch-size", "999"], "at once"),
        (["--model", "tiny", "--shards", "/no/such"], "/no/such"),
        (["--model", "tiny", "--length", "0"], "range"),
    ],
)
def test_what_cannot_be_told_is_one_line(glmdiag, options, told):
    status, _, said = glmdiag("memory", *options)
    assert status == 2
    assert told in said
    assert "Traceback" not in said


def test_a_configuration_of_another_trainer_is_read(glmdiag, tmp_path):
    config = tmp_path / "sft.yaml"
    config.write_text(
        "model_name_or_path: zai-org/GLM-4-9B-0414\nstage: sft\nfinetuning_type: full\n"
        "cutoff_len: 2048\nper_device_train_batch_size: 2\nbf16: true\ntemplate: glm4\n"
        "dataset: x\noutput_dir: y\n"
    )
    asked = ("--memory", "80", "--json", "-", "--quiet")
    status, said, _ = glmdiag("memory", "--config", config, *asked)
    found = json.loads(said)
    assert (status, found["model"], found["loss"]) == (1, "GLM-4-9B-0414", "naive")
    assert (found["training"]["method"], found["buckets"][0]["rows"]) == ("full", 2)


def test_a_card_with_a_hostile_name_is_escaped_on_the_page():
    from glmdiag.views.memory import page

    made = predict(replace(ROOMY, card="<b>card"))
    assert "<b>card" not in render(page(made, None, [], "glmdiag memory"))
