"""A merged model answers as base and adapter do, or is not there."""

from __future__ import annotations

import json

import pytest
import torch
from glmprep.errors import InputError, UsageError
from glmtrain import merging, model, parity, trained
from glmtrain.cli import glmtrain
from glmtrain.config import build
from glmtrain.merging import Wanted, merge
from glmtrain.parity import compare
from safetensors.torch import load_file, save_file

STOP = 302


@pytest.fixture(scope="module")
def finished(small_model, bucketed, tmp_path_factory):
    """Makes a short run on the small model."""
    made = {}

    def finished(method="lora", **lora):
        name = "-".join([method, *lora])
        if name not in made:
            made[name] = tmp_path_factory.mktemp("runs") / name
            own = [f"lora.{key}={str(value).lower()}" for key, value in lora.items()]
            sets = ["lora.rank=4", "lora.dropout=0.0", "run.sample_tokens=64", *own]
            options = ["--model", small_model, "--method", method, "--shards", bucketed]
            options += ["--max-steps", 3, "--lr", 0.05, "--dtype", "fp32", "-o", made[name]]
            options += [part for one in sets for part in ("--set", one)]
            with pytest.raises(SystemExit):
                glmtrain.main(["run", *map(str, options), "--quiet"], standalone_mode=False)
        return made[name]

    return finished


@pytest.mark.parametrize("lora", [{}, {"rslora": True}, {"dora": True}])
def test_logits_are_those_of_base_and_adapter(finished, lora, tmp_path):
    merged = merge(Wanted(run=finished(**lora), output=tmp_path / "m"))
    assert merged.written
    assert merged.proof.effect > 100 * merged.proof.mean
    assert merged.proof.agreement == 1
    assert merged.compared_on.startswith("rows of")


def test_qlora_is_merged_with_the_values_of_its_four_bits(finished, tmp_path, small_model):
    pytest.importorskip("bitsandbytes", reason="QLoRA's library is not installed")
    merged = merge(Wanted(run=finished("qlora"), output=tmp_path / "m"))
    assert merged.written
    assert "four bits" in merged.remarks[-1]


@pytest.mark.parametrize(("dtype", "kind"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_the_weights_are_in_the_format_that_was_asked_for(finished, dtype, kind, tmp_path):
    merged = merge(Wanted(run=finished(), output=tmp_path / "m", dtype=dtype))
    assert merged.written
    weights = load_file(tmp_path / "m" / "model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {kind}
    assert not any("lora" in name for name in weights)


def test_the_folder_ends_answers_at_the_stops_of_the_shards(finished, tmp_path):
    merged = merge(Wanted(run=finished(), output=tmp_path / "m"))
    generation = json.loads((tmp_path / "m" / "generation_config.json").read_text())
    record = json.loads((tmp_path / "m" / merging.RECORD).read_text())
    assert merged.stops == (STOP,)
    assert generation["eos_token_id"] == record["stops"] == [STOP]
    assert record["parity"]["holds"] is True
    assert "no tokenizer is written" in merged.remarks[0]


def test_a_merge_that_answers_otherwise_leaves_nothing(finished, tmp_path, monkeypatch):
    def wrong(adapter, run):
        with torch.no_grad():
            next(w for n, w in adapter.named_parameters() if "lora_B" in n).mul_(1.5)
        return adapter.merge_and_unload()

    monkeypatch.setattr(merging, "_merge_in", wrong)
    merged = merge(Wanted(run=finished(), output=tmp_path / "m"))
    assert not merged.written
    assert merged.proof.mean > merged.proof.tolerance
    assert list(tmp_path.iterdir()) == []


def test_a_whole_model_is_written_as_it_is(finished, tmp_path):
    run = finished("full")
    merged = merge(Wanted(run=run, output=tmp_path / "m"))
    assert merged.written
    assert (merged.proof.mean, merged.proof.effect) == (0, None)
    assert "no adapter" in merged.remarks[-1]


def test_without_the_shards_random_tokens_are_compared(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(parity.shards, "read_manifest", gone)
    merged = merge(Wanted(run=finished(), output=tmp_path / "m"))
    assert merged.written
    assert merged.compared_on.startswith("random tokens")
    assert merged.stops == ()


def gone(folder):
    raise InputError(f"{folder}: gone")


def test_what_lies_at_the_output_is_not_lost(finished, tmp_path):
    run = finished()
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(UsageError, match="holds other files"):
            merge(Wanted(run=run, output=other, overwrite=overwrite))
    with pytest.raises(UsageError, match="holds other files"):
        merge(Wanted(run=run, output=run, overwrite=True))
    merge(Wanted(run=run, output=tmp_path / "m"))
    with pytest.raises(UsageError, match="pass --overwrite"):
        merge(Wanted(run=run, output=tmp_path / "m"))
    again = merge(Wanted(run=run, output=tmp_path / "m", dtype="bf16", overwrite=True))
    assert again.written
    assert json.loads((tmp_path / "m" / "config.json").read_text())["dtype"] == "bfloat16"
    assert {path.name for path in tmp_path.iterdir()} == {"m", "other"}


def test_another_base_is_refused(finished, small_model, tmp_path):
    other = tmp_path / "base"
    with model.quiet_libraries():
        from transformers import AutoModelForCausalLM

        made = AutoModelForCausalLM.from_pretrained(small_model)
        made.lm_head.weight.data += 1
        made.save_pretrained(other)
    with pytest.raises(UsageError, match="not the model that"):
        merge(Wanted(run=finished(), output=tmp_path / "m", base=str(other)))
    assert not (tmp_path / "m").exists()


def test_a_prefix_is_refused_with_the_reason(finished, tmp_path, monkeypatch):
    run = trained.read(finished())
    settings = build([("test", {"model": {"method": "ptuning"}})])
    monkeypatch.setattr(trained, "read", lambda _: made(run, settings))
    with pytest.raises(UsageError, match=r"a prefix cannot be merged: .* no change of the weights"):
        merge(Wanted(run=run.folder, output=tmp_path / "m"))


def made(run, settings):
    from dataclasses import replace

    return replace(run, config=settings)


def test_weights_that_are_no_numbers_are_refused(finished, tmp_path):
    import shutil

    run = tmp_path / "run"
    shutil.copytree(finished(), run)
    weights = load_file(run / "adapter_model.safetensors")
    first = next(iter(weights))
    weights[first].fill_(float("nan"))
    save_file(weights, run / "adapter_model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError):
        merge(Wanted(run=run, output=tmp_path / "m"))
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_logits_that_are_no_numbers_hold_for_nothing():
    logits = torch.randn(4, 10)
    damaged = logits.clone()
    damaged[0, 0] = float("nan")
    proof = compare(logits, damaged, None, "fp32")
    assert not proof.holds
    assert proof.as_json()["mean"] is None


def test_rounding_that_eats_the_adapter_is_told(finished):
    logits = torch.randn(8, 50, generator=torch.Generator().manual_seed(0))
    found = logits + 0.02 * torch.randn(8, 50, generator=torch.Generator().manual_seed(1))
    proof = compare(logits, found, logits + 0.05, "bf16")
    assert proof.holds
    assert proof.lost > parity.LOST
    (remark,) = merging._remarks(trained.read(finished()), proof)
    assert "--dtype fp32" in remark
