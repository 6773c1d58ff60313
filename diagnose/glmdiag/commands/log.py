"""`glmdiag log`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
from glmprep.console import Outcome, Output, output_options, printable, terminal
from glmprep.errors import UsageError

if TYPE_CHECKING:
    from glmprep.findings import Finding

    from glmdiag.logs.following import Following


@click.command()
@click.argument(
    "files", metavar="FILE...", type=click.Path(path_type=Path), nargs=-1, required=True
)
@click.option("--follow", is_flag=True, help="Go on reading while the run goes on.")
@click.option("--until", type=click.IntRange(min=1), help="With --follow: end at this step.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    help="With --follow: end after so many seconds without a new step.",
)
@click.option(
    "--poll",
    type=click.FloatRange(min=0.01, max=3600),
    default=2.0,
    show_default=True,
    help="With --follow: seconds from one look to the next.",
)
@output_options
def log(
    files: Sequence[Path],
    follow: bool,
    until: int | None,
    timeout: float | None,
    poll: float,
    output: Output,
) -> None:
    """Examine a training log: NaN, collapse, spikes, divergence, overfitting, leaks, a bad end.

    FILE is a metrics.jsonl of glmtrain run, a trainer_state.json of the Hugging Face Trainer, a
    trainer_log.jsonl of LLaMA-Factory, a logging.jsonl of ms-swift, the console text of a trainer
    or of DeepSpeed, TensorBoard's events, or a run's folder. Several are pieces of one run.
    """
    from glmtrain.detectors import detect

    from glmdiag.logs import read

    if not follow and (until is not None or timeout is not None):
        raise UsageError("--until and --timeout are of --follow; add --follow or leave them out")
    if follow:
        if len(files) > 1:
            raise UsageError("--follow reads one file; name the one that is being written")
        from glmdiag.logs.following import Following

        followed = Following(path=files[0], until=until, timeout=timeout, poll=poll)
        _finish(files, _watched(followed, output), output, told=True)
    _finish(files, detect(read(*files).steps), output)


def _watched(followed: Following, output: Output) -> list[Finding]:
    """Tell each finding when it is certain; an interrupt ends it as the run's end does."""
    import time

    from glmtrain.detectors import Watch

    watch = Watch()
    found: list[Finding] = []
    console = terminal(to_stderr=output.json == "-")

    def tell(findings: Sequence[Finding], step: int) -> None:
        found.extend(findings)
        for finding in findings if not output.quiet else ():
            clock = time.strftime("%H:%M:%S")
            console.print(
                f"{clock} step {step}: {finding.severity.value} {finding.rule}: "
                f"{printable(finding.evidence)} Fix: {printable(finding.fix)}",
                soft_wrap=True,
                markup=False,
            )

    last = 0
    try:
        for step in followed.steps():
            if step is not None:
                last = step.step
                tell(watch.feed(step), last)
    except KeyboardInterrupt:
        if not output.quiet:
            click.echo(f"stopped at step {last}", err=True)
    tell(watch.close(), last)
    return found


def _finish(
    files: Sequence[Path], findings: Sequence[Finding], output: Output, *, told: bool = False
) -> None:
    """Print, write and end. What was followed is read once more for the page and the sums."""
    from glmdiag.logs import read
    from glmdiag.views.log import page, summary

    found = read(*files)
    if told:
        output = replace(output, quiet=True)
    output.finish(
        Outcome(
            result=found.as_json(),
            findings=findings,
            page=lambda: page(found, findings, output.command),
            summary=lambda console: summary(found, console),
        )
    )
