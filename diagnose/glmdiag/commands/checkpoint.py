"""`glmdiag checkpoint`."""

from __future__ import annotations

from pathlib import Path

import click
from glmprep.console import Outcome, Output, output_options


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--base",
    metavar="tiny|DIR",
    help="The base model, if it is not where the folder says.",
)
@click.option(
    "--merged",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A merged model: load it and the base, and compare logits.",
)
@click.option(
    "--reload",
    "reloads",
    is_flag=True,
    help="Load a prefix (P-tuning) into its base and write it again: is it the same?",
)
@output_options
def checkpoint(
    folder: Path, base: str | None, merged: Path | None, reloads: bool, output: Output
) -> None:
    """Examine what a run left: NaN, an untouched adapter, a wrong base.

    FOLDER is a run, one of its checkpoints, a peft adapter, a checkpoint of transformers, or a
    model. Files are read a tensor at a time and never executed.
    """
    from glmdiag.checkpoints import reading
    from glmdiag.checkpoints.asked import compare, reload
    from glmdiag.checkpoints.checkpoint_rules import judge
    from glmdiag.views.checkpoint import page, summary

    found = reading.read(folder, base)
    parity = None if merged is None else compare(found, base, merged)
    reloaded = reload(found, base) if reloads else None
    findings = judge(found, parity, reloaded)
    result = {**found.as_json(), "parity": parity and parity.as_json()}
    output.finish(
        Outcome(
            result=result,
            findings=findings,
            page=lambda: page(found, parity, findings, output.command),
            summary=lambda console: summary(found, parity, console),
        )
    )
