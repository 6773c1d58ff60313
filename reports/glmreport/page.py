"""What a report says, as plain records; how it looks is decided in `document` and `templates`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal as OneOf
from typing import TypeAlias, get_args

from glmreport.text import Literal, Message, RuleTitle, Text

Level: TypeAlias = OneOf["good", "warn", "bad"]
Severity: TypeAlias = OneOf["error", "warning", "info"]
TokenKind: TypeAlias = OneOf[
    "trained", "stop", "context", "special", "cut", "kept", "removed", "added"
]
Value: TypeAlias = str | int | float | Text | Literal | RuleTitle


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The answer in one sentence, and one line of detail."""

    level: Level
    headline: Message
    detail: Message

    def __post_init__(self) -> None:
        _one_of(self.level, get_args(Level))


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing to do next; the command can be copied."""

    text: Message
    command: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """A tile: a short value, what it is, and a short note."""

    label: Message
    value: Value
    note: Message | None = None


@dataclass(frozen=True, slots=True)
class TokenSpan:
    """A run of text that is treated alike in training.

    `trained` text has labels, `stop` is a special token that has one, `context` is read only,
    `special` is a special token without a label, `cut` never reaches the model. In a text that was
    changed, parts are `kept`, `removed` and `added`.
    """

    text: str
    kind: TokenKind

    def __post_init__(self) -> None:
        _one_of(self.kind, get_args(TokenKind))


@dataclass(frozen=True, slots=True)
class LegendItem:
    """What a colour in a chart means; `ink` is a colour's name in `page.css`."""

    label: Message
    ink: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A drawing, made by `glmreport.charts`, for wide and for narrow screens.

    Both hold the words of every language; the page shows those of one.
    """

    wide: str
    narrow: str
    caption: Message
    legend: Sequence[LegendItem] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column's heading; numbers are set right, and `bar` draws their size behind them."""

    label: Message
    numeric: bool = False
    bar: bool = False
    spec: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of values, one per column; `highlight` is the index of the row that matters most."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[Value | None]]
    caption: Message | None = None
    highlight: int | None = None

    def __post_init__(self) -> None:
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError(f"each row needs {len(self.columns)} values")
        if self.highlight is not None and not 0 <= self.highlight < len(self.rows):
            raise ValueError(f"no row {self.highlight} to highlight")


@dataclass(frozen=True, slots=True)
class TokenView:
    """A text with what is trained in colour."""

    spans: Sequence[TokenSpan]
    caption: Message | None = None


@dataclass(frozen=True, slots=True)
class Code:
    """Text shown as it is, which can be copied."""

    text: str


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A paragraph of prose."""

    text: Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One place where a rule fired: `path:line`, and what stands there."""

    where: str
    excerpt: str = ""
    tokens: Sequence[TokenSpan] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingView:
    """All that one rule found.

    The texts are English and filled in. `data` fills the templates of `[rule.<rule>]` in other
    languages' catalogues; a field that has no template there is shown in English.
    """

    rule: str
    severity: Severity
    title: str
    evidence: str
    why: str
    fix: str
    data: Mapping[str, str | int | float] = field(default_factory=dict)
    examples: Sequence[Example] = ()
    count: int = 1

    def __post_init__(self) -> None:
        _one_of(self.severity, get_args(Severity))


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What one role says in a conversation; a message among the parts says what is left out there.

    `marked` turns stand out, and `notes` say why.
    """

    label: Message
    parts: Sequence[TokenSpan | Message]
    notes: Sequence[Message] = ()
    marked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """One conversation: where it stands, and its turns; a message says what is left out there."""

    title: str
    intro: Message | None = None
    turns: Sequence[Turn | Message]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chapter:
    """Leaves that belong together, and the finding that they are examples of, if they are."""

    title: Message
    leaves: Sequence[Leaf]
    intro: Message | None = None
    about: FindingView | None = None

    def __post_init__(self) -> None:
        if not self.leaves:
            raise ValueError("a chapter needs leaves")


@dataclass(frozen=True, slots=True)
class Leaves:
    """Conversations to leaf through, one at a time where scripts run, else one below the other."""

    chapters: Sequence[Chapter]


Block: TypeAlias = Chart | Table | TokenView | Code | Paragraph | Leaves


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A heading, an introduction, and what stands under it."""

    title: Message
    intro: Message | None = None
    blocks: Sequence[Block]


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What made the page; leave `created` out where the page must be reproducible."""

    version: str
    command: str
    inputs: Sequence[str] = ()
    created: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One report. `findings` is None where a page looks for none, empty where none was found."""

    kind: str
    title: Message
    subject: str
    verdict: Verdict
    steps: Sequence[Step] = ()
    facts: Sequence[Fact] = ()
    sections: Sequence[Section] = ()
    findings: Sequence[FindingView] | None = None
    provenance: Provenance


def _one_of(value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{value!r} is none of {', '.join(allowed)}")
