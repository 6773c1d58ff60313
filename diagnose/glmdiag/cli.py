"""`glmdiag`: examine the hardware, the labels and the log of a fine-tuning run."""

from __future__ import annotations

import click
from glmprep.console import run
from glmprep.lazy import Commands, LazyGroup

from glmdiag import __version__

COMMANDS = Commands(
    "glmdiag.commands",
    {
        "explain": "Say what a rule means, why it matters and how to mend it.",
        "hw": "Examine this machine: devices, memory, bf16, versions, and the number format to "
        "train in.",
        "labels": "Examine what is trained in a shard folder: rows without labels, cut answers, "
        "stop tokens.",
        "log": "Examine a training log: loss that is NaN, zero, flat, spiking or rising.",
    },
)


@click.group(
    cls=LazyGroup, offers=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, prog_name="glmdiag")
def glmdiag() -> None:
    """Say what is wrong with a fine-tuning run, with the evidence and the fix."""


def main() -> None:
    """The command `glmdiag`."""
    run(glmdiag)
