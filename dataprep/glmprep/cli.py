"""The command `glmprep`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from glmprep import __version__
from glmprep.console import Outcome, Output, file_errors, output_options, run
from glmprep.errors import UsageError

if TYPE_CHECKING:
    from glmprep.families import Family
    from glmprep.tokenizer import Tokenizer

Command = TypeVar("Command", bound=Callable[..., Any])
FAMILIES = ["auto", "glm4"]
MAX_LENGTH = 8192


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="glmprep")
def glmprep() -> None:
    """Prepare chat data for fine-tuning GLM models, with every token accounted for."""


def data_options(command: Command) -> Command:
    """Options of all commands that read conversations."""
    options: list[Callable[[Any], Any]] = [
        click.argument("data", nargs=-1, required=True),
        click.option(
            "--tokenizer",
            default="glm4",
            show_default=True,
            metavar="glm4|PATH",
            help="The embedded GLM-4 tokenizer, or a folder with tokenizer.json.",
        ),
        click.option(
            "--family", type=click.Choice(FAMILIES), default="auto", help="Chat template."
        ),
        click.option(
            "--role",
            "roles",
            multiple=True,
            metavar="OLD=NEW",
            help="What a role in the data stands for, such as client=user. Can be repeated.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def max_rejects_option(command: Command) -> Command:
    """The option of all commands that write data."""
    return click.option(
        "--max-rejects",
        type=click.FloatRange(0, 1),
        default=0.05,
        show_default=True,
        help="Exit with 1 when a larger share of the rows is rejected.",
    )(command)


@glmprep.command()
@data_options
@click.option("--max-length", type=int, help="Show what cutting at so many tokens would lose.")
@click.option("--gx", type=click.Path(path_type=Path), help="Write a Great Expectations project.")
@output_options
def audit(
    data: tuple[str, ...],
    tokenizer: str,
    family: str,
    roles: tuple[str, ...],
    max_length: int | None,
    gx: Path | None,
    output: Output,
) -> NoReturn:
    """Check chat data: format, duplicates, token lengths, and what a limit would cut.

    DATA are files (.jsonl or .json, also .gz and .zst), folders, globs, or - for standard input.
    """
    from glmprep.audit import audit as run_audit
    from glmprep.views.audit import page, summary

    vocabulary, template = _load(tokenizer, family)
    with file_errors("reading"):
        result = run_audit(
            data,
            family=template,
            tokenizer=vocabulary,
            max_length=max_length,
            roles=_roles(roles),
            keep_flags=gx is not None,
        )
    if gx is not None:
        from glmprep.gx import write_project

        with file_errors(gx):
            write_project(result, gx)
    shown = summary(result)
    output.finish(
        Outcome(
            result=result.as_json(),
            findings=result.findings,
            summary=shown,
            page=lambda: page(result, output.command, data),
        )
    )


@glmprep.command()
@data_options
@click.option("-o", "--output", "target", type=click.Path(path_type=Path), required=True)
@click.option(
    "--max-length",
    type=int,
    default=MAX_LENGTH,
    show_default=True,
    help="Tokens of a segment, with the prefix and the final stop token.",
)
@click.option(
    "--overlap",
    type=click.IntRange(0),
    default=2,
    show_default=True,
    help="Replay at least so many turns before each segment as context, in whole exchanges.",
)
@click.option(
    "--context-tokens",
    type=click.IntRange(0),
    help="At most so many tokens of replay.  [default: a quarter of --max-length]",
)
@click.option(
    "--on-overflow",
    type=click.Choice(["split", "quarantine"]),
    default="split",
    show_default=True,
    help="One exchange longer than the limit: cut it at sentence ends, or set it aside.",
)
@max_rejects_option
@partial(output_options, fail_on="never")
def segment(
    data: tuple[str, ...],
    tokenizer: str,
    family: str,
    roles: tuple[str, ...],
    target: Path,
    max_length: int,
    overlap: int,
    context_tokens: int | None,
    on_overflow: Any,
    max_rejects: float,
    output: Output,
) -> NoReturn:
    """Split over-long conversations so that each fits, every answer trained exactly once."""
    from glmprep.segment import segment as run_segment
    from glmprep.sized import Limits
    from glmprep.views.segment import page, summary

    vocabulary, template = _load(tokenizer, family)
    limits = Limits(
        max_length=max_length,
        overlap=overlap,
        context_tokens=max_length // 4 if context_tokens is None else context_tokens,
    )
    with file_errors(target):
        result = run_segment(
            data,
            target,
            family=template,
            tokenizer=vocabulary,
            limits=limits,
            on_overflow=on_overflow,
            roles=_roles(roles),
        )
    output.finish(
        Outcome(
            result=result.as_json(),
            findings=result.findings,
            summary=summary(result, target),
            page=lambda: page(result, limits, target, output.command, data),
            failed=result.reject_share > max_rejects,
        )
    )


@glmprep.command()
@data_options
@click.option("-o", "--output", "target", type=click.Path(path_type=Path), required=True)
@click.option(
    "--layout",
    type=click.Choice(["buckets", "packed"]),
    default="buckets",
    show_default=True,
    help="One conversation a row in buckets of like length, or several packed into a row.",
)
@click.option(
    "--max-length",
    type=int,
    default=MAX_LENGTH,
    show_default=True,
    help="Longer conversations are set aside, never cut; a packed row holds so many tokens.",
)
@click.option(
    "--tokens-per-batch",
    type=click.IntRange(1),
    help="Tokens of a batch, padding included.  [default: --max-length]",
)
@click.option("--buckets", type=int, default=8, show_default=True, help="Number of buckets.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True)
@click.option("--workers", type=click.IntRange(1), help="Threads that tokenize.  [default: all]")
@click.option("--overwrite", is_flag=True, help="Replace the shards in the output folder.")
@max_rejects_option
@partial(output_options, fail_on="never")
def bucket(
    data: tuple[str, ...],
    tokenizer: str,
    family: str,
    roles: tuple[str, ...],
    target: Path,
    layout: Any,
    max_length: int,
    tokens_per_batch: int | None,
    buckets: int,
    seed: int,
    workers: int | None,
    overwrite: bool,
    max_rejects: float,
    output: Output,
) -> NoReturn:
    """Tokenize conversations and write them as shards, bucketed by length or packed."""
    from glmprep.bucket import Config
    from glmprep.bucket import bucket as run_bucket
    from glmprep.views.bucket import page, summary

    if workers is not None:
        import os

        # Read by the tokenizer's thread pool when it starts.
        os.environ["RAYON_NUM_THREADS"] = str(workers)
    vocabulary, template = _load(tokenizer, family)
    config = Config(
        layout=layout,
        max_length=max_length,
        tokens_per_batch=tokens_per_batch or 0,
        buckets=buckets,
        seed=seed,
        roles=_roles(roles),
    )
    with file_errors(target):
        result = run_bucket(
            data,
            target,
            family=template,
            tokenizer=vocabulary,
            config=config,
            overwrite=overwrite,
        )
    output.finish(
        Outcome(
            result=result.as_json(),
            findings=result.findings,
            summary=summary(result, target),
            page=lambda: page(result, target, output.command, data),
            failed=result.reject_share > max_rejects,
        )
    )


@glmprep.command()
@click.argument("shards", type=click.Path(path_type=Path))
@output_options
def verify(shards: Path, output: Output) -> NoReturn:
    """Prove that a shard folder is whole: checksums, sums, layout and labels."""
    from glmprep.verify import verify as run_verify
    from glmprep.views.verify import page, summary

    with file_errors(shards):
        result = run_verify(shards)
    output.finish(
        Outcome(
            result=result.as_json(),
            findings=result.findings,
            summary=summary(result, shards),
            page=lambda: page(result, shards, output.command),
        )
    )


@glmprep.command()
@click.argument("shards", type=click.Path(path_type=Path))
@click.option("--row", "rows", type=int, multiple=True, help="Number of the row, from 0.")
@click.option("--tokenizer", metavar="glm4|PATH", help="The tokenizer that made the shards.")
@output_options
def show(shards: Path, rows: tuple[int, ...], tokenizer: str | None, output: Output) -> NoReturn:
    """Print rows of a shard folder as text, with the trained tokens coloured."""
    from glmprep.show import show as run_show
    from glmprep.views.show import page, summary

    with file_errors(shards):
        shown = run_show(shards, rows or (0,), tokenizer)
    output.finish(
        Outcome(
            result={"rows": [row.as_json() for row in shown]},
            summary=summary(shown),
            page=lambda: page(shown, shards, output.command),
        )
    )


def main() -> NoReturn:
    """Entry point of the command `glmprep`."""
    run(glmprep)


def _load(tokenizer: str, family: str) -> tuple[Tokenizer, Family]:
    from glmprep import families
    from glmprep.tokenizer import load

    vocabulary = load(tokenizer)
    return vocabulary, families.load(family, vocabulary)


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


if __name__ == "__main__":
    main()
