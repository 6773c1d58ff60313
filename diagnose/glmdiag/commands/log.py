"""`glmdiag log`."""

from __future__ import annotations

from pathlib import Path

import click
from glmprep.console import Outcome, Output, output_options


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@output_options
def log(file: Path, output: Output) -> None:
    """Examine a training log: loss that is NaN, zero, flat, spiking or rising.

    FILE is the metrics.jsonl of glmtrain run, or a trainer_state.json of the Hugging Face Trainer.
    """
    from glmtrain.detectors import detect

    from glmdiag.logs import read
    from glmdiag.views.log import page, summary

    found = read(file)
    findings = detect(found.steps)
    output.finish(
        Outcome(
            result=found.as_json(),
            findings=findings,
            page=lambda: page(found, findings, output.command),
            summary=lambda console: summary(found, console),
        )
    )
