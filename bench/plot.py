"""The plots of docs/benchmarks.md, as small SVG files that hold their text as text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Results = dict[str, Any]
OURS, OTHERS, BOUND = "#2563a8", "#b0b7c3", "#e3e6eb"
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "glm-bench",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def peers(results: Results, path: Path) -> None:
    """Bars of seconds and of peak memory, the slowest at the bottom."""
    turns = results["turns"]
    names = sorted(
        turns[0], key=lambda name: median(turn[name]["wall"] for turn in turns), reverse=True
    )
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8, 0.34 * len(names) + 1), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        for axes, field, unit, label in (
            (left, "wall", 1, "seconds, start-up included"),
            (right, "peak", 1e9, "peak memory, GB"),
        ):
            sizes = [median(turn[name][field] for turn in turns) / unit for name in names]
            _bars(axes, names, sizes, label)
        _save(figure, path)


def _bars(axes: Axes, names: Sequence[str], sizes: Sequence[float], label: str) -> None:
    bars = axes.barh(names, sizes, color=[_colour(name) for name in names])
    axes.bar_label(bars, [f"{size:.1f}" for size in sizes], padding=3)
    axes.set_xlabel(label)
    axes.margins(x=0.12)
    axes.tick_params(left=False)


def _colour(name: str) -> str:
    if name.startswith("glmprep"):
        return OURS
    return BOUND if name.startswith("tokenization alone") else OTHERS


def growth(results: Results, path: Path) -> None:
    """Seconds and peak memory over the number of rows."""
    rows = [run["rows"] for run in results["runs"]]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8, 2.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        left.loglog(rows, [run["wall"] for run in results["runs"]], "o-", color=OURS)
        left.set_ylabel("seconds")
        right.semilogx(rows, [run["peak"] / 1e9 for run in results["runs"]], "o-", color=OURS)
        right.axhline(1, color=OTHERS, linestyle="--")
        right.set_ylim(0, 1.1 * max(1.0, right.dataLim.y1))
        right.set_ylabel("peak memory, GB")
        for axes in (left, right):
            axes.set_xlabel("rows")
        _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    figure.savefig(
        path, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))
    )
