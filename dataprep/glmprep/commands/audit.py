"""`glmprep audit`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import click

from glmprep.console import Outcome, Output, file_errors, output_options
from glmprep.options import Reading, data_options


@click.command()
@data_options
@click.option("--max-length", type=int, help="Show what cutting at so many tokens would lose.")
@click.option(
    "--max-input-length",
    type=click.IntRange(1),
    default=512,
    show_default=True,
    help="The official script's limit for the prompt, to show what it would cut.",
)
@click.option(
    "--max-output-length",
    type=click.IntRange(1),
    default=512,
    show_default=True,
    help="The official script's limit for the answer; it cuts at the sum.",
)
@click.option(
    "--eval",
    "held_out",
    multiple=True,
    metavar="DATA",
    help="Data that is held out: say what of it occurs in DATA. Can be repeated.",
)
@click.option("--gx", type=click.Path(path_type=Path), help="Write a Great Expectations project.")
@output_options
def audit(
    reading: Reading,
    max_length: int | None,
    max_input_length: int,
    max_output_length: int,
    held_out: tuple[str, ...],
    gx: Path | None,
    output: Output,
) -> NoReturn:
    """Check chat data: format, duplicates, token lengths, and what a limit would cut.

    DATA are files (.jsonl, .json, .csv, .tsv, .parquet, also .gz and .zst), folders, globs,
    dataset_info.json:NAME, or - for standard input.
    """
    from glmprep.audit import OfficialLimit
    from glmprep.audit import audit as run_audit
    from glmprep.views.audit import page, summary

    if gx is not None:
        from glmprep.gx import require_library

        require_library()
    vocabulary, template = reading.load()
    with file_errors("reading"):
        result = run_audit(
            reading.source,
            family=template,
            tokenizer=vocabulary,
            max_length=max_length,
            official=OfficialLimit(
                max_input_length=max_input_length, max_output_length=max_output_length
            ),
            evaluation=replace(reading.source, paths=held_out) if held_out else None,
            keep_flags=gx is not None,
        )
    project = None
    if gx is not None:
        from glmprep.gx import write_project

        with file_errors(gx):
            project = write_project(result, gx)
    shown = summary(result)
    output.finish(
        Outcome(
            result={**result.as_json(), **({"gx": project.as_json()} if project else {})},
            findings=result.findings,
            summary=shown,
            page=lambda: page(result, output.command, reading.source.paths, project),
        )
    )
