"""The words that trimming knows, and a user's own beside them."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import orjson

from glmprep.errors import InputError

MAX_BYTES = 1 << 20
MAX_PHRASES = 10_000
LONGEST = 80
LANGUAGE = re.compile(r"[a-z]{2,3}\Z")
LATIN = re.compile(r"[A-Za-z\u00c0-\u024f]")
MARKS = "，,。.!！~～…、;；—"
BREAK = rf"\s{MARKS}"
"""What may stand between phrases; a question mark does not, since a question says something."""
Lists = Mapping[str, Mapping[str, Sequence[str]]]


@dataclass(frozen=True)
class Phrases:
    """Phrases by section (see phrases.toml) and language, and the patterns made of them.

    Phrases are plain text; letters match in either case, hyphens and blanks inside alike.
    """

    lists: Lists

    def count(self, section: str) -> Mapping[str, int]:
        """How many phrases a section has, by language."""
        return {language: len(phrases) for language, phrases in self.lists[section].items()}

    @cached_property
    def greetings(self) -> Ends:
        """Greetings and farewells at the ends of a turn."""
        return Ends.of(self._any("greetings"))

    @cached_property
    def thanks(self) -> Ends:
        """Thanks, and what is said in return."""
        return Ends.of(self._any("thanks"))

    @cached_property
    def backchannels(self) -> Ends:
        """Signs of listening."""
        return Ends.of(self._any("backchannels"))

    @cached_property
    def assents(self) -> Ends:
        """Signs of listening and of assent."""
        return Ends.of(f"{self._any('assents')}|{self._any('backchannels')}")

    @cached_property
    def hesitations(self) -> re.Pattern[str]:
        """Sounds of hesitation and a comma behind, set off from other words, or as a sentence."""
        latin, han = self._by_writing("hesitations")
        return re.compile(
            rf"(?:(?<=[.!?][ ])|\A)(?:{latin})[ \t]*\.[ \t]+"
            rf"|(?<![\w-])(?<!-[ ])(?:{latin})(?![\w'’])(?!\s*-)(?:[ \t]*[,，、])?[ \t]*"
            rf"|(?:(?<=[{BREAK}])|\A)(?:{han})+(?=[{BREAK}])(?:[ \t]*[,，、])?[ \t]*",
            re.IGNORECASE,
        )

    @cached_property
    def fillers(self) -> re.Pattern[str]:
        """Fillers with a comma behind them, at the beginning or behind punctuation."""
        comma = r"[ \t]*[,，][ \t]*"
        return re.compile(
            rf"(?:(?<=[,，。.!！?？;；])[ \t]*|\A\s*)(?:(?:{self._any('fillers')}){comma})+(?=\S)",
            re.IGNORECASE,
        )

    @cached_property
    def tags(self) -> re.Pattern[str]:
        """Noise tags in any brackets, with the blanks behind them."""
        name = self._any("tags")
        pairs = (r"\{\}", r"\[\]", "<>", r"\(\)", "（）", "【】")
        tag = "|".join(
            rf"{p[: -len(p) // 2]}\s*/?(?:{name})\s*/?{p[-(len(p) // 2) :]}" for p in pairs
        )
        return re.compile(rf"(?:{tag})[ \t]*", re.IGNORECASE)

    @cached_property
    def stutters(self) -> re.Pattern[str]:
        """A word and, as `again`, its repetitions; Chinese words of one character need a clause's
        beginning or a third time, since they may meet by chance.
        """
        latin, han = self._by_writing("stutters")
        words = sorted(han.split("|"), key=len, reverse=True)
        long = "|".join(word for word in words if len(word) > 1) or "(?!)"
        short = "|".join(word for word in words if len(word) == 1) or "(?!)"
        return re.compile(
            rf"(?<![\w'’-])(?P<a>{latin})(?P<a2>(?:[ \t]*,?[ \t]+(?P=a))+)(?![\w'’-])"
            rf"|(?:(?<=[{BREAK}])|\A)(?P<b>{han})(?P<b2>[，、]?(?P=b))(?!(?P=b))"
            rf"|(?P<c>{long})(?P<c2>(?P=c)+)"
            rf"|(?P<d>{short})(?P<d2>(?P=d){{2,}})",
            re.IGNORECASE,
        )

    def as_text(self) -> str:
        """All lists as JSON text."""
        return orjson.dumps(self.lists).decode()

    @classmethod
    def from_text(cls, text: str) -> Phrases:
        """What `as_text` wrote."""
        return cls(orjson.loads(text))

    def with_file(self, path: Path) -> Phrases:
        """These phrases and those of a TOML file in the same form; raises InputError for others."""
        added = _read(path)
        lists = {
            section: {
                language: [*known.get(language, ()), *added.get(section, {}).get(language, ())]
                for language in {**known, **added.get(section, {})}
            }
            for section, known in self.lists.items()
        }
        return Phrases(lists)

    def _any(self, section: str) -> str:
        """A pattern for all phrases of a section, whatever their writing."""
        return "|".join(part for part in self._by_writing(section) if part != "(?!)")

    def _by_writing(self, section: str) -> tuple[str, str]:
        """Patterns for a section's phrases in Latin letters, and for the others, longest first."""
        phrases = {phrase for said in self.lists[section].values() for phrase in said}
        ordered = sorted(phrases, key=lambda phrase: (-len(phrase), phrase))
        latin = [_pattern(phrase) for phrase in ordered if LATIN.search(phrase)]
        other = [_pattern(phrase) for phrase in ordered if not LATIN.search(phrase)]
        return "|".join(latin) or "(?!)", "|".join(other) or "(?!)"


@dataclass(frozen=True)
class Ends:
    """Phrases where a turn begins, and where it ends: `comma` and `said` are what goes there."""

    begin: re.Pattern[str]
    end: re.Pattern[str]

    @classmethod
    def of(cls, phrase: str) -> Ends:
        """The patterns of any of the phrases, several in a row among them.

        A phrase counts only where punctuation or the end follows, a blank only behind Chinese:
        neither 您好像 nor "thanks to him" begins with a phrase.
        """
        stop = rf"(?=[ \t]*(?:[{MARKS}\n]|\Z)|(?<=[\u4e00-\u9fff])\s)(?![.'’]\w)"
        once = rf"(?:{phrase})++{stop}[{BREAK}]*+(?![?？])"
        row = rf"(?>{once})++"
        return cls(
            begin=re.compile(rf"\s*+{row}", re.IGNORECASE),
            end=re.compile(
                rf"(?:(?P<comma>[，,、;；][ \t]*)|(?<=[。.!！?？~～…\n])[ \t]*)(?P<said>{row})\Z",
                re.IGNORECASE,
            ),
        )


def shipped() -> Phrases:
    """The phrases that ship with this package."""
    text = resources.files("glmprep.merging").joinpath("phrases.toml").read_text("utf-8")
    return Phrases(tomllib.loads(text))


def _pattern(phrase: str) -> str:
    """A phrase as a pattern; the word's borders are part of it where it has letters."""
    words = re.split(r"([\s-]+)", phrase.strip())
    parts = [_gap(word) if place % 2 else _word(word) for place, word in enumerate(words)]
    letters = rf"(?<![A-Za-z0-9_]){''.join(parts)}(?![A-Za-z0-9_])"
    return letters if LATIN.search(phrase) else "".join(parts)


def _gap(gap: str) -> str:
    return r"[ \t]*-?[ \t]*" if "-" in gap else r"[ \t]+"


def _word(word: str) -> str:
    return re.sub(r"'|’", lambda _: r"[ ]?['’][ ]?", re.escape(word))


def _read(path: Path) -> Lists:
    """The lists of a user's file, checked."""
    try:
        data = path.read_bytes()
        if len(data) > MAX_BYTES:
            raise InputError(f"{path}: larger than {MAX_BYTES >> 20} MiB; name a list of phrases")
        lists = tomllib.loads(data.decode())
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{path}: not TOML in UTF-8: {error}") from error
    for fault in _faults(lists):
        raise InputError(f"{path}: {fault}")
    return lists


def _faults(lists: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with a file's content."""
    known = shipped().lists
    total = 0
    for section, languages in lists.items():
        if section not in known:
            yield f"[{section}]: no such list; there are {', '.join(known)}"
        if not isinstance(languages, dict):
            yield f'{section}: write it as a table: [{section}] and below it zh = ["…"]'
        for language, phrases in languages.items():
            place = f"{section}.{language}"
            if not LANGUAGE.match(language):
                yield f"{place}: a language is two or three small letters, such as zh or en"
            if not isinstance(phrases, list):
                yield f"{place}: is no list of phrases"
            total += len(phrases)
            if total > MAX_PHRASES:
                yield f"{place}: more than {MAX_PHRASES} phrases"
            yield from (f"{place}: {fault}" for phrase in phrases if (fault := _fault(phrase)))


def _fault(phrase: Any) -> str | None:
    if not isinstance(phrase, str):
        return f"{phrase!r} is not text"
    if not re.search(r"\w", phrase):
        return f"{phrase!r} has no letter in it"
    if len(phrase) > LONGEST or not phrase.isprintable():
        return f"{phrase[:20]!r}… is longer than {LONGEST} characters, or not on one line"
    return None
