"""`glmprep convert`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import NoReturn

import click

from glmprep.console import Outcome, Output, file_errors, output_options
from glmprep.options import max_rejects_option, source_options
from glmprep.source import Source


@click.command()
@source_options
@click.option("-o", "--output", "target", type=click.Path(path_type=Path), required=True)
@click.option(
    "--undo",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="LEDGER",
    help="Take back the repairs of this ledger, which --repair wrote beside DATA.",
)
@max_rejects_option
@partial(output_options, fail_on="never")
def convert(
    source: Source, target: Path, undo: Path | None, max_rejects: float, output: Output
) -> NoReturn:
    """Turn data of any known form into canonical messages, one conversation a line.

    Which form a row has is found by looking at it; docs/schemas.md lists them. Nothing is
    tokenized.
    """
    from glmprep.convert import convert as run_convert
    from glmprep.views.convert import page, summary

    with file_errors(target):
        result = run_convert(source, target, undo)
    output.finish(
        Outcome(
            result=result.as_json(),
            findings=result.findings,
            summary=summary(result, target),
            page=lambda: page(result, target, output.command, source.paths),
            failed=result.reject_share > max_rejects,
        )
    )
