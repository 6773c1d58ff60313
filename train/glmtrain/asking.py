"""The options of all commands that make answers: which model, which template, how long."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from glmprep.options import FAMILIES

if TYPE_CHECKING:
    from glmtrain.inference import Asked

Command = TypeVar("Command", bound=Callable[..., Any])
FILE = click.Path(dir_okay=False, path_type=Path)
PREPARED = ("family", "thinking", "max_length")
OPTIONS = (
    click.option("--model", metavar="tiny|PATH|ID", help="The base model.  [default: the run's]"),
    click.option(
        "--adapter",
        type=click.Path(path_type=Path),
        metavar="RUN_DIR",
        help="What glmtrain run left.",
    ),
    click.option("--tokenizer", metavar="glm4|PATH", help="[default: the run's, or the model's]"),
    click.option(
        "--family",
        type=click.Choice(FAMILIES),
        help="Chat template.  [default: the run's, or auto]",
    ),
    click.option("--template", type=FILE, help="A jinja chat template of your own."),
    click.option(
        "--thinking", type=click.Choice(["on", "off"]), help="Whether the model is to think."
    ),
    click.option(
        "--max-length",
        type=click.IntRange(1),
        metavar="N",
        help="Tokens that the model sees at once.  [default: the run's, or 8192]",
    ),
    click.option(
        "--max-new-tokens",
        type=click.IntRange(1),
        metavar="N",
        help="Tokens of an answer at most.  [default: a quarter of --max-length, up to 512]",
    ),
    click.option(
        "--dtype",
        type=click.Choice(["auto", "bf16", "fp16", "fp32"]),
        default="auto",
        show_default=True,
        help="Number format; auto asks the hardware.",
    ),
)
SHOWN = (
    click.option("--json", metavar="FILE|-", help="Write the result as one JSON object."),
    click.option("--quiet", is_flag=True, help="Print nothing but errors."),
)


def model_options(command: Command) -> Command:
    """Give a click command the options of a model that answers (see `asked`)."""
    return _given(command, OPTIONS)


def result_options(command: Command) -> Command:
    """Where the result of a command without a report goes."""
    return _given(command, SHOWN)


def _given(command: Command, options: Sequence[Callable[[Command], Command]]) -> Command:
    for option in reversed(options):
        command = option(command)
    return command


def asked(more: Sequence[str] = (), **options: Any) -> Asked:
    """The options that were given, as what is asked for.

    `more` names those that say how conversations become ids, besides the ones of all commands.
    """
    from glmtrain.inference import Asked

    prepared = {name: options.pop(name) for name in (*PREPARED, *more)}
    given = {name: value for name, value in prepared.items() if value is not None}
    return Asked(prepared=given, **options)
