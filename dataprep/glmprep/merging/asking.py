"""The settings of a merge as options come to them."""

from __future__ import annotations

from pathlib import Path

from glmprep.errors import UsageError
from glmprep.merging.groups import Alike
from glmprep.merging.phrases import Phrases, shipped
from glmprep.merging.settings import Merging
from glmprep.merging.trims import TRIMS


def asked_for(
    *,
    trim: str | None,
    trim_answers: bool,
    phrases: Path | None,
    merge_turns: bool,
    threshold: float | None,
    groups: str | None,
    encoder: str,
) -> Merging:
    """What the options ask for; raises UsageError where that is nothing, or contradicts itself."""
    if not (trim or merge_turns or groups):
        raise UsageError(
            "nothing was asked for: pass --trim (all, or names from --list), --merge-turns, "
            "or --groups (best or cap=N)"
        )
    if not merge_turns and threshold is not None:
        raise UsageError("--threshold says which turns to join; pass --merge-turns with it")
    if not trim and (trim_answers or phrases):
        raise UsageError("--trim-answers and --phrases say how to trim; pass --trim with them")
    return Merging(
        trim=names(trim) if trim else (),
        answers=trim_answers,
        phrases=known_phrases(phrases).as_text() if phrases else "",
        turns=merge_turns,
        threshold=threshold,
        encoder=encoder,
        groups=alike(groups) if groups else None,
    )


def names(trim: str) -> tuple[str, ...]:
    """The rules that `--trim` names, sorted; raises UsageError for one that there is not."""
    names = {name.strip() for name in trim.split(",")}
    if names == {"all"}:
        return tuple(sorted(TRIMS))
    if unknown := sorted(names - set(TRIMS)):
        raise UsageError(f"--trim {unknown[0]}: no such rule; there are all, {', '.join(TRIMS)}")
    return tuple(sorted(names))


def known_phrases(more: Path | None) -> Phrases:
    """The phrases that ship, and those of a file; errors as in `Phrases.with_file`."""
    return shipped() if more is None else shipped().with_file(more)


def alike(asked: str) -> Alike:
    """How many of conversations that say the same stay; raises UsageError."""
    name, _, number = asked.partition("=")
    if asked == "best":
        return Alike()
    if name == "cap" and number.isascii() and number.isdigit() and int(number) > 0:
        return Alike(most=int(number))
    raise UsageError(f"--groups {asked}: write best, or cap=N with N from 1")
