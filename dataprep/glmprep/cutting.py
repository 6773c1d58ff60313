"""How conversations were cut: what `glmprep segment` was asked for, kept beside its output."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import orjson

from glmprep.contexts import notes
from glmprep.errors import InputError, UsageError
from glmprep.options import CONTEXT_SHARE, MAX_LENGTH, OVERLAP
from glmprep.sized import Limits

SegmenterName = Literal["greedy", "balanced", "semantic"]
ContextName = Literal["none", "overlap", "memory", "outline"]
OnOverflow = Literal["split", "middle", "quarantine"]
CONTEXTS: Mapping[str, Sequence[str]] = {
    "overlap": ("overlap",),
    "notes": ("memory", "outline"),
    "encoder": ("memory", "outline"),
    "context_tokens": ("overlap", "memory", "outline"),
}
"""Options that say something only for some contexts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cutting:
    """The limit, where segments begin, and what each is told of what came before it.

    `notes` is the wording of notes, empty where none are written.
    """

    max_length: int
    segmenter: SegmenterName = "greedy"
    context: ContextName = "none"
    overlap: int = 0
    context_tokens: int = 0
    encoder: str = "none"
    on_overflow: OnOverflow = "split"
    notes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def limits(self) -> Limits:
        """How long a segment may be, and how much of what came before it is replayed."""
        return Limits(
            max_length=self.max_length, overlap=self.overlap, context_tokens=self.context_tokens
        )

    @property
    def recalls(self) -> bool:
        """Whether segments begin with a note."""
        return self.context in CONTEXTS["notes"]

    def as_json(self) -> dict[str, Any]:
        """All of it as plain JSON values."""
        return asdict(self)


def plain(context: ContextName = "overlap", max_length: int = MAX_LENGTH) -> Cutting:
    """What is done where nothing more is asked for."""
    return Cutting(
        max_length=max_length,
        context=context,
        overlap=OVERLAP if context == "overlap" else 0,
        context_tokens=0 if context == "none" else max_length // CONTEXT_SHARE,
        notes=notes.Notes().as_json() if context in CONTEXTS["notes"] else {},
    )


def asked_for(
    given: Mapping[str, Any],
    *,
    max_length: int,
    segmenter: SegmenterName,
    context: ContextName,
    on_overflow: OnOverflow,
) -> Cutting:
    """The settings that options come to.

    `given` are those that were asked for among `overlap`, `context_tokens`, `encoder` and `notes`
    (a file). Raises UsageError for one that changes nothing, InputError for notes that are none.
    """
    needless = [name for name in given if name != "encoder" or segmenter != "semantic"]
    require_use(needless, context, {"encoder": "--segmenter semantic, or "})
    more = dict(given)
    if "notes" in more:
        more["notes"] = notes.read_notes(more["notes"]).as_json()
    return replace(plain(context, max_length), segmenter=segmenter, on_overflow=on_overflow, **more)


def require_use(
    options: Iterable[str], context: ContextName, elsewhere: Mapping[str, str] | None = None
) -> None:
    """Raise UsageError for an option that changes nothing with a context.

    `elsewhere` tells of options what else they are of use for.
    """
    for name in options:
        contexts = CONTEXTS.get(name, (context,))
        if context not in contexts:
            needed = f"{(elsewhere or {}).get(name, '')}--context {' or '.join(contexts)}"
            raise UsageError(f"--{name.replace('_', '-')} changes nothing without {needed}")


def cutting_path(output: Path) -> Path:
    """Where the settings of an output file are."""
    return output.with_name(f"{output.name}.cutting.json")


def lines(cutting: Cutting) -> bytes:
    """The settings as they are written beside an output file."""
    return orjson.dumps(cutting.as_json(), option=orjson.OPT_INDENT_2) + b"\n"


def common(files: Sequence[str]) -> Cutting | None:
    """How files were cut, where each of them was, and all in the same way."""
    paths = [cutting_path(Path(file)) for file in files]
    if not paths or not all(path.is_file() for path in paths):
        return None
    first, *others = map(read_cutting, paths)
    return first if all(other == first for other in others) else None


def read_cutting(path: Path) -> Cutting:
    """The settings that `lines` wrote; raises InputError for another file."""
    try:
        return from_json(orjson.loads(path.read_bytes()))
    except ValueError as error:
        raise InputError(f"{path}: not the settings of glmprep segment") from error


def from_json(value: Any) -> Cutting:
    """The settings that `as_json` gave; raises ValueError for anything else."""
    known = Cutting.__dataclass_fields__
    if not isinstance(value, Mapping) or not {"max_length"} <= value.keys() <= known.keys():
        raise ValueError("not the settings of a segmentation")
    cutting = Cutting(**value)
    notes.from_json(cutting.notes)
    choices = {
        "segmenter": SegmenterName,
        "context": ContextName,
        "on_overflow": OnOverflow,
    }
    numbers = (cutting.max_length, cutting.overlap, cutting.context_tokens)
    sound = all(getattr(cutting, name) in get_args(kind) for name, kind in choices.items())
    if not sound or any(type(number) is not int or number < 0 for number in numbers):
        raise ValueError("not the settings of a segmentation")
    return cutting
