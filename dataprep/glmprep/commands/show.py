"""`glmprep show`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import NoReturn

import click

from glmprep.console import Outcome, Output, file_errors, output_options
from glmprep.errors import UsageError
from glmprep.options import Reading, data_options


@click.command()
@data_options
@click.option("--row", "rows", type=int, multiple=True, help="Number of a row, from 0.")
@click.option("--rule", "rules", multiple=True, metavar="ID", help="Only this rule, such as DF103.")
@click.option(
    "--per-rule",
    type=click.IntRange(1),
    default=5,
    show_default=True,
    help="So many conversations of each rule.",
)
@click.option("--max-length", type=int, help="Show what cutting at so many tokens would lose.")
@partial(output_options, fail_on="never")
def show(
    reading: Reading,
    rows: tuple[int, ...],
    rules: tuple[str, ...],
    per_rule: int,
    max_length: int | None,
    output: Output,
) -> NoReturn:
    """Show the conversations in which rules fire worst, or rows, with what is trained in colour.

    DATA are files, folders or globs as in the other commands, or one folder of shards, whose rows
    are shown by number.
    """
    paths = reading.source.paths
    if any(map(_is_shards, paths)):
        if len(paths) > 1 or rules or max_length is not None:
            raise UsageError(f"{paths[0]}: of a folder of shards, --row shows rows, and no more")
        _show_shards(Path(paths[0]), rows or (0,), reading, output)
    _show_data(reading, rows, rules, per_rule, max_length, output)


def _is_shards(path: str) -> bool:
    """A folder with a manifest, or with shards whose writing was not finished."""
    from glmprep.shards import MANIFEST

    folder = Path(path)
    return (folder / MANIFEST).is_file() or any(folder.glob("shard-*.parquet"))


def _show_shards(shards: Path, rows: tuple[int, ...], reading: Reading, output: Output) -> NoReturn:
    from glmprep.show import show as run_show
    from glmprep.views.show import page, summary

    with file_errors(shards):
        shown = run_show(shards, rows, reading.tokenizer)
    output.finish(
        Outcome(
            result={"rows": [row.as_json() for row in shown]},
            summary=summary(shown),
            page=lambda: page(shown, shards, output.command),
        )
    )


def _show_data(
    reading: Reading,
    rows: tuple[int, ...],
    rules: tuple[str, ...],
    per_rule: int,
    max_length: int | None,
    output: Output,
) -> NoReturn:
    from glmprep.views.worst import page, summary
    from glmprep.worst import pick, worst

    if rows and rules:
        raise UsageError("--row shows rows and --rule the worst of a rule; give one of them")
    vocabulary, family = reading.load()
    with file_errors("reading"):
        if rows:
            result = pick(
                reading.source, rows, family=family, tokenizer=vocabulary, max_length=max_length
            )
        else:
            result = worst(
                reading.source,
                family=family,
                tokenizer=vocabulary,
                rules=rules,
                per_rule=per_rule,
                max_length=max_length,
            )
    output.finish(
        Outcome(
            result=result.as_json(),
            summary=summary(result),
            page=lambda: page(result, output.command, reading.source.paths),
        )
    )
