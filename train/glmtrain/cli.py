"""The command `glmtrain`."""

from __future__ import annotations

from typing import NoReturn

import click
from glmprep.console import run as run_group
from glmprep.lazy import Commands, LazyGroup

from glmtrain import __version__

COMMANDS = Commands(
    "glmtrain.commands",
    {
        "chat": "Talk to a model, past the end of its window if need be.",
        "distill": "Train a smaller model from a larger one on shards.",
        "eval": "Measure a model on data that it was not trained on.",
        "generate": "Answer conversations or prompts with a model.",
        "merge": "Write a model with what a run learned in its weights.",
        "run": "Fine-tune a model on shards.",
        "serve": "Answer over HTTP as the API of OpenAI does.",
        "verify": "Tell whether a finished run learned from its data.",
    },
)


@click.group(
    cls=LazyGroup,
    offers=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="glmtrain")
def glmtrain() -> None:
    """Fine-tune GLM models on shards that account for every token, and talk to what came of it."""


def main() -> NoReturn:
    """Run the command line."""
    run_group(glmtrain)
