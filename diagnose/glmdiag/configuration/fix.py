"""What would mend a configuration: changes by rule, and a corrected copy of its files.

Values are changed in place, so that comments and order stay; what was written is read again.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glmprep.errors import SuiteError
from glmprep.findings import Finding

from glmdiag.configs import FORMATS, RECIPE, Document
from glmdiag.configs.document import parse
from glmdiag.configs.record import TrainerConfig
from glmdiag.configuration.edit import render, with_value
from glmdiag.configuration.mends import mends


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A value to set: `key` is the dotted name in the trainer's own words, or DeepSpeed's."""

    rule: str
    key: str
    value: Any
    in_deepspeed: bool = False
    option: str | None = None
    """For glmtrain, what stands after --set."""

    def as_json(self) -> dict[str, Any]:
        """The change as plain JSON values."""
        return {
            "rule": self.rule,
            "key": self.key,
            "value": self.value,
            "in_deepspeed": self.in_deepspeed,
            "set": self.option,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Fixed:
    """A file as it was and as it is with the changes that could be made in it."""

    document: Document
    text: str
    made: Sequence[Change]
    left: Sequence[Change]

    @property
    def diff(self) -> str:
        """What changed, as a unified diff; empty for nothing."""
        name = self.document.path.name
        lines = difflib.unified_diff(
            self.document.text.splitlines(),
            self.text.splitlines(),
            fromfile=name,
            tofile=f"{name} (corrected)",
            lineterm="",
        )
        return "\n".join(lines)


def changes(config: TrainerConfig, findings: Sequence[Finding]) -> list[Change]:
    """The automatic changes that the findings ask for, worst first, one for each key."""
    found: dict[tuple[bool, str], Change] = {}
    for finding in sorted(findings, key=lambda each: each.severity.rank):
        for name, value in mends(config, finding):
            change = _change(config, finding.rule, name, value)
            if change is not None:
                found.setdefault((change.in_deepspeed, change.key), change)
    return list(found.values())


def fixed(documents: Sequence[Document], wanted: Sequence[Change]) -> list[Fixed]:
    """Each document with the changes that concern it."""
    made = []
    for place, document in enumerate(documents):
        beside = place > 0 or "zero_optimization" in document.tree
        own = [change for change in wanted if change.in_deepspeed == beside]
        made.append(_fixed(document, own))
    return made


def _fixed(document: Document, wanted: Sequence[Change]) -> Fixed:
    now, made, left = document, [], []
    for change in wanted:
        key = _rooted(document, change.key)
        try:
            text = with_value(now, key, change.value)
            after = parse(now.path, text)
        except SuiteError:
            left.append(change)
            continue
        if _at(after.tree, key) == change.value:
            now = after
            made.append(change)
        else:
            left.append(change)
    return Fixed(document=document, text=now.text, made=made, left=left)


def _change(config: TrainerConfig, rule: str, name: str, value: Any) -> Change | None:
    """The change of our setting `name`; names with `ds:` in front are DeepSpeed's own keys.

    None where the trainer has no key for it.
    """
    if name.startswith("ds:"):
        file = config.deepspeed is not None and config.deepspeed.file is not None
        return Change(rule=rule, key=name[3:], value=value, in_deepspeed=True) if file else None
    if name.startswith("key:"):
        key = name[4:]
    elif name in FORMATS[config.trainer].keys:
        said = config.said.get(name)
        keys = FORMATS[config.trainer].keys[name]
        key = said.key if said is not None and said.key in keys else keys[0]
    else:
        return None
    if value == _said_at(config, key):
        return None
    option = f"{key}={render('toml', value)}" if config.trainer == "glmtrain" else None
    return Change(rule=rule, key=key, value=value, option=option)


def _said_at(config: TrainerConfig, key: str) -> Any:
    return next((said.value for said in config.said.values() if said.key == key), _NOTHING)


_NOTHING = object()


def _rooted(document: Document, key: str) -> str:
    """A key of glmtrain's settings within a recipe."""
    table = document.tree.get(RECIPE)
    return f"{RECIPE}.{key}" if document.syntax == "toml" and isinstance(table, dict) else key


def _at(tree: Any, key: str) -> Any:
    for part in key.split("."):
        tree = tree.get(part) if isinstance(tree, Mapping) else None
    return tree


def write(fixes: Sequence[Fixed], out: Path) -> list[Path]:
    """Write the files: one as `out`, several into the folder `out` under their own names."""
    single = len(fixes) == 1
    places = [out if single else out / each.document.path.name for each in fixes]
    for place, each in zip(places, fixes, strict=True):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(each.text, encoding="utf-8")
    return places
