"""`glmprep bucket`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import click

from glmprep.console import Outcome, Output, file_errors, output_options
from glmprep.options import MAX_LENGTH, Reading, data_options, max_rejects_option


@click.command()
@data_options
@click.option("-o", "--output", "target", type=click.Path(path_type=Path), required=True)
@click.option(
    "--layout",
    type=click.Choice(["buckets", "packed"]),
    default="buckets",
    show_default=True,
    help="One conversation a row in buckets of like length, or several packed into a row.",
)
@click.option(
    "--max-length",
    type=int,
    default=MAX_LENGTH,
    show_default=True,
    help="Longer conversations are set aside, never cut; a packed row holds so many tokens.",
)
@click.option(
    "--tokens-per-batch",
    type=click.IntRange(1),
    help="Tokens of a batch, padding included.  [default: --max-length]",
)
@click.option("--buckets", type=int, default=8, show_default=True, help="Number of buckets.")
@click.option(
    "--order",
    type=click.Choice(["shuffled", "short-first", "length-mixed"]),
    default="shuffled",
    show_default=True,
    help="Batches in random order; from short to long; or every length in each stretch.",
)
@click.option(
    "--mixing",
    type=click.FloatRange(0, 1),
    default=0.0,
    help="With short-first, the share that stands at random places.",
)
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True)
@click.option(
    "--workers", type=click.IntRange(1), help="Processes that work.  [default: by data and cores]"
)
@click.option("--overwrite", is_flag=True, help="Replace the shards in the output folder.")
@max_rejects_option
@partial(output_options, fail_on="never")
def bucket(
    reading: Reading,
    target: Path,
    layout: Any,
    max_length: int,
    tokens_per_batch: int | None,
    buckets: int,
    order: Any,
    mixing: float,
    seed: int,
    workers: int | None,
    overwrite: bool,
    max_rejects: float,
    output: Output,
) -> NoReturn:
    """Tokenize conversations and write them as shards, bucketed by length or packed."""
    from glmprep.workers import engine_for

    with (
        file_errors(target),
        engine_for(reading.source.paths, workers, warm=reading.tokenizing) as engine,
    ):
        # Imported while the workers' server starts.
        from glmprep.bucket import Config
        from glmprep.bucket import bucket as run_bucket
        from glmprep.remote import store
        from glmprep.views.bucket import page, summary

        result = run_bucket(
            reading.source,
            store(str(target)),
            tokenizing=reading.tokenizing,
            config=Config(
                layout=layout,
                max_length=max_length,
                tokens_per_batch=tokens_per_batch or 0,
                buckets=buckets,
                order=order,
                mixing=mixing,
                seed=seed,
            ),
            engine=engine,
            overwrite=overwrite,
        )
    output.finish(
        Outcome(
            result=result.as_json(),
            findings=result.findings,
            summary=summary(result, target),
            page=lambda: page(result, target, output.command, reading.source.paths),
            failed=result.reject_share > max_rejects,
        )
    )
