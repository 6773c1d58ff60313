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
        "distill": "Train a smaller model on shards, towards what a larger one says of them.",
        "eval": "Measure a model on data that it was not trained on.",
        "generate": "Answer many questions: a prompt, lines of standard input, or conversations.",
        "merge": "Write a run's model with its adapter merged in, and prove that it answers alike.",
        "run": "Fine-tune a model on shards.",
        "serve": "Answer over HTTP as OpenAI's API does, with the training's template and stops.",
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
