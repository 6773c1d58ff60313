"""The command `glmprep`."""

from __future__ import annotations

from typing import NoReturn

import click

from glmprep import __version__
from glmprep.console import run
from glmprep.lazy import Commands, LazyGroup

COMMANDS = Commands(
    "glmprep.commands",
    {
        "audit": "Check chat data: format, duplicates, token lengths, and what a limit would cut.",
        "bucket": "Tokenize conversations and write them as shards, bucketed by length or packed.",
        "build": "Make shards of data as a recipe says, in one run that can be stopped and goes "
        "on.",
        "convert": "Turn data of any known form into canonical messages, one conversation a line.",
        "diff-labels": "Show token by token what other trainers would train, and name the "
        "differences.",
        "init": "Look at data and machine, and write a recipe for them.",
        "merge": "Take out what says nothing new, without losing key information.",
        "sample": "Draw a small set that stands for all: by length, language and use of tools.",
        "segment": "Split over-long conversations so that each fits, every answer trained exactly "
        "once.",
        "show": "Show the conversations in which rules fire worst, or rows, with what is trained "
        "in colour.",
        "simulate": "Show what other trainers' rules for long rows would lose, by maximum length.",
        "split": "Hold out conversations to validate on, none of which begins as one that is "
        "trained on.",
        "verify": "Prove that a shard folder is whole: checksums, sums, ledger, layout and labels.",
    },
)


@click.group(
    cls=LazyGroup,
    offers=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="glmprep")
def glmprep() -> None:
    """Prepare chat data for fine-tuning GLM models, with every token accounted for."""


def main() -> NoReturn:
    """Entry point of the command `glmprep`."""
    run(glmprep)


if __name__ == "__main__":
    main()
