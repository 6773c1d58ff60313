from __future__ import annotations

import pytest
import torch
from glmprep.errors import UsageError
from glmtrain import attention

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def installed(monkeypatch):
    monkeypatch.setattr(attention, "find_spec", lambda name: name)


@pytest.mark.parametrize(
    ("device", "dtype", "kind"),
    [
        (CUDA, torch.bfloat16, "flash_attention_2"),
        (CUDA, torch.float16, "flash_attention_2"),
        (CUDA, torch.float32, "sdpa"),
        (CPU, torch.bfloat16, "sdpa"),
    ],
)
def test_auto_is_flash_attention_where_it_can_run(installed, device, dtype, kind):
    assert attention.choose("auto", device, dtype) == kind


def test_auto_is_sdpa_where_flash_attention_is_not_installed(monkeypatch):
    monkeypatch.setattr(attention, "find_spec", lambda name: None)
    assert attention.choose("auto", CUDA, torch.bfloat16) == "sdpa"


@pytest.mark.parametrize("kind", ["sdpa", "eager"])
def test_what_runs_everywhere_is_taken_as_asked(kind):
    assert attention.choose(kind, CPU, torch.float32) == kind


@pytest.mark.parametrize(
    ("kind", "device", "dtype", "reason"),
    [
        ("flash_attention_2", CPU, torch.bfloat16, "runs on CUDA devices alone"),
        ("flash_attention_3", CUDA, torch.float32, "fp16 and bf16 alone"),
        ("flex_attention", CPU, torch.bfloat16, "no backward pass on a CPU"),
    ],
)
def test_what_cannot_run_is_refused_with_the_reason(installed, kind, device, dtype, reason):
    with pytest.raises(UsageError, match=f"model.attention = {kind}: .*{reason}; use sdpa"):
        attention.choose(kind, device, dtype)


def test_what_is_not_installed_is_refused(monkeypatch):
    monkeypatch.setattr(attention, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="the package flash_attn is not installed"):
        attention.choose("flash_attention_2", CUDA, torch.bfloat16)
