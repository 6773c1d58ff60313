"""`glmprep init`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import click

from glmprep.console import Outcome, Output, file_errors, output_options
from glmprep.options import source_options
from glmprep.source import Source


@click.command()
@source_options
@click.option(
    "-o",
    "--output",
    "target",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("recipe.toml"),
    show_default=True,
)
@click.option(
    "--model",
    "model_spec",
    metavar="PATH|tiny",
    help="The model's folder: its config.json and its tokenizer are read.  [default: GLM-4-9B is "
    "reckoned with]",
)
@click.option("--force", is_flag=True, help="Replace the recipe if there is one.")
@click.option(
    "--lang",
    "language",
    type=click.Choice(["en", "zh"]),
    default="en",
    show_default=True,
    help="The language of the recipe's comments.",
)
@partial(output_options, fail_on="never")
def init(
    source: Source,
    target: Path,
    model_spec: str | None,
    force: bool,
    language: Any,
    output: Output,
) -> NoReturn:
    """Look at data and machine, and write a recipe for them.

    Some thousand rows from all files are read and tokenized. Roles, repair, lengths, splitting,
    batches, method and number format are chosen by what is found; the recipe says why. It is for
    `glmprep build`; the next three commands are printed.
    """
    from glmprep.init import init as run_init
    from glmprep.views.init import page, summary

    with file_errors(target):
        result = run_init(source, target, model_spec=model_spec, force=force, language=language)
    output.finish(
        Outcome(
            result=result.as_json(),
            summary=summary(result, target),
            page=lambda: page(result, target, output.command, source.paths),
        )
    )
