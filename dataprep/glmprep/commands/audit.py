"""`glmprep audit`."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import click

from glmprep.console import Outcome, Output, file_errors, output_options
from glmprep.options import Reading, data_options


@click.command()
@data_options
@click.option("--max-length", type=int, help="Show what cutting at so many tokens would lose.")
@click.option(
    "--max-input-length",
    type=click.IntRange(1),
    default=512,
    show_default=True,
    help="The official script's limit for the prompt, to show what it would cut.",
)
@click.option(
    "--max-output-length",
    type=click.IntRange(1),
    default=512,
    show_default=True,
    help="The official script's limit for the answer; it cuts at the sum.",
)
@click.option("--gx", type=click.Path(path_type=Path), help="Write a Great Expectations project.")
@output_options
def audit(
    reading: Reading,
    max_length: int | None,
    max_input_length: int,
    max_output_length: int,
    gx: Path | None,
    output: Output,
) -> NoReturn:
    """Check chat data: format, duplicates, token lengths, and what a limit would cut.

    DATA are files (.jsonl or .json, also .gz and .zst), folders, globs, or - for standard input.
    """
    from glmprep.audit import OfficialLimit
    from glmprep.audit import audit as run_audit
    from glmprep.views.audit import page, summary

    vocabulary, template = reading.load()
    with file_errors("reading"):
        result = run_audit(
            reading.source,
            family=template,
            tokenizer=vocabulary,
            max_length=max_length,
            official=OfficialLimit(
                max_input_length=max_input_length, max_output_length=max_output_length
            ),
            keep_flags=gx is not None,
        )
    if gx is not None:
        from glmprep.gx import write_project

        with file_errors(gx):
            write_project(result, gx)
    shown = summary(result)
    output.finish(
        Outcome(
            result=result.as_json(),
            findings=result.findings,
            summary=shown,
            page=lambda: page(result, output.command, reading.source.paths),
        )
    )
