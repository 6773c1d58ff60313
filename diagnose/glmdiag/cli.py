"""`glmdiag`: examine the hardware, the labels and the log of a fine-tuning run."""

from __future__ import annotations

import click
from glmprep.console import run
from glmprep.lazy import Commands, LazyGroup

from glmdiag import __version__

COMMANDS = Commands(
    "glmdiag.commands",
    {
        "checkpoint": "Examine what a run left: NaN, an untouched adapter, a wrong base.",
        "config": "Check a trainer's configuration: number format, lengths, rate, DeepSpeed, stop "
        "tokens.",
        "env": "Check versions against known bad pairs, CUDA against the driver, a model's code.",
        "explain": "Say what a rule means, why it matters and how to mend it.",
        "hw": "Examine this machine: devices, memory, bf16, attention, and the number format to "
        "train in.",
        "labels": "Examine what is trained: rows without labels, cut answers, shifts, stop tokens.",
        "learned": "Say whether a run learned, little, nothing, or harm, from all that it left.",
        "log": "Examine a training log: NaN, collapse, spikes, divergence, overfitting, leaks, a "
        "bad end.",
        "memory": "Predict the memory of a run, by bucket, and find the smallest change with which "
        "it fits.",
        "preflight": "Try a run before its first step: is the model fit to be trained, and in "
        "which number format?",
        "replay": "Do one step of a run again: which record and which module make it non-finite.",
        "report": "Say why a run failed: all examinations joined into ranked causes.",
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
