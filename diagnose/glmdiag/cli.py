"""`glmdiag`: examine the hardware, the labels and the log of a fine-tuning run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from glmprep.console import Outcome, Output, file_errors, output_options, printable, run, terminal

from glmdiag import __version__

if TYPE_CHECKING:
    from rich.console import Console

PATH = click.Path(path_type=Path)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, package_name="glm-finetune-suite")
def glmdiag() -> None:
    """Say what is wrong with a fine-tuning run, with the evidence and the fix."""


@glmdiag.command()
@output_options
def hw(output: Output) -> None:
    """Examine this machine: devices, memory, bf16, versions, and the number format to train in.

    bf16 is judged by what the hardware says and by a small computation, checked and timed.
    """
    from glmdiag.hardware import examine
    from glmdiag.hardware_rules import judge
    from glmdiag.views.hardware import page, summary

    machine = examine()
    findings = judge(machine)
    output.finish(
        Outcome(
            result=machine.as_json(),
            findings=findings,
            page=lambda: page(machine, findings, output.command),
            summary=lambda console: summary(machine, console),
        )
    )


@glmdiag.command()
@click.argument("shards", type=PATH)
@click.option(
    "--tokenizer", metavar="glm4|PATH", help="What made the shards, if not the embedded one."
)
@output_options
def labels(shards: Path, tokenizer: str | None, output: Output) -> None:
    """Examine what is trained in a shard folder: rows without labels, cut answers, stop tokens."""
    from glmdiag.label_rules import judge
    from glmdiag.labels import read
    from glmdiag.views.labels import page, summary

    found = read(shards, tokenizer)
    findings = judge(found)
    output.finish(
        Outcome(
            result=found.as_json(),
            findings=findings,
            page=lambda: page(found, findings, str(shards), output.command),
            summary=lambda console: summary(found, console),
        )
    )


@glmdiag.command()
@click.argument("file", type=PATH)
@output_options
def log(file: Path, output: Output) -> None:
    """Examine a training log: loss that is NaN, zero, flat, spiking or rising.

    FILE is the metrics.jsonl of glmtrain run, or a trainer_state.json of the Hugging Face Trainer.
    """
    from glmtrain.detectors import detect

    from glmdiag.logs import read
    from glmdiag.views.log import page, summary

    found = read(file)
    findings = detect(found.steps)
    output.finish(
        Outcome(
            result=found.as_json(),
            findings=findings,
            page=lambda: page(found, findings, output.command),
            summary=lambda console: summary(found, console),
        )
    )


@glmdiag.command()
@click.argument("rule", required=False)
@click.option("--list", "list_all", is_flag=True, help="Show all rules of all commands.")
@click.option("--lang", type=click.Choice(["en", "zh"]), default="en", show_default=True)
@click.option("--json", metavar="FILE|-", help="Write the rule, or the list, as JSON.")
def explain(rule: str | None, list_all: bool, lang: str, json: str | None) -> None:
    """Say what a rule means, why it matters and how to mend it."""
    from glmdiag.explain import all_rules, describe, find

    if (rule is None) != list_all:
        raise click.UsageError("give either the id of a rule or --list")
    rules = all_rules() if rule is None else [find(rule)]
    described = [describe(each, lang) for each in rules]
    if json is not None:
        _write_json(described if list_all else described[0], json)
        return
    console = terminal()
    _print_list(console, described) if list_all else _print_rule(console, described[0])


def _print_list(console: Console, rules: Sequence[dict[str, str]]) -> None:
    for rule in rules:
        console.print(f"{rule['id']}  {rule['severity']:<8}{rule['title']}", soft_wrap=True)


def _print_rule(console: Console, rule: dict[str, str]) -> None:
    console.print(f"{rule['id']}  {rule['severity']}\n{rule['title']}", style="bold")
    for name in ("evidence", "why", "fix"):
        console.print(f"\n{name}: {printable(rule[name])}")


def _write_json(value: Any, path: str) -> None:
    import orjson

    text = orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    if path == "-":
        click.echo(text, nl=False)
        return
    with file_errors(path):
        Path(path).write_bytes(text)


def main() -> None:
    """The command `glmdiag`."""
    run(glmdiag)
