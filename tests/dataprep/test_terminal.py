"""What stands in data never reaches the terminal as a command to it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import orjson
import pytest
from glmprep import bucket
from glmprep import tokenizer as tokenizers
from glmprep.cli import glmprep
from glmprep.console import printable, run
from glmprep.families import Family
from glmprep.show import show
from glmprep.source import Source
from glmprep.store import Folder
from glmprep.tokenizer import Tokenizer
from glmprep.tokenizing import Ready
from glmprep.transcript import kinds_of, spans_of
from glmprep.views.tokens import as_text
from hypothesis import given, settings
from hypothesis import strategies as st

HOSTILE = "\x1b]0;owned\x07 \x1b[2J\x9b31m \u202eevil\u202c \r hidden \x08\x08 [red]markup[/red]"
RAW = "\x1b\x07\x08\x9b\u202e\u202c"


def row(answer: str, **more: object) -> bytes:
    turns = [{"role": "user", "content": HOSTILE}, {"role": "assistant", "content": answer}]
    return orjson.dumps({"messages": turns, **more}) + b"\n"


@pytest.mark.parametrize("forced", ["", "1"])
def test_no_command_prints_control_characters_of_the_data(
    forced: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tokenizer: Tokenizer,
) -> None:
    monkeypatch.setattr(tokenizers, "load", lambda spec="glm4": tokenizer)
    monkeypatch.chdir(tmp_path)
    if forced:
        monkeypatch.setenv("FORCE_COLOR", forced)
    name = "a\x1b[2J.jsonl"
    lines = [row(HOSTILE, id=HOSTILE), row(HOSTILE), row(" "), row("x" * 400), row(HOSTILE * 9)]
    lines.append(orjson.dumps({"messages": [{"role": HOSTILE, "content": "hi"}]}))
    Path(name).write_bytes(b"".join(lines))
    everything = ""
    for arguments in (
        ("audit", name, "--max-length", "100"),
        ("segment", name, "-o", "out.jsonl", "--max-length", "100"),
        ("bucket", name, "-o", "out", "--max-length", "300"),
        ("verify", "out"),
        ("show", "out", "--row", "0", "--row", "1"),
        ("show", name, "--max-length", "100"),
        ("show", name, "--row", "0", "--row", "5"),
        ("show", name, "--rule", "DF103\x1b[2J"),
        ("audit", "nowhere\x1b[2J"),
        ("show", "out", "--row", "99"),
        ("bucket", "out.jsonl", "-o", "out"),
    ):
        monkeypatch.setattr(sys, "argv", ["glmprep", *arguments])
        with pytest.raises(SystemExit):
            run(glmprep)
        out, err = capfd.readouterr()
        assert out or err
        everything += out + err
    if forced:  # what rich writes itself: colours only
        everything = re.sub(r"\x1b\[[0-9;]*m", "", everything)
    assert not set(everything) & set(RAW), everything
    assert "\r" not in everything
    assert "owned" in everything
    assert "[red]markup[/red]" in everything


def test_a_row_is_shown_with_what_is_trained_marked(tokenizer: Tokenizer) -> None:
    ids = [*tokenizer.encode("\nhi"), 151337, *tokenizer.encode("\n你好\x1b[2J"), 151336]
    mask = [0, 0, 0] + [1] * (len(ids) - 3)
    spans = spans_of(ids, kinds_of(ids, mask, tokenizer), tokenizer)
    assert [(span.kind, span.text) for span in spans] == [
        ("context", "\nhi"),
        ("special", "<|assistant|>"),
        ("trained", "\n你好\x1b[2J"),
        ("stop", "<|user|>"),
    ]


def test_marks_and_colours_show_the_same_text(
    family: Family, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    (tmp_path / "a.jsonl").write_bytes(row("好的。"))
    bucket.bucket(
        Source(paths=[str(tmp_path / "a.jsonl")]),
        Folder(tmp_path / "out"),
        tokenizing=Ready(tokenizer, family),
        config=bucket.Config(max_length=200),
    )
    (shown,) = show(tmp_path / "out", [0])
    marked, coloured = (as_text(shown.spans, colour=colour).plain for colour in (False, True))
    assert marked.endswith("⟦\n好的。⟧⟪<|user|>⟫")
    assert coloured.endswith("<|assistant|>\n好的。<|user|>")
    assert shown.supervised == len(tokenizer.encode("\n好的。")) + 1


@settings(deadline=None)
@given(st.text(), st.none() | st.integers(1, 20))
def test_printable_text_is_printable_and_no_longer_than_asked(text: str, limit: int | None) -> None:
    shown = printable(text, limit)
    assert all(c.isprintable() or c == "\u3000" or c.isspace() for c in shown)
    assert not set(shown) & {chr(code) for code in [*range(32), 127, *range(128, 160)]}
    plain = text.isascii() and text.isprintable()
    if plain:
        assert shown == (text if limit is None or len(text) <= limit else text[: limit - 1] + "…")
