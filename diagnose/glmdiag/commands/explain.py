"""`glmdiag explain`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from glmprep.console import file_errors, printable, terminal

if TYPE_CHECKING:
    from rich.console import Console


@click.command()
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
