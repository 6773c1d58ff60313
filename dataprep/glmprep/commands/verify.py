"""`glmprep verify`."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import click

from glmprep.console import Outcome, Output, file_errors, output_options


@click.command()
@click.argument("shards", type=click.Path(path_type=Path))
@output_options
def verify(shards: Path, output: Output) -> NoReturn:
    """Prove that a shard folder is whole: checksums, sums, layout and labels."""
    from glmprep.verify import verify as run_verify
    from glmprep.views.verify import page, summary

    with file_errors(shards):
        result = run_verify(shards)
    output.finish(
        Outcome(
            result=result.as_json(),
            findings=result.findings,
            summary=summary(result, shards),
            page=lambda: page(result, shards, output.command),
        )
    )
