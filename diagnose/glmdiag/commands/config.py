"""`glmdiag config`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from glmprep.console import Outcome, Output, file_errors, output_options
from glmprep.errors import UsageError
from glmprep.options import FAMILIES

if TYPE_CHECKING:
    from glmdiag.configuration.lengths import Measured


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--simulate", metavar="CARD", help="Judge for a card: V100, T4, 4090, A100, …")
@click.option(
    "--machine",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Judge for another machine by what glmdiag hw --json wrote there.",
)
@click.option("--data", multiple=True, metavar="DATA", help="Chat data, for the limits.")
@click.option(
    "--shards", multiple=True, type=click.Path(path_type=Path), help="Shards, for the limits."
)
@click.option("--tokenizer", default="glm4", metavar="glm4|PATH", help="What counts --data.")
@click.option("--family", type=click.Choice(FAMILIES), default="auto", help="Template of --data.")
@click.option("--gpus", type=click.IntRange(1), default=1, show_default=True, help="Devices.")
@click.option(
    "--fix",
    type=click.Path(path_type=Path),
    help="Write a corrected copy there (a folder where there are two files).",
)
@output_options
def config(
    files: tuple[Path, ...],
    simulate: str | None,
    machine: Path | None,
    data: tuple[str, ...],
    shards: tuple[Path, ...],
    tokenizer: str,
    family: str,
    gpus: int,
    fix: Path | None,
    output: Output,
) -> None:
    """Check a trainer's configuration: number format, lengths, rate, DeepSpeed, stop tokens.

    FILES are one of glmtrain's TOML, the official GLM-4 YAML, LLaMA-Factory, axolotl or ms-swift
    YAML or JSON, TrainingArguments as JSON, and a DeepSpeed JSON, alone or beside one of these.
    """
    from glmdiag.configs import load
    from glmdiag.configuration.effects import effects
    from glmdiag.configuration.fix import changes, fixed, write
    from glmdiag.configuration.rules import judge
    from glmdiag.machine.hardware import choose
    from glmdiag.views.config import Shown, page, summary

    if data and shards:
        raise UsageError("--data and --shards: give one of them")
    found, documents = load(files)
    if fix is not None and fix.resolve() in [path.resolve() for path in found.sources]:
        raise UsageError(f"--fix {fix}: is the file itself; name another one")
    lengths = _lengths(data, shards, found.limit, tokenizer, family)
    findings = judge(found, choose(simulate, machine), lengths)
    wanted = changes(found, findings)
    shown = Shown(
        config=found,
        findings=findings,
        effects=effects(found, gpus),
        lengths=lengths,
        fixes=fixed(documents, wanted),
    )
    if fix is not None:
        with file_errors(fix):
            write(shown.fixes, fix)
    output.finish(
        Outcome(
            result={**shown.as_json(), "changes": [change.as_json() for change in wanted]},
            findings=findings,
            page=lambda: page(shown, output.command),
            summary=lambda console: summary(shown, fix, console),
        )
    )


def _lengths(
    data: tuple[str, ...],
    shards: tuple[Path, ...],
    limit: int | None,
    tokenizer: str,
    family: str,
) -> Measured | None:
    """The lengths of the data that was named, None for none."""
    from glmdiag.configuration.lengths import of_data, of_shards

    if shards:
        return of_shards(shards, limit)
    if not data:
        return None
    from glmprep.options import Reading
    from glmprep.source import Source

    source = Source(paths=data)
    reading = Reading(
        source=source, tokenizer=tokenizer, family=family, template=None, thinking="on"
    )
    return of_data(reading, limit)
