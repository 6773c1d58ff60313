"""`glmprep merge`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from glmprep.console import Outcome, Output, file_errors, output_options, terminal
from glmprep.errors import UsageError
from glmprep.options import Reading, data_options, encoder_option, max_rejects_option

if TYPE_CHECKING:
    pass

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def _list(context: click.Context, _: click.Parameter, asked: bool) -> None:
    """Show the rules of `--trim` and end."""
    if asked:
        from glmprep.merging.asking import known_phrases
        from glmprep.views.merge import listing

        listing(known_phrases(context.params.get("phrases")))(terminal())
        context.exit()


@click.command()
@data_options
@click.option("-o", "--output", "target", type=click.Path(path_type=Path))
@click.option(
    "--trim",
    metavar="all|NAME,…",
    help="Cut what says nothing, by these rules: see --list.",
)
@click.option(
    "--trim-answers",
    is_flag=True,
    help="Trim what is trained, too: this changes what the model learns to say.",
)
@click.option(
    "--phrases",
    type=FILE,
    is_eager=True,
    help="A TOML file with more phrases for the rules, by language: see docs/merging.md.",
)
@click.option(
    "--list",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_list,
    help="Show the rules of --trim, and how many phrases they know, those of --phrases before it "
    "included.",
)
@click.option(
    "--merge-turns",
    is_flag=True,
    help="Join neighbouring messages of one role that are close in meaning.",
)
@click.option(
    "--threshold",
    type=click.FloatRange(-1, 1),
    help="How close they must be: the cosine of their centred vectors.  "
    "[default: 0.2 by words, 0.4 by an encoder]",
)
@click.option(
    "--groups",
    metavar="best|cap=N",
    help="Of conversations that say the same keep the best, or at most N.",
)
@encoder_option
@click.option("--dry-run", is_flag=True, help="Show what would change, and write nothing.")
@click.option(
    "--undo",
    type=FILE,
    metavar="MAP",
    help="Take back the merge of this map, which was written beside DATA.",
)
@click.option(
    "--workers", type=click.IntRange(1), help="Processes that work.  [default: by data and cores]"
)
@max_rejects_option
@partial(output_options, fail_on="never")
def merge(
    reading: Reading,
    target: Path | None,
    dry_run: bool,
    undo: Path | None,
    workers: int | None,
    max_rejects: float,
    output: Output,
    **asked: Any,
) -> NoReturn:
    """Take out what says nothing new, without losing key information.

    Nothing is done that is not asked for: --trim cuts greetings, fillers, noise tags and
    repetitions, --merge-turns joins messages that are close in meaning, --groups drops
    conversations that others say as well. A map is written beside the output, with which --undo
    gives back every byte.
    """
    if target is None and not dry_run:
        raise UsageError("name the output with -o, or pass --dry-run")
    if undo is not None and target is not None:
        _undo(reading.source.paths, undo, target, output)
    from glmprep.merge import merge as run_merge
    from glmprep.merging.asking import asked_for
    from glmprep.views.merge import page, summary
    from glmprep.workers import engine_for

    merging = asked_for(**asked)
    written = None if dry_run else target
    with (
        file_errors(target or "temporary file"),
        engine_for(reading.source.paths, workers, warm=reading.tokenizing) as engine,
    ):
        result = run_merge(
            reading.source,
            written,
            merging=merging,
            tokenizing=reading.tokenizing,
            engine=engine,
        )
    output.finish(
        Outcome(
            result=result.as_json(),
            findings=result.findings,
            summary=summary(result, written),
            page=lambda: page(result, written, output.command, reading.source.paths),
            failed=result.reject_share > max_rejects,
        )
    )


def _undo(paths: Any, map_file: Path, target: Path, output: Output) -> NoReturn:
    from glmprep.merging.restoring import restore
    from glmprep.views.merge import restored

    if len(paths) != 1:
        raise UsageError("--undo takes one file, the one that glmprep merge wrote")
    merged = Path(paths[0])
    with file_errors(merged):
        merged.open("rb").close()
    with file_errors(target):
        result = restore(merged, map_file, target)
    output.finish(Outcome(result=result.as_json(), summary=restored(result, target)))
