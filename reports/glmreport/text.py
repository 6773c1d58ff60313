"""Sentences in two languages: a message names a catalogue entry, a catalogue turns it into words.

Catalogues are TOML files, `strings/<language>/<area>.toml`, merged into flat keys such as
`audit.title`. A template holds `{name}` or `{name:spec}`, where spec is one of

* `percent`: a share of 1 as a percentage that never rounds a remainder away (`> 99.9%`)
* `bytes`: a number of bytes in binary units
* `duration`: a number of seconds
* `compact`: a large number with `k`, `M` or `G`
* `|one|many`: the word for one, or for several, of the number
* any of Python's own format specifications

and text in `backticks` is shown as code.
"""

from __future__ import annotations

import string
import tomllib
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Literal as OneOf
from typing import TypeAlias

from glmreport.numbers import NAMED_SPECS, show_number

LANGUAGES = ("en", "zh")
RULE_FIELDS = ("title", "evidence", "why", "fix")


class CatalogueError(Exception):
    """A catalogue lacks an entry, has it twice, or an entry wants a parameter that isn't given."""


@dataclass(frozen=True, slots=True)
class Literal:
    """Text that is data, or the same in every language."""

    value: str


@dataclass(frozen=True, slots=True, init=False)
class Text:
    """A catalogue entry and what fills its placeholders."""

    key: str
    params: Mapping[str, Param]

    def __init__(self, key: str, /, **params: Param) -> None:
        object.__setattr__(self, "key", key)
        object.__setattr__(self, "params", params)


@dataclass(frozen=True, slots=True)
class RuleTitle:
    """The title of a rule, or its fix: the catalogue's where the language has one, else English."""

    rule: str
    english: str
    part: OneOf["title", "fix"] = "title"

    def within(self, language: str) -> str:
        """It in a language; English too where that one's wants to be filled in."""
        said = (rule_text(self.rule, language) or {}).get(self.part)
        return self.english if said is None or placeholders(said) else said


Message: TypeAlias = Text | Literal | RuleTitle
Param: TypeAlias = "str | int | float | Text | Literal | RuleTitle"


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The sentences of one language, by flat key."""

    language: str
    entries: Mapping[str, str]

    @staticmethod
    def load(language: str) -> Catalogue:
        """The merged catalogue of a language; raises CatalogueError if it is missing or broken."""
        return _load(language)

    def template(self, key: str) -> str:
        """The template of a key; raises CatalogueError if there is none."""
        try:
            return self.entries[key]
        except KeyError:
            raise CatalogueError(f"{self.language}: no entry {key!r}") from None

    def say(self, message: Param, spec: str = "") -> str:
        """A message, number or string as plain text of this language."""
        if isinstance(message, Text):
            return fill(self.template(message.key), message.params, self.say)
        if isinstance(message, RuleTitle):
            return message.within(self.language)
        return show_plain(message, spec)


def fill(
    template: str,
    params: Mapping[str, Param],
    show: Callable[[Param, str], str],
    keep: Callable[[str], str] = str,
) -> str:
    """Fills `{name:spec}` with `show(params[name], spec)`; text between goes through `keep`."""
    pieces = []
    for literal, name, spec in _parse(template):
        pieces.append(keep(literal))
        if name is None:
            continue
        if name not in params:
            raise CatalogueError(f"parameter {name!r} is missing for {template!r}")
        pieces.append(show(params[name], spec))
    return "".join(pieces)


def placeholders(template: str) -> frozenset[str]:
    """The names that a template wants."""
    return frozenset(name for _, name, _ in _parse(template) if name is not None)


def _parse(template: str) -> Iterator[tuple[str, str | None, str]]:
    """Pieces (text before, name, spec); only plain names are allowed in braces."""
    try:
        for literal, name, spec, conversion in string.Formatter().parse(template):
            if name is not None and (conversion or not name.isidentifier()):
                raise CatalogueError(f"placeholder {name!r} is not a plain name")
            yield literal, name, spec or ""
    except ValueError as error:
        raise CatalogueError(f"template {template!r}: {error}") from None


def show_plain(value: str | int | float | Literal, spec: str = "") -> str:
    """A string as it is, a number by its format specification."""
    if isinstance(value, Literal):
        return value.value
    return value if isinstance(value, str) else show_number(value, spec)


def visible(text: str) -> str:
    """The text with every character that hides, reorders or breaks made visible.

    Control characters become their pictures (`␀`), bidirectional controls, zero-width and other
    format characters, line separators, lone surrogates and noncharacters become `⟨U+202E⟩`.
    Line feed and tab stay; so do the joiners that emoji and several scripts need.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_visible_character(character) for character in text)


def _visible_character(character: str) -> str:
    if character in "\n\t\u200c\u200d":
        return character
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    hidden = unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")
    nonchar = code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF
    return f"⟨U+{code:04X}⟩" if hidden or nonchar else character


def rule_text(rule: str, language: str) -> Mapping[str, str] | None:
    """The templates of a rule (title, evidence, why, fix) in a catalogue, or None if it has none.

    English texts live in the rules themselves, so only other languages have any here.
    """
    entries = Catalogue.load(language).entries
    found = {
        field: entries[key] for field in RULE_FIELDS if (key := f"rule.{rule}.{field}") in entries
    }
    return found or None


def check_catalogues() -> list[str]:
    """What is wrong with the catalogues, one line each; nothing if they are fit to be shipped."""
    first, *others = (Catalogue.load(language) for language in LANGUAGES)
    problems = [problem for one in (first, *others) for problem in _faults(one)]
    return problems or [line for other in others for line in _differences(first, other)]


def read_catalogue(language: str, folder: Traversable) -> Catalogue:
    """Merges a folder's TOML files; raises CatalogueError for a broken file or a second entry."""
    entries: dict[str, str] = {}
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        if not file.name.endswith(".toml"):
            continue
        try:
            tables = tomllib.loads(file.read_text(encoding="utf-8"))
        except tomllib.TOMLDecodeError as error:
            raise CatalogueError(f"{language}/{file.name}: {error}") from None
        for key, template in _flatten(tables):
            if key in entries:
                raise CatalogueError(f"{language}/{file.name}: {key} is defined twice")
            entries[key] = template
    return Catalogue(language, entries)


@cache
def _load(language: str) -> Catalogue:
    if language not in LANGUAGES:
        raise CatalogueError(f"no catalogue for language {language!r}")
    return read_catalogue(language, resources.files("glmreport") / "strings" / language)


def _flatten(table: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        elif isinstance(value, str) and value.strip():
            yield f"{prefix}{name}", value.strip()
        else:
            raise CatalogueError(f"{prefix}{name}: an entry is a sentence, not {value!r}")


def _faults(catalogue: Catalogue) -> Iterator[str]:
    """Templates that can't be filled, whatever the parameters."""
    for key, template in catalogue.entries.items():
        if template.count("`") % 2:
            yield f"{catalogue.language}: {key}: a backtick is not closed"
        try:
            for _, name, spec in _parse(template):
                if name is not None and spec not in NAMED_SPECS:
                    show_number(1, spec)
        except (CatalogueError, ValueError) as error:
            yield f"{catalogue.language}: {key}: {error}"


def _differences(first: Catalogue, other: Catalogue) -> Iterator[str]:
    """Entries that only one has or that want other parameters; rules' English is elsewhere."""
    keys = {key for one in (first, other) for key in one.entries if not key.startswith("rule.")}
    for key in sorted(keys):
        here, there = first.entries.get(key), other.entries.get(key)
        if here is None or there is None:
            yield f"{(first if here is None else other).language}: {key}: missing"
        elif placeholders(here) != placeholders(there):
            yield f"{other.language}: {key}: placeholders differ from {first.language}"
