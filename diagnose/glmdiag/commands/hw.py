"""`glmdiag hw`."""

from __future__ import annotations

from pathlib import Path

import click
from glmprep.console import Outcome, Output, output_options


@click.command()
@click.option("--simulate", metavar="CARD", help="Judge a card instead: V100, T4, 4090, A100, …")
@click.option(
    "--machine",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Judge another machine by what glmdiag hw --json wrote there.",
)
@click.option("--model", metavar="DIR", help="A model folder, for its head size and its memory.")
@output_options
def hw(simulate: str | None, file: Path | None, model: str | None, output: Output) -> None:
    """Examine this machine: devices, memory, bf16, attention, and the number format to train in.

    bf16 is judged by what the hardware says and by a small computation, checked and timed; the
    kernels of attention by running them. Of an NVIDIA device also clocks, temperature, power,
    memory errors, links and who else uses it are told (package nvidia-ml-py).
    """
    from glmprep.model import read

    from glmdiag.machine.attention import head_size
    from glmdiag.machine.hardware import choose
    from glmdiag.machine.hardware_rules import judge
    from glmdiag.machine.room import rooms
    from glmdiag.views.hardware import page, summary

    folder = None if model in (None, "tiny") else Path(str(model))
    shape = read(model).shape
    machine = choose(simulate, file, head_size(folder))
    findings = judge(machine)
    memory = machine.memory_total if machine.devices else None
    room = rooms(shape, memory, machine.dtype or "float32") if shape and memory else []
    name = shape.name if shape else ""
    output.finish(
        Outcome(
            result=machine.as_json(),
            findings=findings,
            page=lambda: page(machine, findings, output.command, name, room),
            summary=lambda console: summary(machine, console, name, room),
        )
    )
