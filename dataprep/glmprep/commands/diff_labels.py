"""`glmprep diff-labels`."""

from __future__ import annotations

from functools import partial
from typing import NoReturn

import click

from glmprep.console import Outcome, Output, file_errors, output_options
from glmprep.options import Reading, data_options


@click.command(name="diff-labels")
@data_options
@click.option(
    "--max-length",
    type=int,
    default=1024,
    show_default=True,
    help="The limit that the others are given; input and output together for the GLM-4 script.",
)
@click.option(
    "--row",
    "rows",
    type=click.IntRange(0),
    multiple=True,
    help="Show this row, from 0 among those that can be trained on. Can be repeated.",
)
@click.option(
    "--limit",
    type=click.IntRange(0, 100),
    default=3,
    show_default=True,
    help="Without --row, show so many rows.",
)
@partial(output_options, fail_on="never")
def diff_labels(
    reading: Reading, max_length: int, rows: tuple[int, ...], limit: int, output: Output
) -> NoReturn:
    """Show token by token what other trainers would train, and name the differences.

    The official GLM-4 script (`combine` on and off), LLaMA-Factory and TRL, beside this suite.
    """
    from glmprep.diff_labels import diff_labels as run_diff_labels
    from glmprep.views.diff_labels import page, summary

    vocabulary, template = reading.load()
    with file_errors("reading"):
        result = run_diff_labels(
            reading.source,
            family=template,
            tokenizer=vocabulary,
            max_length=max_length,
            wanted=rows,
            limit=limit,
        )
    output.finish(
        Outcome(
            result=result.as_json(),
            findings=result.findings,
            summary=summary(result),
            page=lambda: page(result, output.command, reading.source.paths),
        )
    )
