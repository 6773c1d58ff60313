"""What every command of the suite shares: options, printing, exit status.

Exit status: 0 clean; 1 findings at or above `--fail-on`, or work that fell short; 2 wrong usage or
unreadable input. Standard output carries the result, standard error everything else; with
`--json -` standard output carries nothing but the JSON.
"""

from __future__ import annotations

import io
import os
import shlex
import sys
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from glmprep.errors import InputError, SuiteError

if TYPE_CHECKING:
    from glmreport.page import Page
    from rich.console import Console

    from glmprep.findings import Finding

Command = TypeVar("Command", bound=Callable[..., Any])
COLOURS = {"error": "red", "warning": "yellow", "info": "cyan"}
EXAMPLES_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a command came to.

    `result` goes to `--json`; `page` is called only for `--report`; `summary` prints for a person;
    `failed` asks for exit status 1 whatever the findings are.
    """

    result: Mapping[str, Any]
    findings: Sequence[Finding] = ()
    page: Callable[[], Page] | None = None
    summary: Callable[[Console], None] | None = None
    failed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """Where a command's outcome goes, as the shared options say."""

    json: str | None = None
    report: Path | None = None
    fail_on: str = "error"
    quiet: bool = False
    command: str = field(default_factory=lambda: shlex.join(["glm", *sys.argv[1:]]))

    def finish(self, outcome: Outcome) -> NoReturn:
        """Print, write JSON and report, and exit with the status that the outcome asks for."""
        if not self.quiet:
            self._print(outcome)
        if self.report is not None and outcome.page is not None:
            self._write_report(outcome.page())
        if self.json is not None:
            self._write_json(outcome)
        sys.exit(1 if outcome.failed or self._fails(outcome.findings) else 0)

    def progress(self, what: str) -> Callable[[int, int], None]:
        """Shows on a terminal how many of how many are done, in a line that goes when all are."""

        def show(done: int, total: int) -> None:
            if not self.quiet and sys.stderr.isatty():
                line = f"{what}: {done:,} of {total:,}" if done < total else ""
                click.echo(f"\r\x1b[K{line}", err=True, nl=False)

        return show

    def _fails(self, findings: Sequence[Finding]) -> bool:
        if self.fail_on == "never":
            return False
        from glmprep.findings import Severity

        return any(f.severity.rank <= Severity(self.fail_on).rank for f in findings)

    def _print(self, outcome: Outcome) -> None:
        console = terminal(to_stderr=self.json == "-")
        if outcome.summary is not None:
            outcome.summary(console)
        for finding in sorted(outcome.findings, key=lambda f: (f.severity.rank, f.rule)):
            _print_finding(console, finding)

    def _write_report(self, page: Page) -> None:
        from glmreport import write

        assert self.report is not None
        with file_errors(self.report):
            write(page, self.report)
        if not self.quiet:
            click.echo(f"report: {self.report}", err=True)

    def _write_json(self, outcome: Outcome) -> None:
        import orjson

        found = [f.as_json() for f in outcome.findings]
        data = {**outcome.result, "findings": found}
        text = orjson.dumps(data, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY) + b"\n"
        if self.json == "-":
            sys.stdout.buffer.write(text)
            sys.stdout.buffer.flush()
        else:
            assert self.json is not None
            with file_errors(self.json):
                Path(self.json).parent.mkdir(parents=True, exist_ok=True)
                Path(self.json).write_bytes(text)


def output_options(command: Command, *, fail_on: str = "error") -> Command:
    """Give a click command the shared options; the function receives them as `output: Output`.

    `fail_on` is the default of the option: commands that write data did their work even if some
    rows are unsound, so for them it is `never`.
    """
    import functools

    @functools.wraps(command)
    def with_output(
        *args: Any, json: str | None, report: Path | None, fail_on: str, quiet: bool, **kwargs: Any
    ) -> Any:
        context = click.get_current_context()
        line = shlex.join([*context.command_path.split(), *_arguments(context)])
        output = Output(json=json, report=report, fail_on=fail_on, quiet=quiet, command=line)
        return command(*args, output=output, **kwargs)

    decorators = [
        click.option("--json", metavar="FILE|-", help="Write the result as one JSON object."),
        click.option(
            "--report",
            type=click.Path(dir_okay=False, path_type=Path),
            help="Write a self-contained HTML report.",
        ),
        click.option(
            "--fail-on",
            type=click.Choice(["error", "warning", "never"]),
            default=fail_on,
            show_default=True,
            help="Exit with 1 when a finding is at least this severe.",
        ),
        click.option("--quiet", is_flag=True, help="Print nothing but errors."),
    ]
    wrapped: Any = with_output
    for decorate in reversed(decorators):
        wrapped = decorate(wrapped)
    return wrapped  # type: ignore[no-any-return]


def run(group: click.Group) -> NoReturn:
    """Run a command group; an expected error becomes one line on standard error and its status."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Data in Chinese on a terminal that has no Chinese: escapes rather than an error.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        group.main(standalone_mode=False)
    except click.exceptions.Exit as end:
        sys.exit(end.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except SuiteError as error:
        click.echo(f"{group.name}: {printable(str(error))}", err=True)
        sys.exit(error.exit_status)
    except (KeyboardInterrupt, click.Abort):
        click.echo(f"{group.name}: stopped", err=True)
        sys.stdout.flush()
        if "multiprocessing.util" in sys.modules:
            # What workers shared is given back here, not by a warning of who watches over it.
            sys.modules["multiprocessing.util"]._run_finalizers()
        # At once: where the interrupt hit code that was made from a string, as dataclasses are,
        # Python would end in the signal rather than in the status that is asked for here.
        os._exit(130)
    except BrokenPipeError:
        # Whoever read our output went away (`| head`); keep the exit from failing over it too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    sys.exit(0)


class file_errors:  # noqa: N801 - used as a statement, like contextlib.suppress
    """Turn the operating system's errors about `path` into an InputError of one line."""

    def __init__(self, path: str | Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
            raise InputError(f"{self.path}: {error.strerror or error}") from error


def terminal(*, to_stderr: bool = False) -> Console:
    """A console that never reads markup from data and does not wrap when it is not a terminal."""
    from rich.console import Console

    console = Console(stderr=to_stderr, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = 120
    return console


def printable(text: str, limit: int | None = None) -> str:
    """`text` for a terminal: control, bidirectional and unassigned characters shown as escapes.

    Chat data is hostile: an escape sequence in it must not move the cursor or set the title.
    """
    if limit is not None and len(text) > limit:
        text = text[: limit - 1] + "…"
    return "".join(
        c if c.isprintable() or unicodedata.category(c) == "Zs" else repr(c)[1:-1] for c in text
    )


def _print_finding(console: Console, finding: Finding) -> None:
    from rich.text import Text

    head = Text()
    head.append(f"{finding.severity:<8}", style=f"bold {COLOURS[finding.severity]}")
    head.append(f"{finding.rule}  ", style="bold")
    head.append(printable(finding.evidence))
    console.print(head, soft_wrap=True)
    for example in finding.examples[:EXAMPLES_SHOWN]:
        place = f"        {printable(example.where)}  {printable(example.excerpt, 80)}"
        console.print(Text(place.rstrip(), style="dim"), soft_wrap=True)
    console.print(Text(f"        fix: {printable(finding.fix)}"), soft_wrap=True)


def _arguments(context: click.Context) -> list[str]:
    """The command line after the command's own path, as it was typed."""
    depth = len(context.command_path.split())
    return sys.argv[depth:]
