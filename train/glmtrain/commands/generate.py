"""`glmtrain generate`."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
from glmprep.console import Outcome, Output, file_errors, printable, terminal
from glmprep.errors import InputError, UsageError

from glmtrain import libraries
from glmtrain.asking import FILE, asked, model_options, result_options

if TYPE_CHECKING:
    from glmprep.records import Conversation, Rejection
    from rich.console import Console

LINES = "-"


@click.command()
@click.argument("data", nargs=-1, metavar="DATA... | -")
@click.option("--prompt", "prompts", multiple=True, metavar="TEXT", help="A question; repeatable.")
@click.option("--system", metavar="TEXT", help="A system message for --prompt and lines.")
@click.option("-o", "--output", "target", type=FILE, required=True, help="JSON Lines to write.")
@click.option("--overwrite", is_flag=True, help="Replace --output.")
@click.option(
    "--batch",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    metavar="N",
    help="Questions answered at a time.",
)
@click.option(
    "--temperature", type=float, default=0.0, show_default=True, help="0: the likeliest token."
)
@click.option("--top-p", type=float, default=1.0, show_default=True)
@click.option("--top-k", type=int, default=0, show_default=True, help="0: all tokens.")
@click.option("--seed", type=int, default=42, show_default=True, metavar="N")
@model_options
@result_options
def generate(
    data: tuple[str, ...],
    prompts: tuple[str, ...],
    system: str | None,
    target: Path,
    overwrite: bool,
    batch: int,
    temperature: float,
    top_p: float,
    top_k: int,
    seed: int,
    json: str | None,
    quiet: bool,
    **options: Any,
) -> NoReturn:
    """Answer many questions: a prompt, lines of standard input, or conversations.

    A conversation in DATA is answered where its user last spoke; what was said after that is left
    out. Each line of the output is the conversation with its answer, tokens, seconds, and what
    ended it. Answers are the likeliest ones unless --temperature is given.
    """
    libraries.require()
    from glmprep.files import replacing, require_other

    from glmtrain.answering import Answering, Tally
    from glmtrain.generate import Sampling
    from glmtrain.inference import prepare

    if len([kind for kind in (data, prompts) if kind]) != 1:
        raise UsageError("name files, or - for lines of standard input, or --prompt TEXT")
    if system and data and data != (LINES,):
        raise UsageError("--system: conversations in files have system messages of their own")
    require_other(target, data)
    if target.exists() and not overwrite:
        raise UsageError(f"{target}: is there already; pass --overwrite to replace it")
    sampling = Sampling(temperature=temperature, top_p=top_p, top_k=top_k, seed=seed)
    rejected: list[Rejection] = []
    questions = _questions(data, prompts, system, rejected)
    made = prepare(asked(**options))
    remarks = terminal(to_stderr=True)
    for remark in made.remarks if not quiet else ():
        remarks.print(printable(remark), style="dim", soft_wrap=True)
    answering, tally = Answering(made=made, sampling=sampling, rows=batch), Tally()
    begun = time.perf_counter()
    with file_errors(target), replacing(target) as file:
        for answered in answering(questions):
            tally.add(answered)
            file.write(answered.line())
    counts = tally.as_json(time.perf_counter() - begun)
    left = [rejection.as_json() for rejection in rejected]
    Output(json=json, quiet=quiet).finish(
        Outcome(
            result={
                "settings": made.settings,
                "output": str(target),
                "batch": batch,
                **counts,
                "rejected": left,
            },
            summary=lambda console: _summary(console, target, counts, rejected),
            failed=bool(rejected) or tally.unanswered > 0,
        )
    )


def _questions(
    data: Sequence[str], prompts: Sequence[str], system: str | None, rejected: list[Rejection]
) -> Iterator[Conversation]:
    """What is to be answered; rows that are no conversations are noted in `rejected`."""
    from glmprep.records import Origin

    from glmtrain.answering import prompt

    if prompts or data == (LINES,):
        texts: Iterable[str] = prompts or _lines()
        place = "prompt" if prompts else "stdin"
        return (
            prompt(text, Origin(place, number), system)
            for number, text in enumerate(texts, 1)
            if text.strip()
        )
    from glmprep.source import Source
    from glmprep.stream import Stream

    return _sound(Stream(Source(paths=data)).items(), rejected)


def _sound(
    items: Iterable[Conversation | Rejection], rejected: list[Rejection]
) -> Iterator[Conversation]:
    from glmprep.records import Rejection

    for item in items:
        if isinstance(item, Rejection):
            rejected.append(item)
        else:
            yield item


def _lines() -> Iterator[str]:
    """Lines of standard input; raises InputError for one that is not UTF-8."""
    for number, line in enumerate(sys.stdin.buffer, 1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"standard input:{number}: not UTF-8 ({error.reason})") from error
        yield text.rstrip("\r\n")


def _summary(
    console: Console, target: Path, counts: dict[str, Any], rejected: Sequence[Rejection]
) -> None:
    ended = ", ".join(f"{count} {kind}" for kind, count in counts["ended"].items())
    console.print(
        f"{counts['conversations']} conversations in {printable(str(target))}"
        f"{f' ({ended})' if ended else ''}; {counts['answer_tokens']} tokens, "
        f"{counts['tokens_per_second']} a second",
        soft_wrap=True,
    )
    if rejected:
        first = rejected[0]
        console.print(
            f"{len(rejected)} rows are no conversations; the first is "
            f"{printable(f'{first.origin}: {first.reason}')}",
            soft_wrap=True,
        )
