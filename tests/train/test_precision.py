from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from glmtrain import precision, probe, settings

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("advice", "name", "scaled"),
    [("bfloat16", "bf16", False), ("float16", "fp16", True), ("float32", "fp32", False)],
)
def test_auto_takes_what_the_probe_recommends(monkeypatch, advice, name, scaled):
    check = SimpleNamespace(state="usable")
    found = SimpleNamespace(dtype=advice, device="cpu", bf16=check, fp16=check)
    monkeypatch.setattr(probe, "recommend", lambda device: found)
    chosen = precision.choose(settings.Precision(), CPU)
    assert chosen.name == name
    assert (chosen.scaler is not None) == scaled


def test_what_was_asked_for_is_not_questioned(monkeypatch):
    monkeypatch.setattr(probe, "recommend", lambda device: pytest.fail("was asked"))
    assert precision.choose(settings.Precision(dtype="bf16"), CPU).dtype == torch.bfloat16


def test_weights_that_learn_are_kept_in_float32():
    chosen = precision.choose(settings.Precision(dtype="bf16"), CPU)
    assert chosen.frozen_dtype("lora") == torch.bfloat16
    assert chosen.frozen_dtype("full") == torch.float32


def test_half_precision_is_computed_in_half_precision():
    square = torch.ones(4, 4)
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        chosen = precision.choose(settings.Precision(dtype=name), CPU)
        with chosen.autocast():
            assert (square @ square).dtype == dtype
