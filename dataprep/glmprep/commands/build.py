"""`glmprep build`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import click

from glmprep.console import Outcome, Output, file_errors, output_options


@click.command()
@click.argument("recipe", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--dry-run",
    is_flag=True,
    help="Say what would be done, and estimate time, disk and tokens from a part of the data.",
)
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Run on this machine, or on a Ray cluster (extra `ray`).",
)
@click.option("--address", help="The Ray cluster to join.  [default: one on this machine]")
@click.option(
    "--workers",
    type=click.IntRange(1),
    help="Processes that work.  [default: by data and cores]",
)
@partial(output_options, fail_on="never")
def build(
    recipe: Path,
    dry_run: bool,
    engine: Any,
    address: str | None,
    workers: int | None,
    output: Output,
) -> NoReturn:
    """Make shards of data as a recipe says, in one run that can be stopped and goes on.

    What is made of each part of the data is kept, so that a run that was killed goes on where it
    was, and a change makes only what depends on it. Nothing is done where nothing changed.
    """
    from glmprep import state
    from glmprep.locking import locked
    from glmprep.read import DataFile, files
    from glmprep.recipe import load
    from glmprep.views.terminal import aligned, printing

    asked = load(recipe)
    folder = Path(asked.path(asked.output.folder))
    data = files([asked.path(path) for path in asked.data.paths])
    seen = state.inputs([*data, *map(DataFile, asked.files())])
    earlier = state.current(folder, asked.settings(), seen)
    if not dry_run and earlier is not None:
        text = f"{folder} is built of these files by this recipe already"
        lines = aligned([("nothing to do", text)])
        output.finish(
            Outcome(result={"unchanged": True}, summary=printing(lines), failed=earlier.failed)
        )

    from glmreport import write as write_report

    from glmprep.build import build as run_build
    from glmprep.build_plan import plan as plan_of
    from glmprep.views.build import page, summary
    from glmprep.workers import engine_for

    if dry_run:
        from glmprep.estimate import estimate
        from glmprep.views.build import estimated

        found = estimate(asked, workers)
        output.finish(Outcome(result=found.as_json(), summary=estimated(found)))
    plan = plan_of(asked)
    with file_errors(folder), locked(folder):
        state.forget(folder)
        with engine_for(
            plan.source.paths, workers, engine, address, warm=plan.tokenizing
        ) as running:
            result = run_build(plan, running, progress=output.progress("bytes read"))
            report = folder / asked.output.report if asked.output.report else None
            if report is not None:
                write_report(page(result, plan, output.command), report)
        failed = result.reject_share > asked.output.max_rejects
        state.remember(folder, asked.settings(), seen, state.State(failed=failed))
    output.finish(
        Outcome(
            result=result.as_json(),
            findings=result.shards.findings,
            summary=summary(result, plan),
            page=lambda: page(result, plan, output.command),
            failed=failed,
        )
    )
