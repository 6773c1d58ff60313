"""The wording of notes: known by a fingerprint, and read from a file with clear refusals."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path

import pytest
from glmprep.contexts.notes import CHINESE, ENGLISH, Notes, Wording, read_notes
from glmprep.errors import InputError


def test_the_fingerprint_tells_of_every_text_and_of_nothing_else(tmp_path: Path) -> None:
    empty = tmp_path / "notes.toml"
    empty.write_text("[en]\n")
    same = {Notes().fingerprint, read_notes(empty).fingerprint}
    assert len(same) == 1
    assert Notes().as_json()["zh"]["user"] == "用户"
    changed = [
        Notes(**{language: replace(wording, **{field.name: "{text} other"})})
        for language, wording in (("zh", CHINESE), ("en", ENGLISH))
        for field in fields(Wording)
    ]
    assert len({notes.fingerprint for notes in changed} | same) == len(changed) + 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[en]\nuser = ", "not readable as TOML"),
        ("\xff", "not readable as TOML"),
        ("#" * 70_000, "larger than 65536 bytes"),
        ("[fr]\n", "no such table: 'fr'; there are zh, en"),
        ("en = 3", r"\[en\] is no table"),
        ("[en]\nheading = 'x'", r"\[en\]: no such text: 'heading'; there are memory, outline"),
        ("[en]\nuser = 3", r"\[en\] user: write some text in quotes"),
        ("[zh]\nuser = ' '", r"\[zh\] user: write some text in quotes"),
        (f"[en]\nuser = '{'x' * 41}'", r"\[en\] user: 41 characters; 40 is the most"),
        (f"[en]\nmemory = '{'x' * 2001}'", r"memory: 2001 characters; 2000 is the most"),
        ('[en]\ntool = "a\\u2028b"', r"\[en\] tool: has a line break"),
        ("[en]\nline = '{who}'", r"line: must hold \{text\} once"),
        ("[en]\nline = '{text}{text}'", r"line: must hold \{text\} once"),
    ],
)
def test_a_wording_that_makes_no_note_is_refused_with_its_place(
    text: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "notes.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=f"notes.toml.*{message}") as raised:
        read_notes(path)
    assert not re.search(r"[\n\r]", str(raised.value))


def test_a_wording_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent.toml: not readable as TOML \(No such file"):
        read_notes(tmp_path / "absent.toml")
