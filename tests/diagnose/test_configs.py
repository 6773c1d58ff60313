from __future__ import annotations

import json
import string

import pytest
from glmdiag.configs import load, read
from glmdiag.configs.document import parse
from glmdiag.configuration.effects import effects
from glmdiag.configuration.fix import changes, fixed
from glmdiag.configuration.rules import judge
from glmdiag.machine.hardware import simulated
from glmprep.errors import InputError, SuiteError, UsageError
from hypothesis import given
from hypothesis import strategies as st

from tests.diagnose.configuring import SAMPLES, made, sample, tree

READ = {
    "official_lora": ("official", "lora", 1025, 1, 5e-4, 0.0),
    "official_sft": ("official", "full", 4097, 16, 2e-5, 100.0),
    "official_ptuning": ("official", "ptuning", 257, 4, 5e-4, 0.0),
    "llamafactory": ("llamafactory", "lora", 4096, 8, 1e-4, 0.1),
    "axolotl": ("axolotl", "qlora", 2048, 8, 2e-4, 0.1),
    "swift": ("swift", "lora", 2048, 16, 1e-4, 0.05),
    "swift_args": ("swift", "lora", 2048, 16, 1e-4, 0.05),
    "training_args": ("transformers", None, None, 16, 2e-4, 0.05),
    "glmtrain": ("glmtrain", "lora", None, None, 2e-4, 0.05),
    "recipe": ("glmtrain", "qlora", None, None, 1e-4, 0.05),
}


@pytest.mark.parametrize("name", READ)
def test_every_trainer_s_file_comes_to_the_same_record(name):
    config = read([sample(name)])
    found = (config.trainer, config.method, config.limit, config.rows_per_step)
    assert (*found, config.effective("learning_rate"), config.warmup) == READ[name]
    assert not [odd for odd in config.oddities if odd.kind != "missing"]


def test_a_value_remembers_where_it_was_said():
    config = read([sample("official_lora")])
    assert str(config.said["learning_rate"]) == "official_lora.yaml:13 training_args.learning_rate"
    assert config.where("alpha") == "official_lora.yaml:29 peft_config.lora_alpha"
    assert config.where("weight_decay") == "official_lora.yaml"


def test_what_is_not_said_is_none_and_has_the_trainer_s_default(tmp_path):
    config = read([sample("llamafactory")])
    assert config.alpha is None
    assert config.effective("alpha") == 16
    assert config.checkpointing is None
    assert config.default("checkpointing") is True
    config = made(tmp_path, "llamafactory", disable_gradient_checkpointing=True)
    assert config.checkpointing is False


def test_ms_swift_accumulates_to_sixteen_rows_where_nothing_is_said(tmp_path):
    config = made(tmp_path, "swift_args", gradient_accumulation_steps=None)
    assert config.effective("accumulation") == 16


def test_a_deepspeed_file_is_found_beside_the_file_that_names_it():
    config, documents = load([sample("official_sft")])
    assert [document.path.name for document in documents] == ["official_sft.yaml", "ds_zero3.json"]
    assert config.deepspeed is not None
    assert (config.deepspeed.stage, config.deepspeed.gathers_on_save) == (3, True)


def test_what_glmtrain_resolves_is_read_without_an_odd_key(tmp_path):
    from glmtrain.config import to_toml
    from glmtrain.settings import Config

    path = tmp_path / "config.resolved.toml"
    path.write_text(to_toml(Config(), ["resolved"]), encoding="utf-8")
    config = read([path])
    assert config.oddities == []
    assert (config.model, config.method, config.warmup) == ("tiny", "lora", 0.05)


SCRIPT = {
    "model_name_or_path": "glm",
    "train_file": "train.jsonl",
    "torch_dtype": "bfloat16",
    "max_seq_length": 512,
    "lora_r": 4,
    "lora_alpha": 8,
    "lora_dropout": 0.1,
    "lora_target_modules": "all-linear",
    "lora_modules_to_save": ["model.norm"],
}


def test_what_a_script_takes_beside_the_arguments_is_read(tmp_path):
    config = made(tmp_path, "training_args", **SCRIPT)
    assert config.oddities == []
    assert (config.model, config.method, config.limit) == ("glm", "lora", 512)
    assert (config.rank, config.alpha, config.dropout) == (4, 8.0, 0.1)
    assert (config.targets, config.weights, config.pure) == (("all-linear",), "bf16", None)


@pytest.mark.parametrize(
    ("said", "method", "pure"),
    [
        ({"use_peft": True, "load_in_4bit": True}, "qlora", None),
        ({"use_peft": False, "dtype": "bfloat16"}, "full", True),
        ({"use_peft": False, "dtype": "float32"}, "full", None),
        ({"pre_seq_len": 128}, "ptuning", None),
        ({}, None, None),
    ],
)
def test_the_method_of_a_script_follows_its_arguments(tmp_path, said, method, pure):
    config = made(tmp_path, "training_args", **said)
    assert (config.method, config.pure) == (method, pure)


def test_the_names_of_ms_swift_for_deepspeed_are_known():
    config = read([sample("swift")])
    assert config.deepspeed is not None
    assert (config.deepspeed.stage, config.deepspeed.bf16) == (2, "auto")


def test_the_order_of_the_files_does_not_matter():
    one = read([sample("llamafactory"), sample("ds_zero3")])
    assert one.as_json() == read([sample("ds_zero3"), sample("llamafactory")]).as_json()
    assert one.trainer == "llamafactory"


def test_a_number_without_a_point_is_a_number_for_every_trainer():
    assert parse(sample("swift"), "a: 5e-4\nb: '5e-4'\n").tree == {"a": 0.0005, "b": "5e-4"}


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("empty.yaml", "", "is empty"),
        ("blank.json", "  \n", "is empty"),
        ("list.yaml", "- 1\n- 2\n", "is a list"),
        ("number.json", "5", "is a int"),
        ("broken.yaml", "a: [1\n", "not YAML (line"),
        ("broken.json", '{"a": 1', "not JSON"),
        ("broken.toml", "a = \n", "not TOML"),
        ("other.yaml", "services:\n  web: 1\n", "no known configuration"),
        ("other.toml", "[tool.ruff]\nline = 1\n", "no known configuration"),
        ("two.yaml", "a: 1\n---\nb: 2\n", "not YAML"),
        ("python.yaml", "a: !!python/object/apply:os.system [ls]\n", "no known configuration"),
        ("tagged.yaml", "a: !!python/name:os.system x\n", "not YAML"),
        ("deep.yaml", "a: " + "[" * 40 + "]" * 40, "nested deeper"),
        ("deeper.yaml", "a: " + "[" * 1000, "not YAML"),
        ("deep.json", '{"a":' * 90_000, "not JSON"),
        ("large.yaml", "a: " + "x" * (1 << 20), "larger than"),
        ("control.yaml", "a: \x07\n", "not YAML"),
        ("binary.yaml", "\0\1", "is not text"),
    ],
)
def test_what_cannot_be_read_is_told_in_one_line(tmp_path, name, text, told):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as error:
        read([path])
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_bytes_that_are_no_text_are_told(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_bytes(b"a: \xff\xfe")
    with pytest.raises(InputError, match="not text"):
        read([path])


def test_aliases_that_stand_for_billions_of_values_are_refused(tmp_path):
    path = tmp_path / "bomb.yaml"
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for n in range(1, 9):
        lines.append(f"a{n}: &a{n} [" + ", ".join([f"*a{n - 1}"] * 10) + "]")
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(InputError, match="more than 20000 values"):
        read([path])


def test_an_alias_to_itself_is_refused(tmp_path):
    path = tmp_path / "self.yaml"
    path.write_text("a: &a [*a]\n", encoding="utf-8")
    with pytest.raises(InputError):
        read([path])


def test_a_pickle_is_refused_with_the_reason_and_never_opened(tmp_path):
    with pytest.raises(InputError, match="is a pickle, which can run code"):
        read([tmp_path / "training_args.bin"])


def test_two_trainers_files_are_refused():
    with pytest.raises(UsageError, match="two configurations of a trainer"):
        read([sample("llamafactory"), sample("axolotl")])


def test_a_typing_error_is_told_with_the_key_that_was_meant(tmp_path):
    config = made(tmp_path, "official_lora", training_args__learning_rte=1e-4)
    odd = next(odd for odd in config.oddities if odd.kind == "unknown")
    assert (odd.said.key, odd.near) == ("training_args.learning_rte", "training_args.learning_rate")


def test_a_number_between_quotes_is_told_where_the_trainer_would_take_it_for_text(tmp_path):
    kinds = {
        name: [odd.kind for odd in made(tmp_path, name, learning_rate="1e-4").oddities]
        for name in ("llamafactory", "axolotl", "swift_args")
    }
    assert kinds == {"llamafactory": ["text"], "axolotl": [], "swift_args": []}


def test_settings_with_tabs_in_json_keep_their_lines(tmp_path):
    path = tmp_path / "ds.json"
    text = sample("ds_zero3").read_text(encoding="utf-8").replace("  ", "\t")
    path.write_text(text, encoding="utf-8")
    assert load([path])[1][0].line("zero_optimization.stage") == 9


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["lr", "params", "stage", "enabled"]), inner, max_size=3
            )
        ),
        max_leaves=6,
    ),
    st.sampled_from(["zero_optimization", "bf16", "fp16", "optimizer", "gradient_clipping"]),
)
def test_any_value_of_a_deepspeed_key_is_read_or_passed_over(value, key):
    from glmdiag.configs import deepspeed
    from glmdiag.configs.record import TrainerConfig

    plan = deepspeed.build(json.loads(json.dumps({"train_batch_size": 8, key: value})), None)
    config = TrainerConfig(trainer="deepspeed", sources=[SAMPLES], defaults={}, deepspeed=plan)
    assert isinstance(judge(config), list)
    assert isinstance(effects(config), list)


@given(st.text(alphabet=string.printable, max_size=200))
def test_any_text_is_a_configuration_or_an_error_of_ours(text):
    for suffix in ("yaml", "json", "toml"):
        try:
            found = parse(SAMPLES / f"x.{suffix}", text)
        except InputError:
            continue
        assert isinstance(found.tree, dict)


ODD = ("auto", 1e308, {"a": {}})


def test_no_value_in_any_place_breaks_the_reading_the_rules_or_the_fix(tmp_path):
    whole, path, card = tree("official_ptuning"), tmp_path / "odd.json", simulated("V100")
    for key in leaves(whole):
        for value in ODD:
            path.write_text(json.dumps(with_leaf(whole, key, value)), encoding="utf-8")
            try:
                config, documents = load([path])
            except SuiteError:
                continue
            findings = judge(config, card)
            fixed(documents, changes(config, findings))
            effects(config, 2)


def leaves(found: object, above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The paths of all values of a tree."""
    if not isinstance(found, dict):
        return [above]
    inner = [path for key, value in found.items() for path in leaves(value, (*above, key))]
    return [above, *inner] if above else inner


def with_leaf(whole: dict, path: tuple[str, ...], value: object) -> dict:
    copy = json.loads(json.dumps(whole))
    table = copy
    for key in path[:-1]:
        table = table[key]
    table[path[-1]] = value
    return copy
