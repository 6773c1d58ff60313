"""`glmprep segment`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import click
from click.core import ParameterSource

from glmprep.console import Outcome, Output, file_errors, output_options
from glmprep.options import (
    MAX_LENGTH,
    OVERLAP,
    Reading,
    data_options,
    encoder_option,
    max_rejects_option,
)


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
    "--segmenter",
    type=click.Choice(["greedy", "balanced", "semantic"]),
    default="greedy",
    show_default=True,
    help="Where to cut: fill each segment; make them even; or cut where the topic turns.",
)
@click.option(
    "--context",
    type=click.Choice(["none", "overlap", "memory", "outline"]),
    default="overlap",
    show_default=True,
    help="What a segment is told of what came before: nothing; its last turns; the sentences that "
    "its questions call for; or an outline of all of it.",
)
@click.option(
    "--overlap",
    type=click.IntRange(0),
    default=OVERLAP,
    show_default=True,
    help="Replay at least so many turns before each segment as context, in whole exchanges.",
)
@click.option(
    "--context-tokens",
    type=click.IntRange(0),
    help="At most so many tokens of context.  [default: a quarter of --max-length]",
)
@click.option(
    "--notes",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The wording of notes (memory, outline), a TOML file.",
)
@encoder_option
@click.option(
    "--on-overflow",
    type=click.Choice(["split", "middle", "quarantine"]),
    default="split",
    show_default=True,
    help="One exchange longer than the limit: cut its answer at sentence ends, and keep the end "
    "(middle: start and end) of a prompt that leaves no room; or set it aside.",
)
@click.option(
    "--workers", type=click.IntRange(1), help="Processes that work.  [default: by data and cores]"
)
@max_rejects_option
@partial(output_options, fail_on="never")
@click.pass_context
def segment(
    given: click.Context,
    reading: Reading,
    target: Path,
    max_length: int,
    segmenter: Any,
    context: Any,
    overlap: int,
    context_tokens: int | None,
    notes: Path | None,
    encoder: str,
    on_overflow: Any,
    workers: int | None,
    max_rejects: float,
    output: Output,
) -> NoReturn:
    """Split over-long conversations so that each fits, every answer trained exactly once."""
    from glmprep.cutting import asked_for
    from glmprep.workers import engine_for

    options = {
        "overlap": overlap,
        "context_tokens": context_tokens,
        "notes": notes,
        "encoder": encoder,
    }
    cutting = asked_for(
        {name: value for name, value in options.items() if _is_given(given, name)},
        max_length=max_length,
        segmenter=segmenter,
        context=context,
        on_overflow=on_overflow,
    )
    with (
        file_errors(target),
        engine_for(reading.source.paths, workers, warm=reading.tokenizing) as engine,
    ):
        # Imported while the workers' server starts.
        from glmprep.segment import segment as run_segment
        from glmprep.views.segment import page, summary

        result = run_segment(
            reading.source,
            target,
            tokenizing=reading.tokenizing,
            cutting=cutting,
            engine=engine,
        )
    output.finish(
        Outcome(
            result=result.as_json(),
            findings=result.findings,
            summary=summary(result, target),
            page=lambda: page(result, cutting, target, output.command, reading.source.paths),
            failed=result.reject_share > max_rejects,
        )
    )


def _is_given(given: click.Context, name: str) -> bool:
    return given.get_parameter_source(name) is not ParameterSource.DEFAULT
