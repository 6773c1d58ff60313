from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from glmtrain import probe  # noqa: E402
from glmtrain.probe import DtypeCheck  # noqa: E402
from torch.nn import functional  # noqa: E402

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def checked(dtype, *, native=True, error=0.0, speedup=2.0) -> DtypeCheck:
    return DtypeCheck(dtype=dtype, native=native, error=error, seconds=1e-3, speedup=speedup)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_real_computation_on_this_processor_is_correct_and_timed(dtype):
    found = probe.check(dtype, CPU)
    assert found.correct
    assert found.problem is None
    assert 0 < found.seconds < 10


def test_bf16_rounds_more_than_fp32():
    errors = {dtype: probe.check(dtype, CPU).error for dtype in ("float32", "bfloat16")}
    assert errors["float32"] < 1e-5 < errors["bfloat16"]


@pytest.mark.parametrize("scale", [0.2, 1.1, math.nan])
def test_a_kernel_that_computes_a_wrong_loss_is_caught(monkeypatch, scale):
    right = functional.cross_entropy

    def wrong_below_float64(logits, targets):
        loss = right(logits, targets)
        return loss if logits.dtype == torch.float64 else loss * scale

    monkeypatch.setattr(functional, "cross_entropy", wrong_below_float64)
    assert not probe.check("bfloat16", CPU).correct


def test_a_format_that_the_device_refuses_is_told_with_the_reason(monkeypatch):
    def refuse(*_):
        raise RuntimeError("not implemented for 'Half'\nat line 7")

    monkeypatch.setattr(probe, "_head", refuse)
    found = probe.check("float16", CPU)
    assert (found.error, found.problem) == (math.inf, "not implemented for 'Half'")


@pytest.mark.parametrize(
    ("flags", "native"),
    [({"avx2", "avx512f"}, False), ({"avx512_bf16"}, True), ({"amx_bf16"}, True)],
)
def test_a_processor_has_bf16_when_its_flags_say_so(monkeypatch, flags, native):
    monkeypatch.setattr(probe, "cpu_flags", lambda: frozenset(flags))
    assert probe._is_native("bfloat16", CPU) is native


@pytest.mark.parametrize(
    ("capability", "native"), [((7, 0), False), ((7, 5), False), ((8, 0), True)]
)
def test_a_cuda_device_has_bf16_from_capability_8(monkeypatch, capability, native):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert probe._is_native("bfloat16", GPU) is native


@pytest.mark.parametrize(
    ("check", "state"),
    [
        (checked("bfloat16"), "usable"),
        (checked("bfloat16", native=False), "missing"),
        (checked("bfloat16", error=0.5), "wrong"),
        (checked("bfloat16", error=math.inf), "wrong"),
        (checked("bfloat16", speedup=0.1), "slow"),
    ],
)
def test_a_format_is_usable_only_when_it_passes_every_test(check, state):
    assert check.state == state


V100 = {
    "bfloat16": checked("bfloat16", native=False, speedup=0.1),
    "float16": checked("float16", speedup=6.0),
}
A100 = {"bfloat16": checked("bfloat16", speedup=14.0), "float16": checked("float16", speedup=14.0)}
BROKEN = {"bfloat16": checked("bfloat16", error=0.8), "float16": checked("float16", error=0.8)}


@pytest.mark.parametrize(
    ("device", "checks", "dtype", "reason"),
    [
        (GPU, A100, "bfloat16", "cuda:0: bf16 units, correct in a test computation"),
        (GPU, V100, "float16", "fp16 with loss scaling instead"),
        (GPU, BROKEN, "float32", "bf16 is wrong"),
        (CPU, V100, "float32", "no bf16 units"),
        (CPU, A100, "bfloat16", "cpu: bf16 units"),
    ],
)
def test_the_recommendation_follows_from_the_checks(monkeypatch, device, checks, dtype, reason):
    checks = {**checks, "float32": checked("float32", speedup=1.0)}
    monkeypatch.setattr(probe, "check", lambda name, *_: checks[name])
    found = probe.recommend(device)
    assert found.dtype == dtype
    assert reason in found.reason


def test_importing_the_probe_does_not_import_torch():
    import subprocess
    import sys

    code = "import glmtrain.probe, glmtrain.detectors, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
