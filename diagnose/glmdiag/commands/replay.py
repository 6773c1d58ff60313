"""`glmdiag replay`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from glmprep.console import Outcome, Output, output_options


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--step", type=int, required=True, metavar="N", help="The step to do again.")
@click.option(
    "--dtype",
    type=click.Choice(["fp32", "bf16", "fp16"]),
    help="Compare fp32 with this format in place of the run's own.",
)
@click.option(
    "--shards", multiple=True, metavar="DIR", help="Where the run's shards lie now, if they moved."
)
@click.option("--row", type=int, metavar="K", help="Look at this row of the step alone.")
@click.option(
    "--rerun",
    type=click.IntRange(min=0),
    metavar="N",
    help="At most so many steps are trained again to get there.  [default: 100]",
)
@click.option(
    "--tokenizer", metavar="glm4|PATH", help="What made the shards, if it is not at hand."
)
@output_options
def replay(run: Path, output: Output, step: int, rerun: int | None, **options: Any) -> None:
    """Do one step of a run again: which record and which module make it non-finite.

    RUN is the --output of a glmtrain run. Nothing in it is changed.
    """
    from glmdiag.replay import replay as replaying
    from glmdiag.replay.replay_rules import judge
    from glmdiag.replay.rerun import MOST_RERUN
    from glmdiag.views.replay import page, summary

    found = replaying.replay(
        run,
        step,
        dtype=options["dtype"],
        moved=options["shards"],
        row=options["row"],
        most=MOST_RERUN if rerun is None else rerun,
        tokenizer=options["tokenizer"],
    )
    findings = judge(found)
    output.finish(
        Outcome(
            result=found.as_json(),
            findings=findings,
            page=lambda: page(found, findings, output.command),
            summary=lambda console: summary(found, console),
        )
    )
