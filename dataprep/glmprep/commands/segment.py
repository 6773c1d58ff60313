"""`glmprep segment`."""

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
    "--max-length",
    type=int,
    default=MAX_LENGTH,
    show_default=True,
    help="Tokens of a segment, with the prefix and the final stop token.",
)
@click.option(
    "--overlap",
    type=click.IntRange(0),
    default=2,
    show_default=True,
    help="Replay at least so many turns before each segment as context, in whole exchanges.",
)
@click.option(
    "--context-tokens",
    type=click.IntRange(0),
    help="At most so many tokens of replay.  [default: a quarter of --max-length]",
)
@click.option(
    "--on-overflow",
    type=click.Choice(["split", "quarantine"]),
    default="split",
    show_default=True,
    help="One exchange longer than the limit: cut it at sentence ends, or set it aside.",
)
@max_rejects_option
@partial(output_options, fail_on="never")
def segment(
    reading: Reading,
    target: Path,
    max_length: int,
    overlap: int,
    context_tokens: int | None,
    on_overflow: Any,
    max_rejects: float,
    output: Output,
) -> NoReturn:
    """Split over-long conversations so that each fits, every answer trained exactly once."""
    from glmprep.segment import segment as run_segment
    from glmprep.sized import Limits
    from glmprep.views.segment import page, summary

    vocabulary, template = reading.load()
    limits = Limits(
        max_length=max_length,
        overlap=overlap,
        context_tokens=max_length // 4 if context_tokens is None else context_tokens,
    )
    with file_errors(target):
        result = run_segment(
            reading.source,
            target,
            family=template,
            tokenizer=vocabulary,
            limits=limits,
            on_overflow=on_overflow,
        )
    output.finish(
        Outcome(
            result=result.as_json(),
            findings=result.findings,
            summary=summary(result, target),
            page=lambda: page(result, limits, target, output.command, reading.source.paths),
            failed=result.reject_share > max_rejects,
        )
    )
