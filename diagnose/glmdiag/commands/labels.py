"""`glmdiag labels`."""

from __future__ import annotations

from pathlib import Path

import click
from glmprep.console import Outcome, Output, output_options
from glmprep.options import FAMILIES

AS = ("glmprep", "official", "official_combine", "llamafactory", "trl", "trl_answers")


@click.command()
@click.argument("data", type=click.Path(path_type=Path))
@click.option(
    "--tokenizer", metavar="glm4|PATH", help="What made the tokens, if not the embedded one."
)
@click.option(
    "--family",
    type=click.Choice(FAMILIES),
    default="auto",
    show_default=True,
    help="The chat template of a set that is not this suite's.",
)
@click.option(
    "--model",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The model's folder: its tokenizer, and the tokens that end generation.",
)
@click.option(
    "--stop-ids",
    metavar="ID,ID|FILE",
    help="Tokens at which a server ends generation, or a JSON file that names them.",
)
@click.option(
    "--as",
    "by",
    type=click.Choice(AS),
    default="glmprep",
    show_default=True,
    help="For chat data: the trainer whose rules make tokens and labels of it.",
)
@click.option(
    "--max-length",
    type=click.IntRange(8),
    help="The limit at which rows were, or are to be, cut.",
)
@click.option(
    "--config",
    "configs",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    multiple=True,
    help="For chat data: a trainer's configuration, for --as and --max-length. Can be repeated.",
)
@output_options
def labels(
    data: Path,
    tokenizer: str | None,
    family: str,
    model: Path | None,
    stop_ids: str | None,
    by: str,
    max_length: int | None,
    configs: tuple[Path, ...],
    output: Output,
) -> None:
    """Examine what is trained: rows without labels, cut answers, shifts, stop tokens.

    DATA is a shard folder, a tokenized dataset of any trainer (Arrow, Parquet or JSON Lines with
    input_ids and labels), or chat data, which is labelled first as a trainer would.
    """
    from glmdiag.labels import Wanted, read
    from glmdiag.labels.asked import by_config
    from glmdiag.labels.label_rules import judge
    from glmdiag.views.labels import page, summary

    if configs:
        by, max_length = by_config(configs, max_length)
    found = read(
        data,
        Wanted(
            tokenizer=tokenizer,
            family=family,
            model=model,
            stop_ids=stop_ids,
            by=by,
            max_length=max_length,
        ),
    )
    findings = judge(found)
    output.finish(
        Outcome(
            result=found.as_json(),
            findings=findings,
            page=lambda: page(found, findings, str(data), output.command),
            summary=lambda console: summary(found, console),
        )
    )
