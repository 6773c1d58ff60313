"""`glmdiag hw`."""

from __future__ import annotations

import click
from glmprep.console import Outcome, Output, output_options


@click.command()
@output_options
def hw(output: Output) -> None:
    """Examine this machine: devices, memory, bf16, versions, and the number format to train in.

    bf16 is judged by what the hardware says and by a small computation, checked and timed.
    """
    from glmdiag.hardware import examine
    from glmdiag.hardware_rules import judge
    from glmdiag.views.hardware import page, summary

    machine = examine()
    findings = judge(machine)
    output.finish(
        Outcome(
            result=machine.as_json(),
            findings=findings,
            page=lambda: page(machine, findings, output.command),
            summary=lambda console: summary(machine, console),
        )
    )
