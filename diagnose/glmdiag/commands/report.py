"""`glmdiag report`."""

from __future__ import annotations

from pathlib import Path

import click
from glmprep.console import Outcome, Output, output_options


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--shards", type=click.Path(exists=True, path_type=Path), help="What was trained on.")
@click.option(
    "--config",
    "configs",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    multiple=True,
    help="A trainer's configuration, and DeepSpeed's file; can be repeated.",
)
@click.option("--base", metavar="tiny|DIR", help="The base model.")
@click.option("--simulate", metavar="CARD", help="The card it ran on: V100, T4, 4090, A100, …")
@click.option(
    "--machine",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The machine it ran on, by what glmdiag hw --json wrote there.",
)
@click.option(
    "--tokenizer", metavar="glm4|PATH", help="What made the data, if not the embedded one."
)
@click.option("--verify-fix", is_flag=True, help="Try the change on some steps of the run.")
@click.option(
    "--steps", type=click.IntRange(5, 20), default=10, show_default=True, help="... on so many."
)
@output_options
def report(
    run: Path,
    shards: Path | None,
    configs: tuple[Path, ...],
    base: str | None,
    simulate: str | None,
    machine: Path | None,
    tokenizer: str | None,
    verify_fix: bool,
    steps: int,
    output: Output,
) -> None:
    """Say why a run failed: all examinations joined into ranked causes.

    RUN is the folder of a run of glmtrain or of another trainer, or a log alone. What the folder
    does not hold is named by options; what is missing is left out, and said.
    """
    from glmdiag.report.case import Given, examine
    from glmdiag.views.report import page, summary, told

    case = examine(
        Given(
            run=run,
            shards=shards,
            configs=configs,
            base=base,
            card=simulate,
            machine=machine,
            tokenizer=tokenizer,
        )
    )
    tried = None
    if verify_fix:
        from glmdiag.report.remedies import try_first

        tried = try_first(case, steps)
    result = {**case.as_json(), "verify_fix": tried and tried.as_json()}
    output.finish(
        Outcome(
            result=result,
            findings=told(case),
            page=lambda: page(case, tried, output.command),
            summary=lambda console: summary(case, tried, console),
        )
    )
