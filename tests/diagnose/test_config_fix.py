from __future__ import annotations

import json
import tomllib

import pytest
import yaml
from glmdiag.configs import load, read
from glmdiag.configs.document import parse
from glmdiag.configuration.edit import render, with_value
from glmdiag.configuration.fix import changes, fixed, write
from glmdiag.configuration.rules import judge
from glmdiag.machine.hardware import simulated
from glmprep.errors import UsageError
from glmtrain import config as trainer
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.diagnose.configuring import SAMPLES, made, measured, sample

WRITTEN = st.characters(exclude_categories=("C", "Z"))
"""Letters, digits and signs; a proposal is never made of anything else."""


def mended(*paths, machine=None, lengths=None):
    """The texts of the corrected files, and the changes."""
    config, documents = load(paths)
    wanted = changes(config, judge(config, machine, lengths))
    return fixed(documents, wanted), wanted


def test_bf16_becomes_fp16_where_the_card_has_none_and_comments_stay():
    (one,), wanted = mended(sample("llamafactory"), machine=simulated("V100"))
    assert yaml.safe_load(one.text) | {"bf16": False, "fp16": True} == yaml.safe_load(one.text)
    before = one.document.text.splitlines()
    assert [line for line in before if line not in one.text.splitlines()] == ["bf16: true"]
    assert "cutoff_len: 4096  # tokens" in one.text
    assert {(c.rule, c.key, c.value) for c in wanted} >= {("CF202", "bf16", False)}


@pytest.mark.parametrize(
    ("name", "card", "gone"),
    [
        ("llamafactory", "V100", "CF202"),
        ("swift", "V100", "CF202"),
        ("swift_args", "V100", "CF202"),
        ("training_args", "V100", "CF202"),
        ("official_lora", "A100", "CF234"),
        ("official_lora", "A100", "CF225"),
        ("official_lora", "A100", "CF232"),
        ("official_ptuning", "A100", "CF231"),
    ],
)
def test_a_corrected_copy_no_longer_has_the_finding(tmp_path, name, card, gone):
    machine = simulated(card)
    assert gone in {f.rule for f in judge(read([sample(name)]), machine)}
    fixes, _ = mended(sample(name), machine=machine)
    out = tmp_path / sample(name).name
    write(fixes, out)
    assert gone not in {f.rule for f in judge(read([out]), machine)}
    assert not fixes[0].left


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("llamafactory", {"pure_bf16": True}),
        ("llamafactory", {"train_on_prompt": True, "lora_alpha": 256, "max_grad_norm": 0}),
        ("llamafactory", {"template": "qwen", "save_strategy": "no"}),
        ("llamafactory", {"learning_rate": "1e-4", "torch_empty_cache_steps": 1}),
        ("axolotl", {"train_on_inputs": True, "learning_rate": 0.5}),
        ("swift_args", {"loss_scale": "all", "warmup_ratio": 0}),
        ("official_ptuning", {"training_args__gradient_checkpointing": True}),
    ],
)
def test_each_automatic_change_clears_its_finding(tmp_path, name, changes):
    config = made(tmp_path, name, **changes)
    before = {change.rule for change in mended(*config.sources)[1]}
    assert before
    out = tmp_path / "fixed.json"
    write(mended(*config.sources)[0], out)
    assert not before & {f.rule for f in judge(read([out]))}


def test_the_official_pair_of_limits_is_made_to_hold_the_data():
    long = measured(1025, cut=90, bare=10)
    (one,), _ = mended(sample("official_lora"), lengths=long)
    tree = yaml.safe_load(one.text)
    assert tree["max_input_length"] + tree["max_output_length"] + 1 >= long.covering == 2112
    assert "# tokens of the prompt" in one.text


def test_deepspeed_s_file_is_corrected_beside_the_trainer_s(tmp_path):
    config = made(tmp_path, "llamafactory", {"bf16__enabled": False, "gradient_clipping": 0.5})
    fixes, wanted = mended(*config.sources)
    assert {change.key for change in wanted if change.in_deepspeed} == {
        "bf16.enabled",
        "gradient_clipping",
    }
    places = write(fixes, tmp_path / "out")
    assert [place.name for place in places] == ["llamafactory.json", "ds.json"]
    after = judge(read(places))
    assert not {"CF203", "CF215"} & {finding.rule for finding in after}


def test_a_key_that_deepspeed_lacks_is_put_in(tmp_path):
    key = "zero_optimization__stage3_gather_16bit_weights_on_model_save"
    config = made(tmp_path, "llamafactory", {key: False})
    fixes, _ = mended(*config.sources)
    assert json.loads(fixes[1].text)["zero_optimization"][key.partition("__")[2]] is True


def test_changes_of_glmtrain_can_be_given_after_set(tmp_path):
    path = tmp_path / "config.toml"
    text = sample("glmtrain").read_text(encoding="utf-8").replace("0.0002", "0.5")
    path.write_text(text + '\n[precision]\ndtype = "bf16"\n', encoding="utf-8")
    (one,), wanted = mended(path, machine=simulated("V100"))
    options = {change.option for change in wanted}
    assert options == {'precision.dtype="fp16"', "optimiser.learning_rate=0.0002"}
    built = trainer.build([("fixed", tomllib.loads(one.text))])
    assert (built.precision.dtype, built.optimiser.learning_rate) == ("fp16", 2e-4)
    assert "accumulate = 2  # batches a step" in one.text


def test_a_recipe_is_changed_below_its_table(tmp_path):
    path = tmp_path / "recipe.toml"
    text = sample("recipe").read_text(encoding="utf-8").replace("1e-4", "0.5")
    path.write_text(text + "\n[train.precision]\ndtype = 'bf16'\n", encoding="utf-8")
    (one,), wanted = mended(path, machine=simulated("T4"))
    tree = tomllib.loads(one.text)
    assert tree["train"]["precision"]["dtype"] == "fp16"
    assert tree["train"]["optimiser"]["learning_rate"] == 2e-4
    assert all(not change.option.startswith("train.") for change in wanted)


def test_what_has_no_place_in_the_text_is_left_and_said():
    document = parse(SAMPLES / "x.yaml", "training_args: {learning_rate: 1.0}\n")
    with pytest.raises(UsageError, match="no place for"):
        with_value(document, "peft_config.r", 8)


@settings(max_examples=50)
@given(
    st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(WRITTEN),
)
def test_a_value_that_is_written_is_read_as_the_same(value):
    texts = {"yaml": "a: 1 # one\nb:\n  c: 2\n", "json": '{"a": 1,\n "b": {"c": 2}}'}
    for syntax, text in texts.items():
        for key in ("a", "b.c", "b.d"):
            document = parse(SAMPLES / f"x.{syntax}", text)
            again = parse(SAMPLES / f"x.{syntax}", with_value(document, key, value)).tree
            found = again["a"] if key == "a" else again["b"][key[2:]]
            assert found == value
            assert type(found) is type(value)


def test_small_rates_are_written_so_that_yaml_reads_a_number():
    assert yaml.safe_load(render("yaml", 2e-5)) == 2e-5
