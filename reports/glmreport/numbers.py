"""Numbers as every language here writes them: `12,022`, `2.35`, `> 99.9%`, `1.5 GiB`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping


def show_number(value: int | float, spec: str = "") -> str:
    """Writes a number by one of the specifications that `glmreport.text` lists.

    Raises ValueError for a specification that is none.
    """
    if spec.startswith("|"):
        one, many = spec[1:].split("|")  # two words, or a ValueError
        return one if value == 1 else many
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "∞" if value > 0 else "-∞"
    show = NAMED_SPECS.get(spec)
    return show(value) if show else format(value, spec)


def _plain_number(value: int | float) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    if value == 0 or 1e-4 <= abs(value) < 1000:
        return f"{value:.3g}"
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.2e}"


def _percent(share: float) -> str:
    percent = share * 100
    if 0 < percent < 0.1:
        return "< 0.1%"
    if 99.9 < percent < 100:
        return "> 99.9%"
    return f"{percent:.0f}%" if percent in (0, 100) else f"{percent:.1f}%"


def _bytes(size: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def _duration(seconds: float) -> str:
    if seconds < 59.5:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60:,} h {minutes % 60:02d} min"


def _compact(value: float) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= max(size, 1e4):
            return f"{value / size:.3g}{unit}"
    return _plain_number(value)


NAMED_SPECS: Mapping[str, Callable[[float], str]] = {
    "": _plain_number,
    "percent": _percent,
    "bytes": _bytes,
    "duration": _duration,
    "compact": _compact,
}
