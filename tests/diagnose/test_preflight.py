from __future__ import annotations

import dataclasses
import functools
import json

import pytest
import torch
from glmdiag.preflight import formats, invariances, scaling, trial_rules
from glmdiag.preflight import whole as preflight
from glmdiag.preflight.trial import prepared
from glmtrain import methods, probe
from glmtrain.config import build
from glmtrain.learner import Learner
from glmtrain.model import quiet_libraries
from torch import nn

from tests.diagnose.trials import VOCABULARY, save, write_shards

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def glm(tmp_path_factory):
    return save(tmp_path_factory.mktemp("glm"))


@pytest.fixture(scope="session")
def shards(tmp_path_factory):
    return write_shards(tmp_path_factory.mktemp("rows") / "shards")


@pytest.fixture(scope="session")
def packed(tmp_path_factory):
    return write_shards(tmp_path_factory.mktemp("packed") / "shards", packed=True)


@pytest.fixture
def trial(glm, shards, tmp_path):
    """Prepares a trial, with changed settings."""
    stack = []

    def make(**changes):
        plain = {
            "model": {"path": str(glm)},
            "data": {"shards": [str(shards)]},
            "precision": {"dtype": "fp32"},
            "lora": {"target_modules": ["q_proj", "down_proj"]},
        }
        names = plain | changes
        merged = {name: plain.get(name, {}) | changes.get(name, {}) for name in names}
        manager = prepared(build([("test", merged)]), tmp_path / f"scratch{len(stack)}")
        stack.append(manager)
        return manager.__enter__()

    yield make
    for manager in reversed(stack):
        manager.__exit__(None, None, None)


@pytest.fixture(scope="module", autouse=True)
def recommendation():
    """What this machine's formats come to, asked once: it is timed, and the same each time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probe, "recommend", functools.cache(probe.recommend))
        yield


@pytest.fixture
def examined(trial):
    """The findings of a whole trial, and what they rest on."""

    def make(*, longest=False, **changes):
        found = preflight.examine(trial(**changes), longest=longest)
        return [(f.rule, f.severity.value) for f in trial_rules.judge(found)], found

    return make


@pytest.fixture(scope="module")
def sound(glm, shards, tmp_path_factory):
    """A whole trial of a sound run."""
    given = {"model": {"path": str(glm)}, "data": {"shards": [str(shards)]}}
    config = build([("test", given | {"precision": {"dtype": "fp32"}})])
    with prepared(config, tmp_path_factory.mktemp("sound")) as trial:
        return preflight.examine(trial)


@pytest.fixture
def formatted(trial, sound):
    """The findings on formats, of a model that is spoilt on its way, and the formats."""

    def make(**changes):
        tried = trial(**changes)
        found = formats.compare(tried)
        rules = trial_rules.judge(dataclasses.replace(sound, formats=found))
        return {(f.rule, f.severity.value) for f in rules}, found

    return make


@pytest.fixture
def compared(trial, sound):
    """The findings on what must not matter, of a model that is spoilt on its way."""

    def make(**changes):
        tried = trial(**changes)
        with tried.made("fp32") as made, quiet_libraries():
            alone = dataclasses.replace(sound.formats, exact=None)
            found = invariances.of(made, tried, alone)
        whole = dataclasses.replace(
            sound,
            invariances=found,
            packed=bool(tried.data.packed.any()),
            checkpointing=tried.config.model.gradient_checkpointing,
        )
        return {(f.rule, f.severity.value) for f in trial_rules.judge(whole) if f.rule != "CF128"}

    return make


@pytest.mark.parametrize(
    ("method", "rows"), [("full", "packed"), ("ptuning", "packed"), ("qlora", "shards")]
)
def test_a_sound_run_has_no_findings(examined, request, method, rows):
    folder = str(request.getfixturevalue(rows))
    rules, found = examined(longest=True, model={"method": method}, data={"shards": [folder]})
    assert [r for r in rules if r[0] != "CF128"] == []  # the model is a random one
    assert found.formats.advised in ("fp32", "bf16")
    assert found.packed == (rows == "packed")
    assert found.longest.seconds > 0
    assert found.longest.memory.measured > 0


def test_every_format_is_compared_with_the_most_precise_one(sound):
    found = sound
    errors = {each.name: each.error for each in found.formats.tried}
    assert errors["fp64"] is None
    assert 0 < errors["fp32"] < 1e-5 < errors["fp16"] < errors["bf16"] < 0.1
    assert [layer.name for layer in found.formats.tried[0].layers] == [
        "embeddings", "0", "1", "others", "head",
    ]  # fmt: skip


# Invariances: each broken in the one way that its rule is about.


def leaking(monkeypatch):
    """An all-ones mask, with which transformers lets packed segments see each other."""
    plain = Learner.states

    def states(self, inputs):
        if inputs.attention_mask is None:
            mask = torch.ones_like(inputs.input_ids)
            inputs = dataclasses.replace(inputs, attention_mask=mask)
        return plain(self, inputs)

    monkeypatch.setattr(Learner, "states", states)


def test_packed_segments_that_see_each_other_are_an_error_where_rows_are_packed(
    compared, packed, monkeypatch
):
    leaking(monkeypatch)
    rules = compared(data={"shards": [str(packed)]})
    assert ("CF135", "error") in rules
    assert {rule for rule, _ in rules} == {"CF135"}


def test_leaks_are_only_worth_knowing_where_nothing_is_packed(compared, monkeypatch):
    leaking(monkeypatch)
    rules = compared()
    assert ("CF135", "info") in rules


PLAIN_STATES = Learner.states


def counting_padding(self, inputs):
    """States that hold something of how long the padded row is."""
    return PLAIN_STATES(self, inputs) * (1 + inputs.input_ids.shape[1] / 1000)


def mixing_rows(self, inputs):
    states = PLAIN_STATES(self, inputs)
    return states + 0.01 * states[:1].mean(dim=1, keepdim=True)


def seeing_the_future(self, inputs):
    states = PLAIN_STATES(self, inputs)
    if inputs.attention_mask is None:
        return states
    ends = inputs.attention_mask.sum(dim=1) - 1
    last = states[torch.arange(len(ends)), ends]
    return states + 0.01 * last[:, None]


def randomised(self, inputs):
    return nn.functional.dropout(PLAIN_STATES(self, inputs), 0.1, training=True)


@pytest.mark.parametrize(
    ("fault", "rule"),
    [
        (counting_padding, "CF133"),
        (mixing_rows, "CF132"),
        (seeing_the_future, "CF134"),
        (randomised, "CF131"),
    ],
)
def test_what_must_not_matter_is_found_where_it_does(compared, monkeypatch, fault, rule):
    monkeypatch.setattr(Learner, "states", fault)
    rules = compared()
    assert (rule, "error") in rules


def test_random_results_are_told_of_once_and_not_as_broken_comparisons(compared, monkeypatch):
    monkeypatch.setattr(Learner, "states", randomised)
    rules = compared()
    assert {r for r, _ in rules} & {f"CF13{n}" for n in range(1, 8)} == {"CF131"}


def test_a_loss_that_is_a_mean_does_not_accumulate(compared, monkeypatch):
    plain = Learner.forward

    def mean(self, inputs, returns="sum"):
        found = plain(self, inputs, returns)
        return found / inputs.supervised * 10 if returns == "sum" else found

    monkeypatch.setattr(Learner, "forward", mean)
    rules = compared()
    assert ("CF136", "error") in rules


def test_checkpointing_that_computes_something_else_again_is_found(monkeypatch, compared):
    plain = methods.load

    def load(*args):
        model = plain(*args)

        def drift(_module, _args, output):
            again = torch._C._current_graph_task_id() >= 0  # within a backward pass
            return output * 1.01 if again else output

        model.get_decoder().layers[0].post_attention_layernorm.register_forward_hook(drift)
        return model

    monkeypatch.setattr(methods, "load", load)
    rules = compared()
    assert ("CF137", "info") in rules
    rules = compared(model={"gradient_checkpointing": True})
    assert ("CF137", "error") in rules


# Formats.


def test_activations_beyond_fp16_are_found_where_the_run_takes_fp16(formatted, sound, tmp_path):
    def spoil(model):
        model.model.layers[0].mlp.down_proj.weight.mul_(3e4)

    folder = str(save(tmp_path / "large", spoil=spoil))
    rules, found = formatted(model={"path": folder}, precision={"dtype": "fp16"})
    assert ("CF121", "error") in rules
    assert not found.safe("fp16")
    assert found.safe("fp32")
    other = dataclasses.replace(sound, formats=dataclasses.replace(found, chosen="fp32"))
    assert "CF121" not in {finding.rule for finding in trial_rules.judge(other)}


def test_gradients_that_vanish_at_the_loss_scale_are_found(formatted, monkeypatch):
    def faint(self, inputs, returns="sum"):
        found = plain(self, inputs, returns)
        return found * 1e-8 if returns == "sum" else found

    plain = Learner.forward
    monkeypatch.setattr(Learner, "forward", faint)
    rules, found = formatted(precision={"dtype": "fp16", "initial_loss_scale": 1.0})
    assert ("CF122", "warning") in rules
    assert found.headroom.lost > 0.5


def headroom(**facts):
    plain = {"scale": 65536.0, "lost": 0.0, "faint": 0.0, "most": 1e6, "least": 1.0}
    return scaling.Headroom(**{**plain, **facts})


@pytest.mark.parametrize(
    ("room", "rule"),
    [
        (headroom(), None),
        (headroom(lost=0.3, least=1e5), "CF122"),
        (headroom(most=3e4), "CF123"),
        (headroom(most=10.0, least=100.0, lost=0.1), "CF124"),
    ],
)
def test_a_loss_scale_is_judged_by_the_room_around_it(sound, room, rule):
    found = sound
    given = dataclasses.replace(found.formats, headroom=room, chosen="fp16")
    rules = {f.rule for f in trial_rules.judge(dataclasses.replace(found, formats=given))}
    assert rules & {"CF122", "CF123", "CF124"} == ({rule} if rule else set())


def test_the_loss_scale_that_is_advised_fits(sound):
    found = sound
    given = dataclasses.replace(found.formats, headroom=headroom(most=3e4), chosen="fp16")
    found = dataclasses.replace(found, formats=given)
    (finding,) = [f for f in trial_rules.judge(found) if f.rule == "CF123"]
    assert finding.data["better"] == 16384
    assert finding.data["count"] == 2


def test_a_format_is_imprecise_where_its_error_is_not_small_beside_the_batch(sound):
    found = dataclasses.replace(sound, formats=dataclasses.replace(sound.formats, chosen="bf16"))
    assert "CF125" not in {f.rule for f in trial_rules.judge(found)}
    noiseless = dataclasses.replace(found.formats, noise=1e-4)
    found = dataclasses.replace(found, formats=noiseless)
    assert "CF125" in {f.rule for f in trial_rules.judge(found)}


def test_numbers_that_are_finite_in_no_format_are_found(examined, tmp_path):
    def spoil(model):
        for layer in model.model.layers:
            layer.mlp.down_proj.weight.fill_(1e38)

    rules, found = examined(model={"path": str(save(tmp_path / "huge", spoil=spoil))})
    assert ("CF126", "error") in rules
    assert found.invariances is None
    assert "NaN or infinity" in found.formats.of("fp16").problem  # 1e38 is beyond its numbers


def test_shards_of_another_tokenizer_than_the_models_are_found(sound):
    assert "CF127" not in {f.rule for f in trial_rules.judge(sound)}
    other = dataclasses.replace(sound, tokenizer="glm4")
    assert "CF127" in {f.rule for f in trial_rules.judge(other)}


def test_a_model_that_knows_nothing_is_told_of(sound):
    found = sound
    for guess, told in ((1.0, True), (100.0, False)):
        given = dataclasses.replace(found.formats, guess=guess)
        rules = {f.rule for f in trial_rules.judge(dataclasses.replace(found, formats=given))}
        assert ("CF128" in rules) == told


# Memory.


def test_a_largest_batch_that_does_not_fit_is_found(examined, monkeypatch):
    plain = Learner.forward

    def full(self, inputs, returns="sum"):
        if returns == "sum" and inputs.input_ids.numel() > 512:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return plain(self, inputs, returns)

    monkeypatch.setattr(Learner, "forward", full)
    rules, found = examined(longest=True, data={"tokens_per_batch": 2048})
    assert ("CF145", "error") in rules
    assert found.longest.memory is None


def test_a_model_that_fits_in_no_way_is_found(examined, monkeypatch):
    def full(self, inputs, returns="sum"):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(Learner, "forward", full)
    rules, found = examined()
    assert rules == [("CF145", "error")]
    assert all(each.problem for each in found.formats.tried)


def test_a_nearly_full_device_is_told_of(sound):
    found = sound
    for available, told in ((1.05, True), (2, False)):
        size = int(found.longest.memory.measured * available)
        memory = dataclasses.replace(found.longest.memory, available=size)
        longest = dataclasses.replace(found.longest, memory=memory)
        rules = {f.rule for f in trial_rules.judge(dataclasses.replace(found, longest=longest))}
        assert ("CF146" in rules) == told


# The command.


def test_the_command_tells_all_and_writes_a_page(glmdiag, glm, shards, tmp_path):
    report, result = tmp_path / "x.html", tmp_path / "x.json"
    status, out, _ = glmdiag(
        "preflight", "--model", glm, "--shards", shards, "--dtype", "fp32",
        "--report", report, "--json", result,
    )  # fmt: skip
    found = json.loads(result.read_text())
    assert status == 0
    assert [each["name"] for each in found["formats"]["formats"]] == [
        "fp64",
        "fp32",
        "bf16",
        "fp16",
    ]
    assert all(each["holds"] for each in found["invariances"]["found"])
    assert all(each["took"] for each in found["effects"])
    assert "sdpa" in out
    assert report.read_text("utf-8").startswith("<!doctype html>")


def test_bad_input_is_one_clear_line(glmdiag, glm, shards, tmp_path):
    def spoil(model):
        model.model.layers[1].mlp.down_proj.weight[3, 4] = torch.nan

    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "config.json").write_text("{}")
    bad = {
        str(tmp_path / "nothing"): "no such folder",
        str(tmp_path / "empty"): "cannot be loaded",
        str(save(tmp_path / "nan", spoil=spoil)): "layers.1.mlp.down_proj.weight holds NaN",
        str(save(tmp_path / "small", vocab_size=290, pad_token_id=0, eos_token_id=[1])): "token id",
    }
    for model, says in bad.items():
        status, _, err = glmdiag("preflight", "--model", model, "--shards", shards)
        assert (status, says in err, len(err.strip().splitlines())) == (2, True, 1), err
    status, _, err = glmdiag("preflight", "--model", glm, "--shards", tmp_path)
    assert status == 2


def test_a_model_without_linear_layers_is_refused(glmdiag, shards, tmp_path):
    with quiet_libraries():
        from transformers import GPT2Config, GPT2LMHeadModel

        config = GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=2, n_positions=512)
        GPT2LMHeadModel(config).save_pretrained(tmp_path / "gpt2")
    status, _, err = glmdiag("preflight", "--model", tmp_path / "gpt2", "--shards", shards)
    assert (status, "no linear layers to adapt" in err) == (2, True)
