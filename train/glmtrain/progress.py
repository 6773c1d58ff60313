"""How a run is shown while it goes on: a live line on a terminal, sober lines elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from glmprep.console import printable

from glmtrain.metrics import StepMetrics, nonfinite

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

SECONDS_BETWEEN_LINES = 5.0


class Silent:
    """Shows nothing."""

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def begin(self, steps: int, done: int) -> None:
        """The first step is about to begin."""

    def note(self, text: str) -> None:
        """Something worth a line."""

    def step(self, metrics: StepMetrics) -> None:
        """A step is done."""


class Lines(Silent):
    """A line every few seconds, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._steps = self._done = 0
        self._began = self._last = 0.0

    def begin(self, steps: int, done: int) -> None:
        """Note where the run starts, so that the time left can be told."""
        self._steps, self._done, self._began = steps, done, time.monotonic()

    def note(self, text: str) -> None:
        """Print a line."""
        self._console.print(printable(text), soft_wrap=True)

    def step(self, metrics: StepMetrics) -> None:
        """Print the step if it is the first, the last, or some time has passed."""
        now = time.monotonic()
        _tell_findings(self, metrics)
        if metrics.step == self._steps or now - self._last >= SECONDS_BETWEEN_LINES:
            self._last = now
            each = (now - self._began) / max(1, metrics.step - self._done)
            left = _clock(each * (self._steps - metrics.step))
            self.note(
                f"step {metrics.step}/{self._steps}  loss {_loss(metrics)}"
                f"  rate {metrics.learning_rate:.2e}  {_speed(metrics)}  {left} left"
            )


class Live(Silent):
    """A progress bar with loss, speed and time left."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = _progress(console)
        self._task = self._bar.add_task("training", start=False, visible=False, figures="")

    def __enter__(self) -> Live:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def begin(self, steps: int, done: int) -> None:
        """Show the bar."""
        self._bar.update(self._task, total=steps, completed=done, visible=True)
        self._bar.start_task(self._task)

    def note(self, text: str) -> None:
        """Print a line above the bar."""
        self._console.print(printable(text), soft_wrap=True)

    def step(self, metrics: StepMetrics) -> None:
        """Move the bar on."""
        _tell_findings(self, metrics)
        figures = f"loss {_loss(metrics)}  {_speed(metrics)}"
        self._bar.update(self._task, completed=metrics.step, figures=figures)


def display(console: Console, *, quiet: bool) -> Silent:
    """What suits the place that the output goes to."""
    if quiet:
        return Silent()
    return Live(console) if console.is_terminal else Lines(console)


def _progress(console: Console) -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as TimeLeft

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeLeft(elapsed_when_finished=True),
        console=console,
    )


def _tell_findings(shown: Silent, metrics: StepMetrics) -> None:
    for finding in metrics.findings:
        shown.note(f"step {metrics.step}: {finding.rule} {finding.evidence}")


def _loss(metrics: StepMetrics) -> str:
    return nonfinite(metrics.loss) or f"{metrics.loss:.3f}"


def _speed(metrics: StepMetrics) -> str:
    supervised = metrics.supervised_tokens_per_second
    return f"{metrics.tokens_per_second:,.0f} tokens/s ({supervised:,.0f} supervised)"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return (
        f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
        if minutes >= 60
        else f"{minutes}:{rest:02d}"
    )
