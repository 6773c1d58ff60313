"""The wording of notes on earlier turns: what stands above them, and how a line looks.

Training and inference must use the same text, so it is data: built in for Chinese and English,
or read from a TOML file, and known by a fingerprint.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import orjson

from glmprep.errors import InputError

Language = Literal["zh", "en"]
Kind = Literal["memory", "outline"]
Who = Literal["user", "assistant", "tool", "call"]
"""Of whom a line is; `call` is the assistant's call of a tool."""
LARGEST = 64 * 1024
"""Bytes of a file with a wording."""
LONGEST = {"memory": 2000, "outline": 2000, "line": 200}
NAME = 40
"""Characters of the longest heading, line and name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """The text of notes in one language.

    `memory` and `outline` stand above the two kinds of notes; `line` is one item, in which `{who}`
    stands for the speaker and `{text}` for what was said; the rest are names of speakers.
    """

    memory: str
    outline: str
    line: str = "- {who}: {text}"
    user: str
    assistant: str
    tool: str
    call: str

    def heading(self, kind: Kind) -> str:
        """What stands above a note."""
        return self.memory if kind == "memory" else self.outline

    def item(self, who: Who, text: str) -> str:
        """One line of a note."""
        before, _, after = self.line.partition("{text}")
        name: str = getattr(self, who)
        return before.replace("{who}", name) + text + after.replace("{who}", name)


ENGLISH = Wording(
    memory="Earlier in this conversation:",
    outline="Outline of the conversation so far:",
    user="user",
    assistant="assistant",
    tool="tool",
    call="call",
)
CHINESE = Wording(
    memory="此前的对话中提到：",
    outline="此前对话的梗概：",
    line="- {who}：{text}",
    user="用户",
    assistant="助手",
    tool="工具",
    call="调用",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Notes:
    """The wording of notes in each language."""

    zh: Wording = field(default=CHINESE)
    en: Wording = field(default=ENGLISH)

    def wording(self, language: Language) -> Wording:
        """The text of notes in a language."""
        return self.zh if language == "zh" else self.en

    def as_json(self) -> dict[str, dict[str, str]]:
        """All of the text, by language: what a manifest keeps."""
        return asdict(self)

    @property
    def fingerprint(self) -> str:
        """The sha256 of all of the text, in hex."""
        return hashlib.sha256(orjson.dumps(self.as_json(), option=orjson.OPT_SORT_KEYS)).hexdigest()


def from_json(value: Any) -> Notes:
    """The wording that `as_json` gave; raises ValueError for anything else."""
    try:
        notes = Notes(**{language: Wording(**texts) for language, texts in value.items()})
    except (AttributeError, TypeError) as error:
        raise ValueError("not the wording of notes") from error
    texts = [text for wording in notes.as_json().values() for text in wording.values()]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("not the wording of notes")
    return notes


def read_notes(path: Path) -> Notes:
    """The wording in a TOML file: tables `zh` and `en` with the fields of `Wording`.

    What the file leaves out is as built in. Raises InputError, which names the place, for a file
    that is too large or no TOML, for unknown names, and for texts that make no note.
    """
    tables = _tables(path)
    built_in = {"zh": CHINESE, "en": ENGLISH}
    _require_known(path, "table", tables, list(built_in))
    return Notes(
        **{
            language: _wording(f"{path}: [{language}]", tables.get(language, {}), default)
            for language, default in built_in.items()
        }
    )


def _tables(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
        if len(data) > LARGEST:
            raise InputError(f"{path}: larger than {LARGEST} bytes; is it the wording of notes?")
        return tomllib.loads(data.decode())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: not readable as TOML ({reason})") from error


def _wording(where: str, table: Any, default: Wording) -> Wording:
    if not isinstance(table, dict):
        raise InputError(f"{where} is no table; write [zh] or [en] and the texts below it")
    _require_known(where, "text", table, [field.name for field in fields(Wording)])
    for name, text in table.items():
        _require_fit(f"{where} {name}", name, text)
    return replace(default, **table)


def _require_known(where: object, what: str, found: Mapping[str, Any], known: list[str]) -> None:
    unknown = [repr(name)[:NAME] for name in found if name not in known]
    if unknown:
        listed = ", ".join(unknown[:5])
        raise InputError(f"{where}: no such {what}: {listed}; there are {', '.join(known)}")


def _require_fit(where: str, name: str, text: Any) -> None:
    """Raise InputError for a text that cannot stand in a note."""
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"{where}: write some text in quotes")
    most = LONGEST.get(name, NAME)
    if len(text) > most:
        raise InputError(f"{where}: {len(text)} characters; {most} is the most")
    if name not in ("memory", "outline") and len(text.splitlines()) > 1:
        raise InputError(f"{where}: has a line break; it must be on one line")
    if name == "line" and (text.count("{text}") != 1 or text.count("{who}") > 1):
        raise InputError(f"{where}: must hold {{text}} once, and {{who}} at most once")
