"""`glmprep split`."""

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
@click.option(
    "-o",
    "--output",
    "training",
    type=click.Path(path_type=Path),
    required=True,
    help="The file for what is trained on.",
)
@click.option(
    "--validation",
    type=click.Path(path_type=Path),
    required=True,
    help="The file for what is held out.",
)
@click.option(
    "--share",
    type=float,
    default=0.05,
    show_default=True,
    help="Hold out this share of the conversations, or as near to it as whole groups come.",
)
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True)
@click.option(
    "--workers", type=click.IntRange(1), help="Processes that work.  [default: by data and cores]"
)
@max_rejects_option
@partial(output_options, fail_on="never")
def split(
    source: Source,
    training: Path,
    validation: Path,
    share: float,
    seed: int,
    workers: int | None,
    max_rejects: float,
    output: Output,
) -> NoReturn:
    """Hold out conversations to validate on, none of which begins as one that is trained on.

    Conversations that share the user's first message, and segments of one conversation, are a
    group, and a group is never parted. Same data and seed, same choice; when data is added, most
    of it stays.
    """
    from glmprep.parting import Parting
    from glmprep.workers import engine_for

    parting = Parting(training=training, validation=validation, share=share, seed=seed)
    with file_errors(training), engine_for(source.paths, workers) as engine:
        # Imported while the workers' server starts.
        from glmprep.parting import part
        from glmprep.views.split import page, summary

        result = part(source, parting, engine=engine)
    output.finish(
        Outcome(
            result=result.as_json(),
            findings=result.findings,
            summary=summary(result, parting),
            page=lambda: page(result, parting, output.command, source.paths),
            failed=result.reject_share > max_rejects,
        )
    )
