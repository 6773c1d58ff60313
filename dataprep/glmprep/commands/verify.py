"""`glmprep verify`."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import click

from glmprep.console import Outcome, Output, file_errors, output_options


@click.command()
@click.argument("shards", type=click.Path(path_type=Path))
@click.argument("data", nargs=-1)
@click.option("--tokenizer", metavar="glm4|PATH", help="The one that made the shards.")
@click.option(
    "--template",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The chat template that made the shards, where it was one of your own.",
)
@output_options
def verify(
    shards: Path,
    data: tuple[str, ...],
    tokenizer: str | None,
    template: Path | None,
    output: Output,
) -> NoReturn:
    """Prove that a shard folder is whole: checksums, sums, ledger, layout and labels.

    With the DATA that it was made from, in the same order, also that it holds exactly what they
    say: they are read and tokenized once more, and each row is compared.
    """
    from glmprep.verify import verify as run_verify
    from glmprep.views.verify import page, summary

    with file_errors(shards):
        inputs = None
        if data:
            from glmprep.reread import load
            from glmprep.shards import read_manifest

            inputs = load(read_manifest(shards), data, tokenizer=tokenizer, template=template)
        result = run_verify(shards, inputs)
    output.finish(
        Outcome(
            result=result.as_json(),
            findings=result.findings,
            summary=summary(result, shards),
            page=lambda: page(result, shards, output.command, data),
        )
    )
