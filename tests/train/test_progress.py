from __future__ import annotations

import io

import pytest
from glmprep.findings import Finding, Severity
from glmtrain.metrics import StepMetrics
from glmtrain.progress import Lines, Live, Silent, display
from rich.console import Console

NOTICE = Finding(
    rule="LG001", severity=Severity.ERROR, where="step 1", evidence="bad \x1b]0;title", fix=""
)


def step(number, loss=2.5, findings=()):
    return StepMetrics(
        step=number,
        epoch=0.1,
        loss=loss,
        learning_rate=1e-3,
        grad_norm=1.0,
        tokens=10,
        supervised_tokens=5,
        padding=0.0,
        tokens_per_second=1234.0,
        supervised_tokens_per_second=567.0,
        peak_memory=1,
        bucket=8,
        loss_scale=None,
        rows=[0],
        findings=findings,
    )


def console(*, terminal):
    return Console(file=io.StringIO(), force_terminal=terminal, width=120, color_system=None)


def test_the_display_suits_where_the_output_goes():
    assert isinstance(display(console(terminal=True), quiet=False), Live)
    assert isinstance(display(console(terminal=False), quiet=False), Lines)
    assert type(display(console(terminal=True), quiet=True)) is Silent


def test_lines_tell_loss_speed_and_time_left_but_not_every_step():
    out = console(terminal=False)
    with Lines(out) as lines:
        lines.begin(100, 0)
        for number in range(1, 101):
            lines.step(step(number))
    first, last = out.file.getvalue().splitlines()
    assert "step 1/100  loss 2.500  rate 1.00e-03  1,234 tokens/s (567 supervised)" in first
    assert first.endswith("left")
    assert "step 100/100" in last


def test_a_terminal_shows_loss_and_speed_beside_the_bar():
    out = console(terminal=True)
    with Live(out) as live:
        live.begin(4, 2)
        live.step(step(3))
    assert "3/4" in out.file.getvalue()
    assert "loss 2.500  1,234 tokens/s (567 supervised)" in out.file.getvalue()


@pytest.mark.parametrize("kind", [Lines, Live])
def test_findings_are_told_at_once_and_cannot_steer_the_terminal(kind):
    out = console(terminal=kind is Live)
    with kind(out) as shown:
        shown.begin(9, 0)
        shown.step(step(2, loss=float("nan"), findings=[NOTICE]))
    assert "step 2: LG001 bad \\x1b]0;title" in out.file.getvalue()
    assert "loss nan" in out.file.getvalue()
