"""Command lines for the next step, which repeat what the command at hand was told."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from glmreport.page import Step
from glmreport.text import Text

from glmprep.findings import RULES, Severity
from glmprep.records import Rejection

TOKENIZING = ("--tokenizer", "--family", "--template", "--thinking")
"""Options by which conversations become tokens."""
READING = (*TOKENIZING, "--role", "--train-on", "--take", "--repair")
"""Options by which data is read; those on tokenizing also fit canonical data."""
FLAGS = ("--repair",)
"""Those among them that take no value."""
SHAPING = (
    *("--layout", "--max-length", "--tokens-per-batch", "--buckets", "--order", "--mixing"),
    "--seed",
)
"""Options of `glmprep bucket` that decide what the shards look like."""
SEGMENTS = "segments.jsonl"
SHARDS = "shards"
RUN = "run"


def line(*words: object) -> str:
    """Words as one command line, quoted where the shell needs it."""
    return shlex.join(map(str, words))


def repeated(command: str, options: Sequence[str] = READING) -> list[str]:
    """Those of the options that a command was given, with their values."""
    words = shlex.split(command)
    found = []
    for place, word in enumerate(words):
        name, equals, _ = word.partition("=")
        if name in options:
            found += [word] if equals or name in FLAGS else words[place : place + 2]
    return found


def mend(rejections: Sequence[Rejection]) -> list[Step]:
    """To mend the rows that break a rule; what was only too long is not among them."""
    broken = sum(RULES[rejection.rule].severity is Severity.ERROR for rejection in rejections)
    return [Step(text=Text("prep.next.mend", rows=broken))] if broken else []


def segment(data: Sequence[str], command: str, max_length: int) -> str:
    """`glmprep segment` on the data of a command."""
    wanted = ["--max-length", max_length, "-o", SEGMENTS]
    return line("glmprep", "segment", *data, *repeated(command), *wanted)


def bucket(data: Sequence[str], options: Sequence[str], longest: int) -> str:
    """`glmprep bucket` on data whose longest conversation has so many tokens."""
    from glmprep.bucket import Config

    limit = ["--max-length", longest] if longest > Config().max_length else []
    return line("glmprep", "bucket", *data, *options, *limit, "-o", SHARDS)


def bucket_segments(segments: str | Path, command: str, max_length: int) -> str:
    """`glmprep bucket` on what `glmprep segment` wrote, whose roles have their usual names."""
    options = repeated(command, TOKENIZING)
    return bucket([str(segments)], options, max_length)


def bucket_again(command: str, shards: Path) -> str:
    """The `glmprep bucket` of a command once more, on segments, in place of its shards."""
    options = repeated(command, (*TOKENIZING, *SHAPING))
    return line("glmprep", "bucket", SEGMENTS, *options, "-o", shards, "--overwrite")


def after_shards(shards: Path) -> list[Step]:
    """What to do with shards: look at a row, have the labels examined, train."""
    steps = {
        "show": line("glmprep", "show", shards, "--row", 0),
        "labels": line("glmdiag", "labels", shards),
        "train": line(
            *("glmtrain", "run", "--shards", shards, "--model", "tiny", "--method", "lora"),
            *("--output", RUN),
        ),
    }
    return [Step(text=Text(f"prep.next.{name}"), command=step) for name, step in steps.items()]
