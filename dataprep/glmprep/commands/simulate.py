"""`glmprep simulate`."""

from __future__ import annotations

from functools import partial
from typing import NoReturn

import click

from glmprep.console import Outcome, Output, file_errors, output_options
from glmprep.options import Reading, data_options


@click.command()
@data_options
@click.option(
    "--lengths",
    default="512,1024,2048,4096,8192,16384",
    show_default=True,
    metavar="N,N,…",
    help="Maximum lengths to try, in tokens.",
)
@partial(output_options, fail_on="never")
def simulate(reading: Reading, lengths: str, output: Output) -> NoReturn:
    """Show what other trainers' rules for long rows would lose, by maximum length.

    The official GLM-4 script, LLaMA-Factory, TRL, axolotl and ms-swift, beside `glmprep segment`.
    """
    from glmprep.simulate import parse_lengths
    from glmprep.simulate import simulate as run_simulate
    from glmprep.views.simulate import page, summary

    wanted = parse_lengths(lengths)
    vocabulary, template = reading.load()
    with file_errors("reading"):
        result = run_simulate(reading.source, family=template, tokenizer=vocabulary, lengths=wanted)
    output.finish(
        Outcome(
            result=result.as_json(),
            findings=result.findings,
            summary=summary(result),
            page=lambda: page(result, output.command, reading.source.paths),
        )
    )
