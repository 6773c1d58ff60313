"""`glmdiag labels`."""

from __future__ import annotations

from pathlib import Path

import click
from glmprep.console import Outcome, Output, output_options


@click.command()
@click.argument("shards", type=click.Path(path_type=Path))
@click.option(
    "--tokenizer", metavar="glm4|PATH", help="What made the shards, if not the embedded one."
)
@output_options
def labels(shards: Path, tokenizer: str | None, output: Output) -> None:
    """Examine what is trained in a shard folder: rows without labels, cut answers, stop tokens."""
    from glmdiag.label_rules import judge
    from glmdiag.labels import read
    from glmdiag.views.labels import page, summary

    found = read(shards, tokenizer)
    findings = judge(found)
    output.finish(
        Outcome(
            result=found.as_json(),
            findings=findings,
            page=lambda: page(found, findings, str(shards), output.command),
            summary=lambda console: summary(found, console),
        )
    )
