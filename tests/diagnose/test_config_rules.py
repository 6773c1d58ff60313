from __future__ import annotations

import json
import tomllib
from importlib import resources

import pytest
from glmdiag.configs import read
from glmdiag.configuration.rules import judge
from glmdiag.configuration.step_rules import width_of
from glmdiag.machine.hardware import simulated
from glmprep.findings import RULES, Severity

from tests.diagnose.configuring import GONE, made, measured, sample

SANE = ("llamafactory", "axolotl", "swift", "swift_args", "training_args", "glmtrain", "recipe")
LONG = measured(4096, cut=50, bare=5)

# rule: (sample, what is changed in it, what is changed in the DeepSpeed file beside it, more)
FAULTS = {
    "CF201": ("llamafactory", {"fp16": True}, None, {}),
    "CF202": ("llamafactory", {}, None, {"card": "V100"}),
    "CF203": ("llamafactory", {}, {"bf16__enabled": False}, {}),
    "CF204": ("official_sft", {"training_args__bf16": GONE}, {}, {}),
    "CF205": ("llamafactory", {"pure_bf16": True}, None, {}),
    "CF207": ("llamafactory", {"bf16": False}, None, {}),
    "CF208": ("llamafactory", {"bf16": False, "fp16": True}, None, {"card": "A100"}),
    "CF209": ("training_args", {"bf16": False, "fp16": True}, {"fp16__loss_scale": 128}, {}),
    "CF211": ("llamafactory", {"quantization_bit": 8}, {}, {}),
    "CF212": ("official_ptuning", {}, {}, {}),
    "CF213": ("llamafactory", {}, {"zero_optimization__offload_optimizer": {"device": "cpu"}}, {}),
    "CF214": (
        "llamafactory",
        {},
        {"zero_optimization__stage3_gather_16bit_weights_on_model_save": GONE},
        {},
    ),
    "CF215": ("llamafactory", {}, {"gradient_accumulation_steps": 4}, {}),
    "CF216": ("llamafactory", {}, {"gradient_clipping": GONE}, {}),
    "CF217": ("ds_zero3", {}, None, {}),
    "CF218": ("llamafactory", {"deepspeed": "nowhere/ds.json"}, None, {}),
    "CF219": ("llamafactory", {"predict_with_generate": True}, {}, {}),
    "CF221": ("llamafactory", {}, None, {"lengths": LONG}),
    "CF222": ("swift", {}, None, {"lengths": measured(2048, long=20, short=80)}),
    "CF223": ("official_lora", {}, None, {}),
    "CF224": ("llamafactory", {"train_on_prompt": True}, None, {}),
    "CF225": ("official_lora", {}, None, {}),
    "CF226": ("llamafactory", {"template": "qwen"}, None, {}),
    "CF227": ("axolotl", {"eot_tokens": ["<|endoftext|>"]}, None, {}),
    "CF228": ("axolotl", {"lora_target_modules": ["q_proj", "gate_proj", "up_proj"]}, None, {}),
    "CF229": ("official_lora", {}, None, {}),
    "CF231": ("llamafactory", {"learning_rate": 0.01}, None, {}),
    "CF232": ("llamafactory", {"warmup_ratio": GONE}, None, {}),
    "CF233": ("llamafactory", {"gradient_accumulation_steps": 1}, None, {}),
    "CF234": ("official_lora", {}, None, {}),
    "CF235": ("llamafactory", {"max_grad_norm": 0}, None, {}),
    "CF236": ("training_args", {"logging_nan_inf_filter": True}, None, {}),
    "CF237": ("llamafactory", {"save_strategy": "no"}, None, {}),
    "CF238": ("llamafactory", {"eval_strategy": "no"}, None, {}),
    "CF239": ("llamafactory", {"lora_alpha": 256}, None, {}),
    "CF240": (
        "llamafactory",
        {"warmup_ratio": GONE, "warmup_steps": 900, "max_steps": 1000},
        None,
        {},
    ),
    "CF241": ("llamafactory", {"torch_empty_cache_steps": 1}, None, {}),
    "CF242": (
        "llamafactory",
        {"disable_gradient_checkpointing": True},
        None,
        {"card": "4090", "limit": 1024},
    ),
    "CF243": ("llamafactory", {"finetuning_type": "full"}, None, {"card": "4090"}),
    "CF246": ("llamafactory", {"learning_rte": 1e-4}, None, {}),
    "CF247": ("llamafactory", {"learning_rate": "1e-4"}, None, {}),
    "CF248": ("llamafactory", {"learning_rate": "high"}, None, {}),
    "CF250": ("llamafactory", {"warmup_steps": 100}, None, {}),
    "CF251": ("official_ptuning", {"training_args__gradient_checkpointing": True}, None, {}),
    "CF252": ("llamafactory", {"load_best_model_at_end": True, "save_steps": 300}, None, {}),
    "CF253": ("axolotl", {"adapter": GONE}, None, {}),
    "CF256": ("training_args", {"train_sampling_strategy": "sequential"}, None, {}),
    "CF254": ("llamafactory", {"ddp_find_unused_parameters": True}, None, {}),
}


@pytest.mark.parametrize("rule", FAULTS)
def test_a_rule_fires_on_its_fault_and_not_without_it(rule, tmp_path):
    name, changes, deepspeed, more = FAULTS[rule]
    if "limit" in more:
        changes = {**changes, "cutoff_len": more["limit"]}
    card = simulated(more["card"]) if "card" in more else None
    faulty = made(tmp_path, name, deepspeed, **changes)
    assert rule in rules(judge(faulty, card, more.get("lengths")))
    sound = read([sample("training_args" if name == "ds_zero3" else SOUND.get(rule, name))])
    assert rule not in rules(judge(sound, simulated("H100"), None))


SOUND = {
    "CF212": "official_sft",
    "CF223": "llamafactory",
    "CF225": "official_sft",
    "CF229": "axolotl",
    "CF234": "llamafactory",
}
"""Other samples than the one with the fault, where that one has it without a change."""


def rules(findings) -> set[str]:
    return {finding.rule for finding in findings}


def test_a_key_that_is_said_twice_is_told(tmp_path):
    path = tmp_path / "twice.yaml"
    text = sample("llamafactory").read_text(encoding="utf-8") + "learning_rate: 1.0e-5\n"
    path.write_text(text, encoding="utf-8")
    assert "CF249" in rules(judge(read([path])))
    assert "CF249" not in rules(judge(read([sample("llamafactory")])))


def test_every_rule_has_a_fault_and_chinese_texts():
    ours = {rule for rule in RULES if "CF201" <= rule <= "CF259"}
    assert ours - {"CF249", "CF255"} == set(FAULTS)
    path = resources.files("glmreport").joinpath("strings/zh/rules-config.toml")
    chinese = tomllib.loads(path.read_text(encoding="utf-8"))["rule"]
    assert set(chinese) == ours


@pytest.mark.parametrize("name", SANE)
def test_a_sane_configuration_gets_neither_error_nor_warning(name):
    findings = judge(read([sample(name)]), simulated("A100"))
    assert [f.rule for f in findings if f.severity is not Severity.INFO] == []


def test_the_official_lora_gets_what_is_true_of_it():
    findings = judge(read([sample("official_lora")]), simulated("A100"))
    told = {f.rule for f in findings if f.severity is not Severity.INFO}
    assert told == {"CF225", "CF232", "CF234"}


def test_the_official_full_training_under_zero_has_nothing_to_warn_of():
    findings = judge(read([sample("official_sft")]), simulated("A100"))
    assert {f.severity for f in findings} == {Severity.INFO}


def test_bf16_of_the_official_script_is_seen_though_its_yaml_says_nothing():
    findings = judge(read([sample("official_lora")]), simulated("V100"))
    found = next(f for f in findings if f.rule == "CF202")
    assert found.severity is Severity.ERROR
    assert "finetune.py" in found.evidence
    assert found.data["takes"] == "fp16"


def test_bf16_that_is_chosen_by_the_hardware_is_no_fault_on_old_hardware(tmp_path):
    assert "CF202" not in rules(judge(read([sample("axolotl")]), simulated("V100")))


def test_a_machine_without_an_accelerator_says_nothing_about_bf16(tmp_path):
    machine = simulated("V100")
    bare = type(machine)(
        **{name: getattr(machine, name) for name in machine.__slots__} | {"devices": []}
    )
    assert "CF202" not in rules(judge(read([sample("llamafactory")]), bare))


def test_a_rate_ten_times_too_high_is_told_and_one_for_a_prefix_is_not(tmp_path):
    config = made(tmp_path, "llamafactory", finetuning_type="full", learning_rate=2e-3)
    found = next(f for f in judge(config) if f.rule == "CF231")
    assert found.severity is Severity.WARNING
    config = made(tmp_path, "official_ptuning", training_args__learning_rate=2e-2)
    assert "CF231" not in rules(judge(config))


def test_rates_go_by_the_inverse_of_the_model_s_width(tmp_path):
    small = made(tmp_path, "llamafactory", learning_rate=1e-2)
    assert "CF231" in rules(judge(small, width=4096))
    assert "CF231" not in rules(judge(small, width=64))
    usual = read([sample("llamafactory")])
    assert "CF231" not in rules(judge(usual, width=4096))
    found = next(f for f in judge(usual, width=64) if f.rule == "CF231")
    assert float(found.data["rate"]) < float(found.data["low"])


def test_the_width_is_that_of_a_model_at_hand(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(SMALL))
    assert width_of(str(tmp_path)) == 64
    assert width_of("nobody/nothing") is width_of("a\0b") is width_of(None) is None


SMALL = {
    "model_type": "glm", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32, "vocab_size": 320,
}  # fmt: skip


@pytest.mark.parametrize(
    ("base", "told"),
    [("glm-4-9b-old", True), ("/models/glm-4-9b-chat-hf", False), ("glm-4-9b-chat-hf/", False)],
)
def test_an_adapter_of_another_base_is_told_by_the_names_alone(tmp_path, base, told):
    (tmp_path / "adapter").mkdir()
    said = json.dumps({"base_model_name_or_path": base})
    (tmp_path / "adapter" / "adapter_config.json").write_text(said)
    model = "/cache/models--THUDM--glm-4-9b-chat-hf/snapshots/0f1e"
    config = made(
        tmp_path, "training_args", model_name_or_path=model, adapter_name_or_path="adapter"
    )
    assert ("CF255" in rules(judge(config))) == told


@pytest.mark.parametrize("text", ["{", "[]", '{"base_model_name_or_path": 3}', None])
def test_an_adapter_that_says_no_base_is_passed_over(tmp_path, text):
    if text is not None:
        (tmp_path / "adapter").mkdir()
        (tmp_path / "adapter" / "adapter_config.json").write_text(text)
    named = {"model_name_or_path": "glm", "adapter_name_or_path": "adapter"}
    assert made(tmp_path, "training_args", **named).adapter_base is None


@pytest.mark.parametrize(
    ("name", "key", "severity"),
    [
        ("training_args", "my_own_switch", Severity.INFO),
        ("training_args", "learning_rte", Severity.WARNING),
        ("llamafactory", "my_own_switch", Severity.WARNING),
        ("llamafactory", "learning_rte", Severity.ERROR),
    ],
)
def test_an_unknown_key_is_as_bad_as_its_trainer_takes_it(tmp_path, name, key, severity):
    found = [f for f in judge(made(tmp_path, name, **{key: 1})) if f.rule == "CF246"]
    assert [f.severity for f in found] == [severity]


def test_a_short_run_that_saves_nothing_is_no_warning(tmp_path):
    for steps, severity in ((64, Severity.INFO), (5000, Severity.WARNING)):
        config = made(tmp_path, "llamafactory", save_strategy="no", max_steps=steps)
        assert [f.severity for f in judge(config) if f.rule == "CF237"] == [severity]


def test_few_cut_answers_are_a_warning_and_hardly_any_are_none():
    config = read([sample("llamafactory")])
    some = measured(4096, long=2, short=998, cut=0, bare=6)
    few = measured(4096, long=2, short=998, cut=1)
    assert [f.severity for f in judge(config, None, some) if f.rule == "CF221"] == ["warning"]
    assert "CF221" not in rules(judge(config, None, few))
