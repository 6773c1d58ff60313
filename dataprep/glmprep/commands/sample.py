"""`glmprep sample`."""

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
    "--rows",
    type=click.IntRange(1),
    default=1000,
    show_default=True,
    help="Conversations to draw; all where there are no more.",
)
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True)
@max_rejects_option
@partial(output_options, fail_on="never")
def sample(
    source: Source, target: Path, rows: int, seed: int, max_rejects: float, output: Output
) -> NoReturn:
    """Draw a small set that stands for all: by length, language and use of tools.

    Each combination that occurs gives its share of whole conversations, and at least one; the
    longest and the shortest of all are drawn too. Lengths are bytes of text in doublings: nothing
    is tokenized, so that a whole set is drawn from in seconds. Same data and seed, same sample.
    """
    from glmprep.sample import sample as run_sample
    from glmprep.views.sample import page, summary

    with file_errors(target):
        result = run_sample(source, target, rows=rows, seed=seed)
    output.finish(
        Outcome(
            result=result.as_json(),
            findings=result.findings,
            summary=summary(result, target),
            page=lambda: page(result, target, output.command, source.paths),
            failed=result.reject_share > max_rejects,
        )
    )
