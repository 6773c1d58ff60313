"""The kinds of chart that reports draw; each gives a `Chart` for both screens and languages."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from glmreport.axes import Axis, Marker, frame
from glmreport.figure import NARROW, WIDE, Plot, drawing_style, ink, series_ink, text_width
from glmreport.numbers import show_number
from glmreport.page import Chart, LegendItem
from glmreport.text import Literal, Message, Text

__all__ = ["Line", "Marker", "Series", "bars", "cumulative", "edges", "histogram", "lines"]


@dataclass(frozen=True, slots=True)
class Series:
    """A name and one value for each bin, bar or limit."""

    label: Message
    values: Sequence[float]


@dataclass(frozen=True, slots=True)
class Line:
    """A name and points; values that are NaN or infinite break the line and are shown as such.

    With `smooth`, the values are drawn pale below their moving average.
    """

    label: Message
    x: Sequence[float]
    y: Sequence[float]
    smooth: bool = False


def edges(low: float, high: float, bins: int = 40) -> list[float]:
    """Bin edges from `low` to `high` that are evenly spaced on a logarithmic axis; `low` > 0."""
    if not 0 < low < high:
        raise ValueError(f"edges need 0 < low < high, not {low} and {high}")
    ratio = high / low
    return [low * ratio ** (i / bins) for i in range(bins)] + [high]


def histogram(
    counts: Sequence[Series],
    edges: Sequence[float],
    *,
    caption: Message,
    x_label: Message,
    y_label: Message,
    log_x: bool = True,
    markers: Sequence[Marker] = (),
) -> Chart:
    """How often values fall into bins; series lie over one another.

    `edges` has one number more than each series has values, rising, above 0 where `log_x`.
    """
    _same_length(counts, len(edges) - 1)
    if log_x and edges[0] <= 0:
        raise ValueError("a logarithmic axis needs edges above 0")
    low, high = _range([edges[0], edges[-1], *(marker.at for marker in markers)])
    x = Axis(low=low, high=high, label=x_label, scale="log2" if log_x else "linear")
    y = Axis(low=0, high=max((*_values(counts), 1)), label=y_label, spec="compact", whole=True)

    def draw(plot: Plot) -> None:
        frame(plot, x, y, markers)
        for index, series in enumerate(counts):
            color = ink(series_ink(index))
            filled = 0.85 if len(counts) == 1 else 0.22
            plot.axes.stairs(
                series.values, edges, fill=True, color=color, alpha=filled, lw=0, clip_on=False
            )
            if len(counts) > 1:
                plot.axes.stairs(series.values, edges, color=color, lw=1.6, clip_on=False)

    return _chart(draw, caption, _legend(counts))


def cumulative(
    limits: Sequence[int],
    shares: Sequence[Series],
    *,
    caption: Message,
    x_label: Message,
    y_label: Message,
    markers: Sequence[Marker] = (),
) -> Chart:
    """What share (0 to 1) is kept at each maximum length, such as of rows and trainable tokens."""
    _same_length(shares, len(limits))
    low, high = _range([*limits, *(marker.at for marker in markers)])
    x = Axis(low=low, high=high, label=x_label, scale="log2")
    y = Axis(low=0, high=1, label=y_label, spec=".0%")

    def draw(plot: Plot) -> None:
        frame(plot, x, y, markers)
        for index, series in enumerate(shares):
            color = ink(series_ink(index))
            plot.axes.plot(limits, series.values, color=color, lw=2.2, clip_on=False)

    return _chart(draw, caption, _legend(shares))


def lines(
    series: Sequence[Line],
    *,
    caption: Message,
    x_label: Message,
    y_label: Message,
    log_y: bool = False,
    from_zero: bool = True,
    y_spec: str = "compact",
    markers: Sequence[Marker] = (),
) -> Chart:
    """Values over steps. On a logarithmic axis, values of 0 and below count as not drawable.

    With `from_zero` a linear axis shows 0 too; without, the range of the values fills it.
    """
    drawable = [_drawable(line, log_y) for line in series]
    seen = [y for line in drawable for y in line.y if math.isfinite(y)] or [0.1, 1.0]
    low, high = _range([x for line in series for x in line.x] or [0, 1])
    bottom, top = _range(seen)
    x = Axis(low=low, high=high, label=x_label)
    y = Axis(
        low=min(bottom, 0) if from_zero and not log_y else bottom,
        high=top,
        label=y_label,
        scale="log10" if log_y else "linear",
        spec=y_spec,
    )
    holes = [hole for line in drawable for hole in _holes(line)]

    def draw(plot: Plot) -> None:
        frame(plot, x, y, markers)
        for hole in holes:
            _draw_hole(plot, hole)
        for index, line in enumerate(drawable):
            _draw_line(plot, line, series_ink(index))

    legend = [LegendItem(line.label, series_ink(i)) for i, line in enumerate(series)]
    if holes:
        legend.append(LegendItem(Text("page.chart.not_a_number"), "hole"))
    return _chart(draw, caption, legend if len(legend) > 1 else ())


def bars(
    labels: Sequence[Message],
    series: Sequence[Series],
    *,
    caption: Message,
    spec: str = "",
) -> Chart:
    """Horizontal bars, one a label, stacked where there are several series; totals at their ends.

    Values are 0 or above; `spec` says how totals are written (`percent`, `bytes`, `duration`).
    """
    _same_length(series, len(labels))
    if not labels or not all(value >= 0 for value in _values(series)):
        raise ValueError("bars need labels, and values of 0 and above")
    totals = [sum(one.values[i] for one in series) for i in range(len(labels))]

    def draw(plot: Plot) -> None:
        sink, thick = (0.16, 0.4) if plot.narrow else (0.0, 0.62)
        _name_bars(plot, labels, [show_number(total, spec) for total in totals])
        plot.axes.set_xlim(0, max(totals) or 1)
        plot.axes.set_ylim(len(labels) - 0.5, -0.5)
        rows = [row + sink for row in range(len(labels))]
        left = [0.0] * len(labels)
        for index, one in enumerate(series):
            color = ink(series_ink(index))
            plot.axes.barh(rows, one.values, thick, left, color=color, clip_on=False)
            left = [start + value for start, value in zip(left, one.values, strict=True)]
        for row, total in zip(rows, totals, strict=True):
            shown = show_number(total, spec)
            plot.write(shown, (total, row), (6, 0), align="left", color="muted")

    heights = (8 + 34 * len(labels), 8 + 50 * len(labels))
    return _chart(draw, caption, _legend(series), heights)


def _name_bars(plot: Plot, labels: Sequence[Message], totals: Sequence[str]) -> None:
    """Writes names left of the bars, or above them where the plot is narrow."""
    widest = max(map(text_width, labels)) + 14
    left = 0 if plot.narrow else min(widest, plot.width * 0.42)
    right = max(text_width(Literal(total)) for total in totals) + 12
    plot.place(left=left, right=right, top=4, bottom=4)
    plot.axes.set_xticks([])
    plot.axes.set_yticks([])
    for row, label in enumerate(labels):
        name = plot.slot(label, limit=plot.width if plot.narrow else left - 12)
        if plot.narrow:
            plot.write(name, (0, row), (0, 13), align="left")
        else:
            plot.write(name, (0, row), (-10, 0), align="right")


def _draw_line(plot: Plot, line: Line, color: str) -> None:
    width, alpha = (1.0, 0.35) if line.smooth else (1.8, 1.0)
    plot.axes.plot(line.x, line.y, color=ink(color), lw=width, alpha=alpha, clip_on=False)
    if line.smooth:
        smooth = _moving_average(line.y)
        plot.axes.plot(line.x, smooth, color=ink(color), lw=2.2, clip_on=False)


def _draw_hole(plot: Plot, hole: tuple[float, float]) -> None:
    """A band over steps without a number, never too thin to see."""
    low, high = plot.axes.get_xlim()
    wide = max(hole[1] - hole[0], (high - low) * 3 / plot.inner_width)
    plot.axes.axvspan(hole[0], min(hole[0] + wide, high), color=ink("hole"), lw=0, clip_on=False)


def _drawable(line: Line, log_y: bool) -> Line:
    floor = 0.0 if log_y else -math.inf
    y = [value if floor < value < math.inf else math.nan for value in line.y]
    return Line(line.label, line.x, y, line.smooth)


def _holes(line: Line) -> Iterator[tuple[float, float]]:
    """The ranges of x over which a line has no number."""
    points = list(zip(line.x, line.y, strict=True))
    for missing, group in groupby(points, key=lambda point: math.isnan(point[1])):
        if missing:
            steps = [x for x, _ in group]
            yield steps[0], steps[-1]


def _moving_average(values: Sequence[float]) -> list[float]:
    """An exponential moving average over about a fortieth of the values; NaN is passed over."""
    weight = 2 / (max(5, len(values) / 40) + 1)
    averages: list[float] = []
    total = seen = 0.0
    for value in values:
        if math.isnan(value):
            averages.append(math.nan)
            continue
        total += weight * (value - total)
        seen += weight * (1 - seen)
        averages.append(total / seen)
    return averages


def _range(values: Sequence[float]) -> tuple[float, float]:
    """The least and the greatest value, apart even where there is only one."""
    low, high = min(values), max(values)
    return (low, high) if low < high else (low * 0.5, high * 2) if low > 0 else (low, low + 1)


def _values(series: Sequence[Series]) -> Iterator[float]:
    return (value for one in series for value in one.values)


def _same_length(series: Sequence[Series], length: int) -> None:
    if not series or any(len(one.values) != length for one in series):
        raise ValueError(f"each series needs {length} values")


def _legend(series: Sequence[Series]) -> Sequence[LegendItem]:
    if len(series) == 1:
        return ()
    return [LegendItem(one.label, series_ink(index)) for index, one in enumerate(series)]


def _chart(
    draw: Callable[[Plot], None],
    caption: Message,
    legend: Sequence[LegendItem],
    heights: tuple[int, int] = (310, 260),
) -> Chart:
    drawings = []
    with drawing_style():
        for width, height in zip((WIDE, NARROW), heights, strict=True):
            plot = Plot(width, height)
            draw(plot)
            drawings.append(plot.svg())
    return Chart(wide=drawings[0], narrow=drawings[1], caption=caption, legend=tuple(legend))
