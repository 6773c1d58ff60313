"""The command `glmprep`."""

from __future__ import annotations

from typing import NoReturn

import click

from glmprep import __version__
from glmprep.commands.audit import audit
from glmprep.commands.bucket import bucket
from glmprep.commands.convert import convert
from glmprep.commands.diff_labels import diff_labels
from glmprep.commands.merge import merge
from glmprep.commands.segment import segment
from glmprep.commands.show import show
from glmprep.commands.simulate import simulate
from glmprep.commands.verify import verify
from glmprep.console import run

COMMANDS = (audit, convert, merge, segment, bucket, verify, show, simulate, diff_labels)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="glmprep")
def glmprep() -> None:
    """Prepare chat data for fine-tuning GLM models, with every token accounted for."""


for command in COMMANDS:
    glmprep.add_command(command)


def main() -> NoReturn:
    """Entry point of the command `glmprep`."""
    run(glmprep)


if __name__ == "__main__":
    main()
