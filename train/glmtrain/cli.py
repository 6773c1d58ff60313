"""The command `glmtrain`."""

from __future__ import annotations

from typing import NoReturn

import click
from glmprep.console import run as run_group

from glmtrain import __version__
from glmtrain.commands.chat import chat
from glmtrain.commands.run import run

COMMANDS = (run, chat)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="glmtrain")
def glmtrain() -> None:
    """Fine-tune GLM models on shards that account for every token, and talk to what came of it."""


for command in COMMANDS:
    glmtrain.add_command(command)


def main() -> NoReturn:
    """Run the command line."""
    run_group(glmtrain)
