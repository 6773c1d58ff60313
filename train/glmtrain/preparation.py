"""How conversations became ids in training, and how they do in use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from glmprep import cutting
from glmprep.cutting import Cutting
from glmprep.families import Thinking
from glmprep.options import CONTEXT_SHARE

UNUSED = ("segmenter", "on_overflow")
"""What says nothing in use: a chat begins segments where the window is full."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """Template, thinking mode, and what of a conversation is in the window.

    `family` may also be the name of a template of one's own. Where the training data was not
    `segmented`, only the limit of `cutting` says something of it.
    """

    family: str = "auto"
    thinking: Thinking = "on"
    cutting: Cutting
    segmented: bool = False

    def differences(self, then: Preparation) -> Iterator[str]:
        """In a line each, what differs from how the training data was prepared."""
        now, before = self._options(), then._options()
        names = list(now) if then.segmented else ["family", "thinking", "max_length"]
        if now["context"] != before["context"]:
            names = [name for name in names if name not in cutting.CONTEXTS]
        for name in (name for name in names if now[name] != before[name]):
            option = f"--{name.replace('_', '-')}"
            if name == "notes":
                yield f"{option}: not the wording of the training data"
            else:
                yield f"{option} {now[name]}, but the training data was made with {before[name]}"

    def _options(self) -> dict[str, Any]:
        used = {name: x for name, x in asdict(self.cutting).items() if name not in UNUSED}
        return {"family": self.family, "thinking": self.thinking, **used}


def of_run(record: Mapping[str, Any]) -> Preparation:
    """How the data of a run was prepared, by its record; raises as indexing does for another."""
    config = record["prepared"]
    known = config.get("cutting")
    return Preparation(
        family=record["family"],
        thinking=(config.get("family") or {}).get("thinking", "on"),
        cutting=cutting.from_json(known)
        if known
        else cutting.plain(max_length=int(record["max_length"])),
        segmented=known is not None,
    )


def wanted(then: Preparation, asked: Mapping[str, Any]) -> Preparation:
    """`then` with what was asked for, by the names of options.

    Raises UsageError for an option that would change nothing.
    """
    asked = dict(asked)
    mode = {name: asked.pop(name) for name in ("family", "thinking") if name in asked}
    cut = then.cutting
    context, longest = asked.get("context", cut.context), asked.get("max_length", cut.max_length)
    cutting.require_use(asked, context)
    if context != cut.context or not then.segmented:
        cut = cutting.plain(context, longest)
    elif longest < cut.max_length:
        cut = replace(cut, context_tokens=min(cut.context_tokens, longest // CONTEXT_SHARE))
    return replace(then, **mode, cutting=replace(cut, **asked))
