"""LLaMA-Factory's dataset_info.json: which file a data set is in, and what its columns are called.

    {"NAME": {"file_name": "a.json", "formatting": "alpaca" or "sharegpt" or "openai",
              "columns": {"prompt": "question", "response": "answer", …},
              "tags": {"role_tag": "role", "user_tag": "client", …}}}

A described row is renamed to the names that the forms in this package have; the rest is theirs.
As there, `columns` names all columns that count: without `response`, `prompt` is running text.
A column that it does not name keeps its name with UNNAMED behind it, so that it shows as not read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from glmprep.errors import InputError

FILE = "dataset_info.json"
UNNAMED = " (not in columns)"
ELSEWHERE = ("hf_hub_url", "ms_hub_url", "om_hub_url", "script_url", "cloud_file_name")
SHARED = ("system", "tools", "images", "videos", "audios", "chosen", "rejected", "kto_tag")
ALPACA = {"prompt": "instruction", "query": "input", "response": "output"}
TURNS = {"messages": "conversations"}
SPOKEN = ("messages", "chosen", "rejected")
TAGS = {
    "user_tag": "human",
    "assistant_tag": "gpt",
    "observation_tag": "observation",
    "function_tag": "function_call",
    "system_tag": "system",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """How the rows of one data set are to be renamed.

    `columns` are the names that count by the file's names for them; `role` and `text` are the keys
    of a turn, `roles` the names of roles by the file's.
    """

    columns: Mapping[str, str]
    role: str
    text: str
    roles: Mapping[str, str]
    pretraining: bool

    def standard(self, row: Any) -> Any:
        """The row with standard names; what is no object is left as it is."""
        if not isinstance(row, dict):
            return row
        named = {}
        for name, value in row.items():
            standard = self.columns.get(name, name if name == "id" else name + UNNAMED)
            named[standard] = self._turns(value) if standard in SPOKEN else value
        return {"text": named.get("instruction")} if self.pretraining else named

    def _turns(self, value: Any) -> Any:
        """Turns, or one of them, with the usual keys and roles; text as it is."""
        if isinstance(value, list):
            return [self._turn(turn) for turn in value]
        return self._turn(value)

    def _turn(self, turn: Any) -> Any:
        if not isinstance(turn, dict) or self.role not in turn:
            return turn
        keys = {self.role: "from", self.text: "value"}
        made = {keys.get(key, key): value for key, value in turn.items()}
        role = made["from"]
        return made | {"from": self.roles.get(role, role)} if isinstance(role, str) else made


def names(path: str) -> Mapping[str, Any]:
    """The entries of the file, by name; raises InputError where it is not of this kind."""
    try:
        entries = orjson.loads(Path(path).read_bytes())
    except orjson.JSONDecodeError as error:
        raise InputError(f"{path}:{error.lineno}: not JSON: {error.msg}") from error
    if not isinstance(entries, dict) or not all(isinstance(e, dict) for e in entries.values()):
        raise InputError(f"{path}: not a dataset_info.json: it must hold an object for each name")
    return entries


def local_files(path: str) -> dict[str, list[str]]:
    """The names of the sets whose files lie beside `path`, by file."""
    found: dict[str, list[str]] = {}
    for name, entry in names(path).items():
        file = entry.get("file_name")
        if not isinstance(file, str) or any(entry.get(place) for place in ELSEWHERE):
            continue
        if (beside := Path(path).parent / file).exists():
            found.setdefault(str(beside), []).append(name)
    return found


def find(path: str, name: str) -> tuple[str, Description]:
    """The file of a set and its description; raises InputError where it is not to be had."""
    where = f"{path}:{name}"
    entries = names(path)
    if name not in entries:
        known = sorted(name for group in local_files(path).values() for name in group)
        raise InputError(f"{where}: no such data set; there are {', '.join(known) or 'none'}")
    entry = entries[name]
    for place in ELSEWHERE:
        if entry.get(place):
            raise InputError(
                f"{where}: is kept elsewhere ({place}: {entry[place]}); download it and name its "
                "file"
            )
    if not isinstance(entry.get("file_name"), str):
        raise InputError(f"{where}: names no file")
    return str(Path(path).parent / entry["file_name"]), describe(entry, where)


def describe(entry: Mapping[str, Any], where: str = "") -> Description:
    """What an entry says of its rows; raises InputError for a form that is not known."""
    form = entry.get("formatting", "alpaca")
    if form not in ("alpaca", "sharegpt", "openai"):
        raise InputError(f"{where}: unknown formatting {str(form)[:40]!r}")
    columns, tags = entry.get("columns"), entry.get("tags") or {}
    if not isinstance(columns or {}, dict) or not isinstance(tags, dict):
        raise InputError(f"{where}: columns and tags must be objects")
    usual = ALPACA if form == "alpaca" else TURNS
    standard = {**ALPACA, "history": "history"} if form == "alpaca" else {"messages": "messages"}
    standard |= {name: name for name in SHARED}
    if columns:
        named = {"messages": "conversations"} | columns if form != "alpaca" else columns
    else:
        named = usual
    answered = any(named.get(name) for name in ("response", "chosen", "rejected", "kto_tag"))
    return Description(
        columns={
            column: standard[name]
            for name, column in named.items()
            if name in standard and isinstance(column, str)
        },
        role=str(tags.get("role_tag", "from")),
        text=str(tags.get("content_tag", "value")),
        roles={tag: role for name, role in TAGS.items() if isinstance(tag := tags.get(name), str)},
        pretraining=form == "alpaca" and not answered,
    )
