"""Command lines for the next step, which repeat what the command at hand was told."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

READING = ("--tokenizer", "--family", "--role")
"""Options by which data is read; without `--role` they also fit canonical data."""
SEGMENTS = "segments.jsonl"
SHARDS = "shards"


def line(*words: str | int | Path) -> str:
    """Words as one command line, quoted where the shell needs it."""
    return shlex.join(map(str, words))


def repeated(command: str, options: Sequence[str] = READING) -> list[str]:
    """Those of the options that a command was given, with their values."""
    words = shlex.split(command)
    found = []
    for place, word in enumerate(words):
        name, equals, _ = word.partition("=")
        if name in options:
            found += [word] if equals else words[place : place + 2]
    return found


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
    options = repeated(command, ("--tokenizer", "--family"))
    return bucket([str(segments)], options, max_length)
