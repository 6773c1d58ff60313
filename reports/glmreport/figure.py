"""Draws with matplotlib, and turns the drawing into an SVG that lives inside a page.

Words never pass through matplotlib: it draws numbered slots (`@3@`), which are then filled with
the escaped words of every language, one of which the page shows. So a drawing needs no font for
Chinese, data in labels is never parsed as mathematics, and one drawing serves all languages.
Colours are drawn as stand-ins for the page's CSS variables, so a drawing follows light and dark.
"""

from __future__ import annotations

import io
import re
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from glmreport.text import LANGUAGES, Catalogue, Message, visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Transform

WIDE, NARROW = 840, 340
FONT_SIZE = 12
INKS = (
    "ink",
    "muted",
    "grid",
    "good",
    "warn",
    "bad",
    "hole",
    *(f"series-{n}" for n in range(1, 7)),
)
_STAND_INS = {name: f"#0000{index:02x}" for index, name in enumerate(INKS, start=1)}
_VARIABLES = {stand_in: f"var(--{name})" for name, stand_in in _STAND_INS.items()}
_SVG = "{http://www.w3.org/2000/svg}"
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "glmreport",
    "text.parse_math": False,
    "font.size": FONT_SIZE,
    "path.simplify_threshold": 0.5,
}


def ink(name: str) -> str:
    """The colour to draw with so that it becomes the CSS variable `--<name>`."""
    return _STAND_INS[name]


def series_ink(index: int) -> str:
    """The name of the ink of the n-th series, from 0; there are six."""
    return f"series-{index % 6 + 1}"


def words(message: Message) -> dict[str, str]:
    """A message in each language, on one line."""
    said = {language: Catalogue.load(language).say(message) for language in LANGUAGES}
    return {language: " ".join(visible(text).split()) for language, text in said.items()}


def text_width(message: Message) -> float:
    """About how wide a message is in its widest language, in pixels."""
    return max(_em(text) for text in words(message).values()) * FONT_SIZE


def shorten(text: str, width: float) -> str:
    """The text, cut with an ellipsis where it would be wider than `width` pixels."""
    if _em(text) * FONT_SIZE <= width:
        return text
    while text and (_em(text) + 1) * FONT_SIZE > width:
        text = text[:-1]
    return text.rstrip() + "…"


def _em(text: str) -> float:
    return sum(1.0 if unicodedata.east_asian_width(c) in "WF" else 0.57 for c in text)


class Plot:
    """One drawing of a given size in pixels; `axes` is where to draw."""

    def __init__(self, width: int, height: int) -> None:
        from matplotlib.figure import Figure

        self.width, self.height = width, height
        self._words: list[tuple[Message, float]] = []
        self._figure: Figure = Figure(figsize=(width / 72, height / 72), dpi=72)
        self.axes: Axes = self._figure.add_axes((0, 0, 1, 1))
        self.axes.patch.set_visible(False)
        self.axes.spines[:].set_visible(False)
        self.axes.tick_params(length=0, labelcolor=ink("muted"), pad=6)
        self.axes.tick_params(which="minor", length=0)

    def place(self, *, left: float, right: float, top: float, bottom: float) -> None:
        """Sets the margins around the axes, in pixels."""
        width, height = self.width - left - right, self.height - top - bottom
        box = (left / self.width, bottom / self.height, width / self.width, height / self.height)
        self.axes.set_position(box)

    @property
    def narrow(self) -> bool:
        """Whether this is the drawing for small screens."""
        return self.width < WIDE

    @property
    def inner_width(self) -> float:
        """The width of the axes in pixels."""
        return float(self.axes.get_position().width) * self.width

    @property
    def inner_height(self) -> float:
        """The height of the axes in pixels."""
        return float(self.axes.get_position().height) * self.height

    def pixel_x(self, value: float) -> float:
        """Where a value of the x axis lies, in pixels from the left edge of the axes."""
        across = self.axes.transData.transform((value, self.axes.get_ylim()[1]))[0]
        return float(across - self.axes.get_position().x0 * self.width)

    def slot(self, message: Message, *, limit: float = float("inf")) -> str:
        """What to let matplotlib write where the message shall stand, at most `limit` wide."""
        self._words.append((message, limit))
        return f"@{len(self._words) - 1}@"

    def write(
        self,
        text: str,
        at: tuple[float, float],
        offset: tuple[float, float],
        *,
        align: str,
        color: str = "ink",
        place: Transform | None = None,
    ) -> None:
        """Writes beside a point of the data, or of `place`, `offset` pixels away."""
        self.axes.annotate(
            text,
            at,
            xycoords=place or "data",
            xytext=offset,
            textcoords="offset pixels",
            ha=align,
            va="center",
            color=ink(color),
            annotation_clip=False,
        )

    def svg(self) -> str:
        """The drawing, with the words of every language in place."""
        buffer = io.BytesIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        self._figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
        drawing = ElementTree.fromstring(buffer.getvalue())
        shapes = "".join(self._shape(element) for element in drawing.iter())
        return f'<svg viewBox="0 0 {self.width} {self.height}" aria-hidden="true">{shapes}</svg>'

    def _shape(self, element: ElementTree.Element) -> str:
        if element.tag == f"{_SVG}use" or "clip-path" in element.attrib:
            raise ValueError("a drawing that refers to ids can't stand beside others in a page")
        if element.tag == f"{_SVG}path":
            style = _themed(element.get("style", ""))
            invisible = style == "fill:none"
            path = _rounded(" ".join(element.get("d", "").split()))
            return "" if invisible else f'<path d="{path}" style="{style}"/>'
        if element.tag == f"{_SVG}text":
            return self._text(element)
        return ""

    def _text(self, element: ElementTree.Element) -> str:
        style = re.sub(r"font[a-z-]*:[^;]*;?", "", element.get("style", ""))
        place = _rounded(f'x="{element.get("x")}" y="{element.get("y")}"')
        start = f'<text {place} style="{_themed(style)}"'
        content = element.text or ""
        slot = re.fullmatch(r"@(\d+)@", content)
        if slot is None:
            return f"{start}>{escape(content)}</text>"
        message, limit = self._words[int(slot[1])]
        filled = {k: escape(shorten(text, limit)) for k, text in words(message).items()}
        if len(set(filled.values())) == 1:
            return f"{start}>{filled[LANGUAGES[0]]}</text>"
        return "".join(f'{start} class="{k}">{text}</text>' for k, text in filled.items())


def _themed(style: str) -> str:
    compact = re.sub(r"\s*([:;])\s*", r"\1", style).strip("; ")
    return re.sub(r"#[0-9a-f]{6}", lambda match: _VARIABLES.get(match[0], match[0]), compact)


def _rounded(numbers: str) -> str:
    return re.sub(r"\d+\.\d+", lambda match: f"{float(match[0]):.1f}".removesuffix(".0"), numbers)


@contextmanager
def drawing_style() -> Iterator[None]:
    """Within it matplotlib draws for a page, whatever the user's own matplotlibrc says."""
    from matplotlib import style

    with style.context(["default", _STYLE]):
        yield
