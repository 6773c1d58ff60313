"""`glmdiag env`."""

from __future__ import annotations

from pathlib import Path

import click
from glmprep.console import Outcome, Output, output_options


@click.command()
@click.option(
    "--versions",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Judge another machine by its pip freeze, requirements or constraints.",
)
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Look through a model folder's own code, without running it.",
)
@output_options
def env(versions: Path | None, model: Path | None, output: Output) -> None:
    """Check versions against known bad pairs, CUDA against the driver, a model's code.

    The code that a model folder brings (modeling_*.py, tokenization_*.py, configuration_*.py) is
    parsed, never run, and compared with the installed transformers: imports, methods and
    parameters that are gone.
    """
    from glmdiag.software.env_rules import judge
    from glmdiag.software.environment import choose
    from glmdiag.views.environment import page, summary

    found = choose(versions, model)
    findings = judge(found)
    output.finish(
        Outcome(
            result=found.as_json(),
            findings=findings,
            page=lambda: page(found, findings, output.command),
            summary=lambda console: summary(found, console),
        )
    )
