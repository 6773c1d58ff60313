"""Number formats as sections of a page and as lines in the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from glmprep.console import printable
from glmreport import charts
from glmreport.page import Block, Column, Section, Table, Value
from glmreport.text import Literal, Text

from glmdiag.preflight.formats import Formats, Layer, Tried

WORST = 3
"""Layers of each format on the terminal."""
LAYERS_SHOWN = 80


def format_line(formats: Formats, tried: Tried) -> str:
    """A format in one line, with its worst layers."""
    if tried.problem is not None:
        return f"{tried.name}  not tried: {printable(tried.problem)}"
    if not tried.finite:
        return f"{tried.name}  overflows: {tried.overflowed:.2%} are inf or NaN"
    safe = "safe" if formats.safe(tried.name) else "not safe"
    if tried.against is None:
        return f"{tried.name}  loss {tried.loss:.4f}  the reference"
    worst = sorted((one for one in tried.layers if one.error is not None), key=_error)[-WORST:]
    named = ", ".join(f"{one.name} {one.error:.1e}" for one in reversed(worst))
    return (
        f"{tried.name}  loss {tried.loss:.4f}  gradient off by {tried.against.gradients:.1e}, "
        f"cosine {tried.against.cosine:.6f}, {tried.vanished:.2%} vanish  {safe}; "
        f"worst layers: {named}"
    )


def _error(layer: Layer) -> float:
    return layer.error if layer.error is not None and math.isfinite(layer.error) else math.inf


def formats_section(formats: Formats) -> Section:
    """What each format came to, and the loss scales that suit fp16."""
    names = ["format", "state", "loss", "error", "cosine", "overflowed", "vanished", "largest"]
    specs = {
        "loss": ".4f",
        "error": ".1e",
        "cosine": ".6f",
        "overflowed": "percent",
        "vanished": "percent",
        "largest": ".3g",
    }
    blocks: list[Block] = [
        Table(
            columns=[column(name, specs.get(name)) for name in names],
            rows=[_format_row(formats, tried) for tried in formats.tried],
        )
    ]
    if (room := formats.headroom) is not None:
        values = ("least", "scale", "most", "lost", "faint")
        blocks.append(
            Table(
                columns=[
                    column(name, "percent" if name in ("lost", "faint") else ".3g")
                    for name in values
                ],
                rows=[[number(getattr(room, name)) for name in values]],
                caption=Text("diag.preflight.formats.scale"),
            )
        )
    return Section(
        title=Text("diag.preflight.formats.title"),
        intro=Text("diag.preflight.formats.intro", noise=formats.noise),
        blocks=blocks,
    )


def _format_row(formats: Formats, tried: Tried) -> list[Value | None]:
    if tried.problem is not None:
        return [tried.name, Literal(tried.problem), *[None] * 6]
    state = "overflows" if not tried.finite else "safe" if formats.safe(tried.name) else "unsafe"
    if tried.name == formats.reference:
        state = "reference"
    against = tried.against
    return [
        tried.name,
        Text(f"diag.preflight.state.{state}"),
        number(tried.loss),
        None if against is None else number(against.gradients),
        None if against is None else number(against.cosine),
        tried.overflowed,
        tried.vanished,
        tried.largest,
    ]


def layers_sections(formats: Formats) -> list[Section]:
    """The error of each layer in each format as lines, and all numbers as a table."""
    tried = [each for each in formats.tried if any(one.error is not None for one in each.layers)]
    if not tried:
        return []
    names = [layer.name for layer in tried[0].layers]
    blocks: list[Block] = []
    numbered = [name for name in names if name.isdecimal()]
    if len(numbered) > 2:
        blocks.append(
            charts.lines(
                [_line(each) for each in tried],
                caption=Text("diag.preflight.layers.caption"),
                x_label=Text("diag.preflight.column.layer"),
                y_label=Text("diag.preflight.column.error"),
                log_y=True,
                y_spec=".0e",
            )
        )
    columns = [Column(label=Text("diag.preflight.column.layer"))]
    for each in tried:
        columns += [
            Column(
                label=Text(f"diag.preflight.layers.{kind}", format=each.name),
                numeric=True,
                spec=spec,
                bar=kind == "error",
            )
            for kind, spec in (("error", ".1e"), ("cosine", ".5f"))
        ]
    columns.append(column("vanished", "percent"))
    rows = [_layer_row(tried, name) for name in names[:LAYERS_SHOWN]]
    blocks.append(Table(columns=columns, rows=rows))
    title, intro = Text("diag.preflight.layers.title"), Text("diag.preflight.layers.intro")
    return [Section(title=title, intro=intro, blocks=blocks)]


def _line(tried: Tried) -> charts.Line:
    known = [one for one in tried.layers if one.name.isdecimal() and one.error is not None]
    x, y = [int(one.name) for one in known], [one.error or 0.0 for one in known]
    return charts.Line(Literal(tried.name), x, y)


def _layer_row(tried: Sequence[Tried], name: str) -> list[Value | None]:
    row: list[Value | None] = [Text(f"diag.preflight.layer.{name}")]
    if name.isdecimal():
        row = [Literal(name)]
    for each in tried:
        layer = next(one for one in each.layers if one.name == name)
        error, cosine = layer.error, layer.cosine
        row += [
            None if error is None else number(error),
            None if cosine is None else number(cosine),
        ]
    half = next((each for each in tried if each.name == "fp16"), None)
    return [*row, None if half is None else half.layers[_names(half).index(name)].vanished]


def _names(tried: Tried) -> list[str]:
    return [layer.name for layer in tried.layers]


def column(name: str, spec: str | None) -> Column:
    """A column of the pages on trials; one with a spec holds numbers."""
    label = Text(f"diag.preflight.column.{name}")
    return Column(label=label, numeric=spec is not None, spec=spec or "")


def number(value: float) -> Value:
    """A number, or a sign where it is none."""
    return value if math.isfinite(value) else Literal("∞" if math.isinf(value) else "NaN")
