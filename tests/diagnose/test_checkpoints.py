"""What runs leave, with faults planted one by one in the files of a small adapter and model."""

from __future__ import annotations

import json
import math
import pickle
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from glmdiag.checkpoints import reading
from glmdiag.checkpoints.asked import compare, reload
from glmdiag.checkpoints.checkpoint_rules import judge, merged_differs, prefix_lost
from glmdiag.checkpoints.compared import Reloaded
from glmdiag.checkpoints.learning import read as read_learning
from glmprep.errors import InputError, UsageError
from safetensors.torch import load_file, save_file

torch.set_num_threads(1)
TARGETS = ["q_proj", "v_proj"]
OUT = "base_model.model.model.layers.{}.self_attn.{}.lora_{}.weight"


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-layer GLM, and an adapter on it that learned something."""
    from glmtrain.model import quiet_libraries

    place = tmp_path_factory.mktemp("made")
    with quiet_libraries():
        from peft import LoraConfig, get_peft_model
        from transformers import GlmConfig, GlmForCausalLM

        torch.manual_seed(0)
        causal = GlmForCausalLM(
            GlmConfig(
                vocab_size=320,
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=2,
                num_key_value_heads=1,
                head_dim=16,
                pad_token_id=300,
                eos_token_id=[302],
                initializer_range=0.2,
            )
        )
        causal.save_pretrained(place / "base")
        lora = LoraConfig(r=4, lora_alpha=8, target_modules=TARGETS, task_type="CAUSAL_LM")
        adapter = get_peft_model(causal, lora)
        for name, weight in adapter.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.05)
        adapter.save_pretrained(place / "adapter", save_embedding_layers=False)
        adapter.merge_and_unload().save_pretrained(place / "merged")
    return place


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "made")
    return tmp_path / "made"


def found(folder: Path, base: Path | None = None) -> dict[str, Any]:
    return {f.rule: f for f in judge(reading.read(folder, base))}


def change(folder: Path, edit: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    """Put other tensors in an adapter's file."""
    path = folder / "adapter_model.safetensors"
    weights = load_file(path)
    weights = edit(weights) or weights
    save_file({name: weight.contiguous() for name, weight in weights.items()}, path)


def configure(folder: Path, **values: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_sound_adapter_and_a_sound_model_have_no_findings(place):
    assert found(place / "adapter", place / "base") == {}
    assert found(place / "base") == {}
    assert found(place / "merged", place / "base") == {}


def test_the_change_of_each_layer_is_that_of_the_product(place):
    seen = reading.read(place / "adapter", place / "base")
    weights = load_file(place / "adapter" / "adapter_model.safetensors")
    base = load_file(place / "base" / "model.safetensors")
    a, b = (weights[OUT.format(1, "v_proj", side)] for side in "AB")
    wanted = 2 * (b @ a).norm() / base["model.layers.1.self_attn.v_proj.weight"].norm()
    (got,) = [c for c in seen.changes if c.module == "model.layers.1.self_attn.v_proj"]
    assert math.isclose(got.relative, float(wanted), rel_tol=1e-5)


def test_nan_is_found_and_named(place):
    name = OUT.format(0, "q_proj", "A")

    def spoil(weights):
        weights[name][1, 2] = math.nan
        weights[name][0, 0] = math.inf

    change(place / "adapter", spoil)
    finding = found(place / "adapter", place / "base")["CK001"]
    assert (finding.data["first"], finding.data["values"]) == (name, 2)


def test_a_truncated_file_is_damaged(place):
    path = place / "adapter" / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    assert set(found(place / "adapter", place / "base")) == {"CK002"}


def test_tensors_that_the_index_names_and_no_file_has_are_told(place):
    index = {
        "weight_map": {"model.norm.weight": "model.safetensors", "lost": "model-2.safetensors"}
    }
    (place / "base" / "model.safetensors.index.json").write_text(json.dumps(index))
    finding = found(place / "base")["CK003"]
    assert (finding.data["first"], finding.data["file"]) == ("lost", "model-2.safetensors")


def zeroed(part: str) -> Callable[[dict[str, torch.Tensor]], Any]:
    return lambda weights: {n: w * 0 if part in n else w for n, w in weights.items()}


def test_an_adapter_whose_b_is_zero_changes_nothing(place):
    change(place / "adapter", zeroed("lora_B"))
    assert set(found(place / "adapter", place / "base")) == {"CK004"}
    assert read_learning(place / "adapter", place / "base").verdict == "nothing"


def test_a_part_of_the_adapter_that_is_zero_is_a_warning(place):
    change(place / "adapter", zeroed("layers.1.self_attn.q_proj.lora_B"))
    finding = found(place / "adapter", place / "base")["CK005"]
    assert (finding.data["count"], finding.data["modules"]) == (1, 4)


def test_a_matrix_of_zeros_in_a_model_is_told(place):
    path = place / "base" / "model.safetensors"
    weights = load_file(path)
    weights["model.layers.0.mlp.down_proj.weight"] *= 0
    save_file(weights, path)
    assert found(place / "base")["CK006"].data["first"].endswith("down_proj.weight")


def test_an_adapter_that_drowns_its_base_is_told(place):
    change(place / "adapter", lambda w: {n: t * 1000 if "lora_B" in n else t for n, t in w.items()})
    assert found(place / "adapter", place / "base")["CK007"].data["relative"] > 10


def test_tensors_that_zero3_left_empty_are_told(place):
    change(place / "adapter", lambda w: {n: t.new_zeros(0) for n, t in w.items()})
    finding = found(place / "adapter", place / "base")["CK028"]
    assert (finding.data["count"], finding.data["share"]) == (8, 1.0)


def test_another_rank_than_the_configurations_is_told(place):
    configure(place / "adapter", r=16)
    assert found(place / "adapter", place / "base")["CK008"].data["count"] == 8


def test_targets_without_weights_and_halves_of_pairs_are_told(place):
    configure(place / "adapter", target_modules=[*TARGETS, "query_key_value"])
    assert found(place / "adapter", place / "base")["CK009"].data["first"] == "query_key_value"
    configure(place / "adapter", target_modules=TARGETS)
    change(
        place / "adapter",
        lambda w: {n: t for n, t in w.items() if "0.self_attn.q_proj.lora_A" not in n},
    )
    assert found(place / "adapter", place / "base")["CK009"].data["count"] == 1


def test_targets_by_their_whole_path_are_found(place):
    weights = load_file(place / "adapter" / "adapter_model.safetensors")
    paths = {name.split("base_model.model.")[1].split(".lora_")[0] for name in weights}
    configure(place / "adapter", target_modules=sorted(paths))
    assert found(place / "adapter", place / "base") == {}


def test_a_module_that_is_saved_whole_is_no_stray_but_any_other_tensor_is(place):
    change(place / "adapter", lambda w: {**w, "base_model.model.model.norm.weight": torch.ones(32)})
    assert "norm" in found(place / "adapter", place / "base")["CK010"].data["first"]
    configure(place / "adapter", modules_to_save=["model.norm"])
    assert found(place / "adapter", place / "base") == {}


@pytest.mark.parametrize("prefix", ["module.base_model.model.", "", "base_model.model.model."])
def test_names_with_another_prefix_are_told(place, prefix):
    change(
        place / "adapter",
        lambda w: {prefix + n.removeprefix("base_model.model."): t for n, t in w.items()},
    )
    assert "CK010" in found(place / "adapter", place / "base")


def test_layers_that_the_base_has_not_are_told(place):
    change(
        place / "adapter", lambda w: {n.replace("layers.1", "layers.39"): t for n, t in w.items()}
    )
    found_now = found(place / "adapter", place / "base")
    assert "layers.39" in found_now["CK010"].data["first"]
    assert found_now["CK012"].data["first"] == 1


def test_an_adapter_of_a_wider_model_is_told(place):
    change(
        place / "adapter",
        lambda w: {n: torch.cat([t, t], 1) if "lora_A" in n else t for n, t in w.items()},
    )
    assert found(place / "adapter", place / "base")["CK011"].data["count"] == 4


def test_a_base_with_other_weights_than_the_runs_is_told(place):
    run = record(place, fingerprint="0" * 64)
    assert "CK013" in found(run, place / "base")


def test_a_base_whose_weights_are_not_here_is_not_compared(place):
    run = record(place, fingerprint="0" * 64)
    (place / "base" / "model.safetensors").unlink()
    assert "CK013" not in found(run, place / "base")


def test_the_fingerprint_of_a_folder_is_that_of_the_loaded_model(place):
    from glmtrain import model

    with model.quiet_libraries():
        loaded = model.fingerprint(model.load(str(place / "base"), torch.float32))
    run = record(place, fingerprint=loaded)
    assert "CK013" not in found(run, place / "base")


def test_a_tokenizer_larger_than_the_embeddings_is_told(place):
    added = {"added_tokens": [{"id": 320, "content": "<new>"}]}
    (place / "merged" / "tokenizer.json").write_text(json.dumps(added))
    assert found(place / "merged")["CK014"].data["rows"] == 320


def record(place: Path, *, fingerprint: str = "", learned: Any = None) -> Path:
    """A run's folder with this adapter."""
    run = place / "run"
    shutil.copytree(place / "adapter", run)
    base = {"path": str(place / "base"), **({"fingerprint": fingerprint} if fingerprint else {})}
    said = {"format": "glmtrain-run/1", "state": "finished", "base": base}
    (run / "run.json").write_text(json.dumps(said | ({"learned": learned} if learned else {})))
    return run


def optimiser(place: Path, edit: Callable[[dict[str, Any]], Any] | None = None) -> Path:
    """The adapter as a checkpoint of transformers at step 30, with its optimiser."""
    folder = place / "out" / "checkpoint-30"
    shutil.copytree(place / "adapter", folder)
    (folder / "trainer_state.json").write_text('{"global_step": 30, "log_history": []}')
    moments = {"exp_avg": torch.ones(4), "exp_avg_sq": torch.ones(4)}
    state = {
        "state": {
            n: {"step": torch.tensor(30.0), **{k: v.clone() for k, v in moments.items()}}
            for n in range(3)
        },
        "param_groups": [{"lr": 1e-4, "betas": (0.9, 0.999), "params": [0, 1, 2]}],
    }
    if edit is not None:
        edit(state)
    torch.save(state, folder / "optimizer.pt")
    return folder


def spoilt(place: Path, edit: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    return found(optimiser(place, edit), place / "base")


def test_a_sound_checkpoint_of_transformers_has_no_findings(place):
    folder = optimiser(place)
    assert found(folder, place / "base") == {}
    assert found(folder.parent, place / "base") == {}


def test_an_optimiser_with_nan_is_told(place):
    def spoil(state):
        state["state"][1]["exp_avg"][0] = math.nan

    assert set(spoilt(place, spoil)) == {"CK015"}


def test_an_optimiser_of_another_step_is_told(place):
    def spoil(state):
        for each in state["state"].values():
            each["step"] = torch.tensor(700.0)

    assert spoilt(place, spoil)["CK016"].data["steps"] == "30, 700"


def test_weights_that_never_had_a_gradient_are_told(place):
    def spoil(state):
        for each in state["state"].values():
            each["exp_avg_sq"] *= 0

    finding = spoilt(place, spoil)["CK017"]
    assert (finding.severity, finding.data["share"]) == ("error", 1.0)


def test_odd_betas_are_told(place):
    def spoil(state):
        state["param_groups"][0]["betas"] = (0.9, 0.0)

    assert set(spoilt(place, spoil)) == {"CK018"}


def test_a_pickle_that_holds_code_is_never_opened(place, tmp_path):
    folder = optimiser(place)
    mark = tmp_path / "ran"

    class Hostile:
        def __reduce__(self):
            return Path.touch, (mark,)

    for name in ("optimizer.pt", "adapter_model.bin"):
        (folder / name).write_bytes(pickle.dumps({"state": Hostile()}))
    (folder / "adapter_model.safetensors").unlink()
    findings = [f for f in judge(reading.read(folder, place / "base")) if f.rule == "CK022"]
    assert {f.data["file"] for f in findings} == {"optimizer.pt", "adapter_model.bin"}
    assert not mark.exists()


def test_an_adapter_in_a_pickle_of_tensors_is_measured_alike(place):
    path = place / "adapter" / "adapter_model.safetensors"
    before = reading.read(place / "adapter", place / "base")
    torch.save(load_file(path), path.with_suffix(".bin"))
    path.unlink()
    after = reading.read(place / "adapter", place / "base")
    assert [c.relative for c in after.changes] == [c.relative for c in before.changes]
    assert {t.digest for t in after.weights.tensors.values()} == {
        t.digest for t in before.weights.tensors.values()
    }


def test_weights_that_stand_still_between_checkpoints_are_told(place):
    later = optimiser(place)
    shutil.copytree(later, later.with_name("checkpoint-15"))
    finding = found(later, place / "base")["CK019"]
    assert (finding.data["before"], finding.data["after"]) == (15, 30)


def test_a_factor_that_stands_still_while_the_other_moves_is_told(place):
    later = optimiser(place)
    shutil.copytree(later, later.with_name("checkpoint-15"))
    change(later, lambda w: {n: t * 1.5 if "lora_B" in n else t for n, t in w.items()})
    assert set(found(later, place / "base")) == {"CK020"}
    change(later, lambda w: {n: t * 1.5 for n, t in w.items()})
    assert found(later, place / "base") == {}


def test_a_merged_model_that_does_not_end_at_its_stops_is_told(place):
    (place / "merged" / "merged.json").write_text('{"stops": [302, 303, 304]}')
    (place / "merged" / "generation_config.json").write_text('{"eos_token_id": [302]}')
    assert found(place / "merged", place / "base")["CK021"].data["wanted"] == "302, 304"
    (place / "merged" / "generation_config.json").write_text('{"eos_token_id": [302, 304]}')
    assert "CK021" not in found(place / "merged", place / "base")


def test_a_merge_into_the_right_base_holds_and_one_with_another_scale_does_not(place):
    seen = reading.read(place / "adapter", place / "base")
    parity = compare(seen, str(place / "base"), place / "merged")
    assert list(merged_differs(parity)) == []
    configure(place / "adapter", lora_alpha=32)
    wrong = compare(seen, str(place / "base"), place / "merged")
    assert [f.rule for f in merged_differs(wrong)] == ["CK023"]


def test_a_prefix_comes_back_as_it_was(place, tmp_path):
    from glmtrain import model, prefix, settings

    with model.quiet_libraries():
        causal = model.load(str(place / "base"), torch.float32)
        learned = prefix.install(causal, settings.Prefix(tokens=3), 0)
    (tmp_path / "prefix").mkdir()
    prefix.save(learned, tmp_path / "prefix")
    seen = reading.read(tmp_path / "prefix", place / "base")
    again = reload(seen, str(place / "base"))
    assert again.same
    assert list(prefix_lost(again)) == []
    assert judge(seen, None, again) == []


def test_a_prefix_that_is_lost_or_has_no_effect_is_told():
    assert [f.rule for f in prefix_lost(Reloaded(same=False, effect=0.1))] == ["CK024"]
    assert [f.rule for f in prefix_lost(Reloaded(same=True, effect=0.0))] == ["CK024"]


def test_only_a_prefix_can_be_loaded_again(place):
    with pytest.raises(UsageError, match="no prefix"):
        reload(reading.read(place / "adapter", place / "base"), None)


def losses(before: float | None, after: float | None, gap: float = 1.0) -> dict[str, Any]:
    side = {"loss": before, "shuffled": before and before + 0.1, "stop": 0.9}
    later = {"loss": after, "shuffled": after and after + gap, "stop": 0.9}
    return {"before": side, "after": later, "answers": 8, "tokens": 80, "exact": None}


@pytest.mark.parametrize(
    ("before", "after", "gap", "verdict", "rule"),
    [
        (3.0, 1.0, 2.0, "learned", None),
        (3.0, 2.9, 2.0, "little", "CK026"),
        (3.0, 1.0, 0.0, "little", "CK026"),
        (3.0, 2.99, 2.0, "nothing", "CK025"),
        (3.0, 3.5, 2.0, "harmed", "CK027"),
        (3.0, None, 2.0, "harmed", "CK027"),
    ],
)
def test_the_verdict_follows_the_trainers_record(place, before, after, gap, verdict, rule):
    run = record(place, learned=losses(before, after, gap))
    seen = read_learning(run)
    assert seen.verdict == verdict
    own = [f.rule for f in seen.findings() if f.rule.startswith("CK")]
    assert own == ([] if rule is None else [rule])


def test_held_out_answers_that_got_worse_outweigh_trained_ones(place, tmp_path):
    run = record(place, learned=losses(3.0, 1.0))
    said = {
        "verdict": "memorised",
        "learned": {"before": {"loss": 3.0}, "after": {"loss": 1.0}},
        "held_out": {"before": 3.0, "after": 3.6},
    }
    (tmp_path / "verify.json").write_text(json.dumps(said))
    assert read_learning(run, None, tmp_path / "verify.json").verdict == "harmed"


def test_a_log_alone_is_heard_where_nothing_exact_is_there(place, tmp_path):
    lines = [{"step": n, "loss": 3 / n, "learning_rate": 1e-4} for n in range(1, 41)]
    (tmp_path / "run").mkdir()
    shutil.copytree(place / "adapter", tmp_path / "run", dirs_exist_ok=True)
    (tmp_path / "run" / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    configure(tmp_path / "run", base_model_name_or_path="/nowhere")
    seen = read_learning(tmp_path / "run")
    assert [each.source for each in seen.witnesses] == ["log"]
    assert seen.verdict == "learned"
    assert any("/nowhere" in note for note in seen.as_json()["unseen"])


def logged(place: Path, losses: list[float]) -> Any:
    """What is read of a run that left its log and an adapter without its base."""
    run = place / "run"
    shutil.copytree(place / "adapter", run)
    lines = [{"step": n, "loss": loss, "learning_rate": 1e-4} for n, loss in enumerate(losses, 1)]
    (run / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    configure(run, base_model_name_or_path="/nowhere")
    return read_learning(run)


def noisy(level: Callable[[float], float], noise: float) -> list[float]:
    """Sixty losses along a level, with noise around it."""
    chance = random.Random(1)
    return [level(n / 60) + chance.gauss(0, noise) for n in range(60)]


@pytest.mark.parametrize(
    ("level", "noise", "rule"),
    [
        (lambda _: 3.0, 0.4, None),
        (lambda done: 3.0 + 0.3 * done, 0.4, None),
        (lambda _: 3.0, 0.005, ("CK025", "warning")),
        (lambda done: 3.0 - 0.12 * done, 0.01, ("CK026", "info")),
        (lambda done: 3.0 + 2.0 * done, 0.4, ("CK027", "warning")),
    ],
)
def test_a_log_alone_is_never_an_error_and_says_nothing_within_its_noise(place, level, noise, rule):
    found = [(f.rule, f.severity) for f in logged(place, noisy(level, noise)).findings()]
    assert found == ([] if rule is None else [rule])


BAD = {
    "run.json": "[1]",
    "adapter_config.json": "{",
    "model.safetensors.index.json": '{"weight_map": 3}',
    "trainer_state.json": "\x00",
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("command", ["checkpoint", "learned"])
def test_bad_records_are_one_line_and_status_two(place, glmdiag, name, command):
    folder = place / ("base" if name.startswith("model") else "adapter")
    (folder / name).write_text(BAD[name])
    status, out, err = glmdiag(command, folder, "--base", place / "base")
    assert (status, out, err.count("\n")) == (2, "", 1)


def test_a_folder_of_nothing_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no run"):
        reading.read(tmp_path)


def test_an_adapter_configuration_of_odd_types_is_no_traceback(place):
    configure(place / "adapter", r="eight", lora_alpha=None, target_modules=7, rank_pattern=[1])
    assert reading.read(place / "adapter", place / "base").adapter.scale is None


def test_both_pages_are_written_in_both_languages(place, glmdiag, tmp_path):
    run = record(place, learned=losses(3.0, 2.99))
    for command, words in (("checkpoint", "训练留下的文件"), ("learned", "什么也没学到")):
        report = tmp_path / f"{command}.html"
        status, out, _ = glmdiag(command, run, "--json", "-", "--report", report)
        assert status == (command == "learned")
        assert json.loads(out)["change_by_layer"][0]["relative"] > 0
        assert words in report.read_text("utf-8")
