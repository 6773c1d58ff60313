"""What a layout costs, as a section of a page and as a line in the terminal."""

from __future__ import annotations

from glmreport.page import Column, Section, Table, Value
from glmreport.text import Text

from glmprep.efficiency import Efficiency
from glmprep.views.terminal import PERCENT, number

SPECS = {
    "filled": PERCENT,
    "reachable": PERCENT,
    "padding": PERCENT,
    "supervised_share": PERCENT,
    "replay": PERCENT,
    "shapes": "",
    "attention_varlen": ".2f",
    "attention": ".2f",
    "work_varlen": ".2f",
    "work": ".2f",
}


def section(efficiency: Efficiency) -> Section:
    """All shares, each with what it is made of."""
    numbers = {
        "tokens": efficiency.tokens,
        "computed": efficiency.computed,
        "least": efficiency.least_rows,
        "rows": efficiency.rows,
        "trained": efficiency.supervised,
        "replayed": efficiency.replayed,
    }
    rows: list[list[Value | None]] = [
        [
            Text(f"prep.efficiency.what.{name}"),
            number(getattr(efficiency, name), spec),
            Text(f"prep.efficiency.means.{name}", **numbers),
        ]
        for name, spec in SPECS.items()
    ]
    columns = [
        Column(label=Text(f"prep.efficiency.column.{name}"), numeric=name == "value")
        for name in ("what", "value", "means")
    ]
    return Section(
        title=Text("prep.efficiency.title"),
        intro=Text("prep.efficiency.intro"),
        blocks=[Table(columns=columns, rows=rows, caption=Text("prep.efficiency.caption"))],
    )


def line(efficiency: Efficiency) -> tuple[str, str]:
    """How full rows are and could be, and what is computed for what is needed."""
    filled, reachable = number(efficiency.filled, PERCENT), number(efficiency.reachable, PERCENT)
    most = f" (at most {reachable})" if efficiency.rows != efficiency.least_rows else ""
    return (
        "efficiency",
        f"{filled} filled{most}; attention × {number(efficiency.attention_varlen, '.2f')} "
        f"of what is needed with a varlen kernel, × {number(efficiency.attention, '.2f')} without",
    )
