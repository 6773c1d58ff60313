"""What the charts share: margins, ticks, grid lines, axis titles, and marked values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal as OneOf
from typing import TypeAlias

from glmreport.figure import FONT_SIZE, Plot, ink, text_width
from glmreport.numbers import show_number
from glmreport.text import Literal, Message

Scale: TypeAlias = OneOf["linear", "log2", "log10"]
LANE = 17  # pixels from one row of marker labels to the next
GAP = 5  # pixels between a marker's line and its label
_MARK_INKS = {"note": "ink", "good": "good", "warn": "warn", "bad": "bad"}


@dataclass(frozen=True, slots=True)
class Marker:
    """A value of the x axis worth a line and a label; with `value`, also a dot at that height."""

    at: float
    label: Message
    level: OneOf["note", "good", "warn", "bad"] = "note"
    value: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """The range of an axis, its title, and how its numbers are written.

    With `whole`, a linear axis that counts things has no ticks between two numbers.
    """

    low: float
    high: float
    label: Message
    scale: Scale = "linear"
    spec: str = ""
    whole: bool = False


def frame(plot: Plot, x: Axis, y: Axis, markers: Sequence[Marker] = ()) -> None:
    """Sets ranges and margins, draws grid, ticks and titles, and marks values."""
    rows = _outer_ticks(y)
    left = 10 + max(_number_width(tick, y.spec) for tick in rows)
    right = _number_width(x.high, x.spec) / 2 + 2
    plot.place(left=left, right=right, top=0, bottom=44)
    _scale(plot, x, y, rows)
    lanes = _lanes(plot, markers)
    head = 14 + LANE * (max(lanes, default=-1) + 1)
    plot.place(left=left, right=right, top=head + FONT_SIZE, bottom=44)
    _draw_ticks(plot, x, y, rows)
    _title(plot, x.label, (1, -40 / plot.inner_height), "right")
    _title(plot, y.label, (-left / plot.inner_width, 1 + head / plot.inner_height), "left")
    for marker, lane in zip(markers, lanes, strict=True):
        _draw_marker(plot, marker, lane)


def _number_width(number: float, spec: str) -> float:
    return text_width(Literal(show_number(number, spec)))


def _scale(plot: Plot, x: Axis, y: Axis, rows: Sequence[float]) -> None:
    for axis, set_scale in ((x, plot.axes.set_xscale), (y, plot.axes.set_yscale)):
        if axis.scale == "linear":
            set_scale("linear")
        else:
            set_scale("log", base=int(axis.scale.removeprefix("log")))
    plot.axes.set_xlim(x.low, x.high)
    plot.axes.set_ylim(rows[0], rows[-1])


def _draw_ticks(plot: Plot, x: Axis, y: Axis, rows: Sequence[float]) -> None:
    columns = _inner_ticks(x, about=max(3, round(plot.inner_width / 80)))
    plot.axes.set_xticks(columns, [show_number(tick, x.spec) for tick in columns])
    plot.axes.set_yticks(rows, [show_number(tick, y.spec) for tick in rows])
    plot.axes.minorticks_off()
    for tick in rows:
        heavy = tick == rows[0]
        color = ink("muted" if heavy else "grid")
        plot.axes.axhline(tick, color=color, linewidth=1, zorder=3 if heavy else 0, clip_on=False)


def _title(plot: Plot, label: Message, at: tuple[float, float], align: str) -> None:
    place = plot.axes.transAxes
    plot.axes.text(*at, plot.slot(label), transform=place, ha=align, color=ink("muted"))


def _outer_ticks(axis: Axis) -> list[float]:
    """Round values of which the first and last lie at or beyond the ends of the range."""
    if axis.scale == "linear":
        return _linear_ticks(axis, about=5)
    steps = _one_two_five(axis)
    below = [step for step in steps if step <= axis.low][-1]
    above = next(step for step in steps if step >= axis.high and step > below)
    inside = [step for step in steps if below <= step <= above]
    if len(inside) > 7:
        tens = [step for step in inside if math.log10(step) % 1 == 0]
        inside = sorted({below, above, *tens[:: 1 + len(tens) // 7]})
    return inside


def _inner_ticks(axis: Axis, about: int) -> list[float]:
    """Round values inside the range: powers of two on its logarithmic scale."""
    if axis.scale == "linear":
        return [tick for tick in _linear_ticks(axis, about) if axis.low <= tick <= axis.high]
    first, last = math.ceil(math.log2(axis.low)), math.floor(math.log2(axis.high))
    return [2**power for power in range(first, last + 1, 1 + (last - first) // about)]


def _linear_ticks(axis: Axis, about: int) -> list[float]:
    from matplotlib.ticker import MaxNLocator

    locator = MaxNLocator(about, steps=[1, 2, 2.5, 5, 10], integer=axis.whole, min_n_ticks=2)
    return [float(f"{tick:.10g}") for tick in locator.tick_values(axis.low, axis.high)]


def _one_two_five(axis: Axis) -> list[float]:
    first, last = math.floor(math.log10(axis.low)), math.ceil(math.log10(axis.high)) + 1
    return [float(f"{digit}e{power}") for power in range(first, last + 1) for digit in (1, 2, 5)]


def _lanes(plot: Plot, markers: Sequence[Marker]) -> list[int]:
    """The row of each marker's label, counted from the axes up, so that none covers another.

    Labels stand right of their lines, or left of them at the right edge. Placed from right to
    left, then those at the edge, no line runs through a label that was placed before it.
    """
    spans = [_label_span(plot, marker) for marker in markers]
    lines = [plot.pixel_x(marker.at) for marker in markers]
    flipped = [span[1] <= line for span, line in zip(spans, lines, strict=True)]
    order = sorted(range(len(markers)), key=lambda i: (flipped[i], -lines[i]))
    lanes: dict[int, int] = {}
    for i in order:
        low, high = spans[i]
        below = [
            lanes[j]
            for j in lanes
            if min(*spans[j], lines[j]) < high and max(*spans[j], lines[j]) > low
        ]
        lanes[i] = max(below, default=-1) + 1
    return [lanes[i] for i in range(len(markers))]


def _label_span(plot: Plot, marker: Marker) -> tuple[float, float]:
    line, width = plot.pixel_x(marker.at), text_width(marker.label)
    if line + GAP + width <= plot.inner_width or line < plot.inner_width / 2:
        return line + GAP, line + GAP + width
    return line - GAP - width, line - GAP


def _draw_marker(plot: Plot, marker: Marker, lane: int) -> None:
    axes, color = plot.axes, ink(_MARK_INKS[marker.level])
    top = 1 + LANE * (lane + 1) / plot.inner_height
    place = axes.get_xaxis_transform()
    axes.plot([marker.at] * 2, [0, top], transform=place, color=color, linewidth=1.2, clip_on=False)
    flipped = _label_span(plot, marker)[1] <= plot.pixel_x(marker.at)
    plot.write(
        plot.slot(marker.label),
        (marker.at, top),
        (-GAP if flipped else GAP, -LANE / 2),
        align="right" if flipped else "left",
        color=_MARK_INKS[marker.level],
        place=place,
    )
    if marker.value is not None:
        dot(plot, marker.at, marker.value, color)


def dot(plot: Plot, x: float, y: float, color: str) -> None:
    """A dot: a line of no length with round ends, since a marker would be drawn by reference."""
    plot.axes.plot(
        [x, x], [y, y], color=color, linewidth=8, solid_capstyle="round", clip_on=False, zorder=5
    )
