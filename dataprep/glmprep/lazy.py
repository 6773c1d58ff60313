"""Commands that are imported when they are called: `--help` and `--version` need none of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

import click


class Commands(Mapping[str, click.Command]):
    """Commands by name; `words` holds the short help of each.

    `a-b` is the function `a_b` in the module `a_b` of `package`.
    """

    def __init__(self, package: str, words: Mapping[str, str]) -> None:
        self.package = package
        self.words = words

    def __getitem__(self, name: str) -> click.Command:
        self.words[name]  # KeyError for a name that is none
        function = name.replace("-", "_")
        command: click.Command = getattr(import_module(f"{self.package}.{function}"), function)
        return command

    def __iter__(self) -> Iterator[str]:
        return iter(self.words)

    def __len__(self) -> int:
        return len(self.words)


class LazyGroup(click.Group):
    """A group that lists its commands without importing them."""

    def __init__(self, *, offers: Commands, **options: Any) -> None:
        super().__init__(**options)
        self.offers = offers
        self.commands = offers  # type: ignore[assignment]  # click only reads it

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands and what each does."""
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, self.offers.words[name]) for name in self.list_commands(ctx)]
            )
