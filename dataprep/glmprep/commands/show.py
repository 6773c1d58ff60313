"""`glmprep show`."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import click

from glmprep.console import Outcome, Output, file_errors, output_options


@click.command()
@click.argument("shards", type=click.Path(path_type=Path))
@click.option("--row", "rows", type=int, multiple=True, help="Number of the row, from 0.")
@click.option("--tokenizer", metavar="glm4|PATH", help="The tokenizer that made the shards.")
@output_options
def show(shards: Path, rows: tuple[int, ...], tokenizer: str | None, output: Output) -> NoReturn:
    """Print rows of a shard folder as text, with the trained tokens coloured."""
    from glmprep.show import show as run_show
    from glmprep.views.show import page, summary

    with file_errors(shards):
        shown = run_show(shards, rows or (0,), tokenizer)
    output.finish(
        Outcome(
            result={"rows": [row.as_json() for row in shown]},
            summary=summary(shown),
            page=lambda: page(shown, shards, output.command),
        )
    )
