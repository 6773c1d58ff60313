"""`glmdiag learned`."""

from __future__ import annotations

from pathlib import Path

import click
from glmprep.console import Outcome, Output, output_options


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--base", metavar="tiny|DIR", help="The base model, if it is not where the run says.")
@click.option(
    "--verified",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What glmtrain verify RUN --json wrote.",
)
@output_options
def learned(run: Path, base: str | None, verified: Path | None, output: Output) -> None:
    """Say whether a run learned, little, nothing, or harm, from all that it left.

    RUN is the folder of a glmtrain run, or of a run or checkpoint of transformers.
    """
    from glmdiag.checkpoints.learning import read
    from glmdiag.views.learned import page, summary

    found = read(run, base, verified)
    findings = found.findings()
    output.finish(
        Outcome(
            result=found.as_json(),
            findings=findings,
            page=lambda: page(found, findings, output.command),
            summary=lambda console: summary(found, console),
        )
    )
