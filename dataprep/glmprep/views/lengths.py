"""Token lengths as charts and tables, and what each maximum length would cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isqrt

import numpy as np
import numpy.typing as npt
from glmreport.charts import Marker, Series, cumulative, histogram
from glmreport.page import Block, Chart, Column, Paragraph, Table
from glmreport.text import Text

from glmprep.audit import ROLES_SHOWN, OfficialLimit
from glmprep.cost import Cost
from glmprep.languages import LANGUAGES
from glmprep.lengths import PERCENTILES, Cut, Group, Lengths, percentiles

Int64 = npt.NDArray[np.int64]
MARKED = (50, 95, 99)
FEWEST = 10
"""Fewer lengths than this are told by the table alone."""
FEWEST_BINS, MOST_BINS = 8, 44
SPREAD = 8
"""Where the longest is more than so many medians, a linear axis would show little."""
FAR = 2
"""A limit more than so many times the longest conversation says nothing; it is not drawn."""


def length_blocks(lengths: Lengths, limit: int | None) -> list[Block]:
    """How long conversations and turns are, in all and by language and use of tools."""
    return [
        _conversations(lengths.conversations, limit),
        *_turns(lengths),
        _percentiles(lengths),
        *_groups(lengths.groups()),
    ]


def limit_blocks(lengths: Lengths, cuts: Sequence[Cut], limit: int | None) -> list[Block]:
    """What each maximum length would lose; one sentence where none of them loses anything."""
    cutting = sum(cut.rows > 0 for cut in cuts)
    if not cutting:
        return [Paragraph(Text("prep.lengths.nothing_cut", tokens=cuts[0].max_length))]
    # Beyond the first limit that cuts nothing, only the one that was asked about is worth a row.
    telling = cuts[: cutting + 1]
    asked = [cut for cut in cuts[cutting + 1 :] if cut.max_length == limit]
    chart = [_kept(lengths, telling, limit)] if len(telling) > 1 else []
    return [*chart, _cut_table(lengths, [*telling, *asked], limit)]


def official_block(lengths: Lengths, official: OfficialLimit, cut: Cut) -> Block:
    """What the official script would do to this data."""
    parts = {"input": official.max_input_length, "output": official.max_output_length}
    if not cut.rows:
        return Paragraph(Text("prep.lengths.official_whole", **parts, tokens=official.total))
    return Paragraph(
        Text(
            "prep.lengths.official_cuts",
            **parts,
            tokens=official.total,
            rows=cut.rows,
            answers=cut.answers_cut,
            bare=cut.without_labels,
            lost=cut.supervised_lost / max(1, lengths.supervised),
        )
    )


def cost_table(costs: Sequence[Cost], recommended: int) -> Table:
    """What it costs to train at each limit that could be recommended."""
    specs = {"whole": "percent", "padding": "percent", "attention": "percent", "memory": "bytes"}
    names = ("limit", "whole", "padding", "attention", "compute", "memory")
    least = min(cost.flops for cost in costs)
    return Table(
        columns=[
            Column(label=Text(f"prep.lengths.cost.{name}"), numeric=True, spec=specs.get(name, ""))
            for name in names
        ],
        rows=[
            [
                cost.max_length,
                cost.whole,
                cost.padding,
                cost.attention,
                f"{cost.flops / least:.2f}×",
                cost.memory,
            ]
            for cost in costs
        ],
        caption=Text("prep.lengths.caption.costs", model=costs[0].model),
        highlight=next(i for i, cost in enumerate(costs) if cost.max_length == recommended),
    )


def _conversations(lengths: Int64, limit: int | None) -> Block:
    if not _worth_drawing(lengths):
        return Paragraph(Text("prep.lengths.no_chart"))
    return _histogram(
        {"conversations": lengths},
        caption=Text("prep.lengths.caption.conversations"),
        y_label=Text("prep.lengths.axis.conversations"),
        markers=[*_percentile_marks(lengths), *_limit_mark(lengths, limit)],
    )


def _turns(lengths: Lengths) -> list[Chart]:
    kinds = {"prompts": lengths.prompts, "answers": lengths.answers}
    kinds = {name: turns for name, turns in kinds.items() if len(turns)}
    if not any(map(_worth_drawing, kinds.values())):
        return []
    chart = _histogram(
        kinds,
        caption=Text(f"prep.lengths.caption.{'_'.join(kinds)}"),
        y_label=Text("prep.lengths.axis.turns"),
    )
    return [chart]


def _worth_drawing(lengths: Int64) -> bool:
    return len(lengths) >= FEWEST and len(np.unique(lengths)) > 1


def _histogram(
    kinds: Mapping[str, Int64], *, caption: Text, y_label: Text, markers: Sequence[Marker] = ()
) -> Chart:
    """Lengths in bins: even ones, or where a few lengths are far above the others, growing ones."""
    every = np.concatenate(list(kinds.values()))
    spread = float(every.max()) > SPREAD * float(np.median(every))
    bins = _growing_bins(every) if spread else _even_bins(every)
    return histogram(
        [
            Series(Text(f"prep.lengths.{name}"), np.histogram(lengths, bins)[0].tolist())
            for name, lengths in kinds.items()
        ],
        bins,
        caption=caption,
        x_label=Text("prep.lengths.axis.tokens"),
        y_label=y_label,
        log_x=spread,
        markers=markers,
    )


def _even_bins(lengths: Int64) -> list[int]:
    longest = int(lengths.max())
    step = -(-(longest + 1) // _bin_count(lengths))
    return list(range(0, longest + step + 1, step))


def _growing_bins(lengths: Int64) -> list[int]:
    """Edges at whole numbers; a bin is as wide as the one before it or wider, so none juts out."""
    low, high = max(1, int(lengths.min())), int(lengths.max()) + 1
    growth = float(high / low) ** (1 / _bin_count(lengths)) - 1
    bins, step = [low], 1
    while bins[-1] < high:
        step = max(step, round(bins[-1] * growth))
        bins.append(bins[-1] + step)
    return bins


def _bin_count(lengths: Int64) -> int:
    return min(MOST_BINS, max(FEWEST_BINS, isqrt(len(lengths))))


def _percentile_marks(lengths: Int64) -> list[Marker]:
    """A mark per value; percentiles that coincide, as in small data, share one."""
    values = percentiles(lengths)
    names: dict[int, list[str]] = {}
    for p in MARKED:
        names.setdefault(values[f"p{p}"], []).append(str(p))
    return [
        Marker(tokens, Text("prep.lengths.mark.percentile", p="/".join(ps), tokens=tokens))
        for tokens, ps in names.items()
    ]


def _limit_mark(lengths: Int64, limit: int | None) -> list[Marker]:
    longest = int(lengths.max())
    if limit is None or limit > longest * FAR:
        return []
    label = Text("prep.lengths.mark.limit", tokens=limit)
    return [Marker(limit, label, "bad" if limit < longest else "good")]


def _kept(lengths: Lengths, cuts: Sequence[Cut], limit: int | None) -> Chart:
    rows, trained = len(lengths.conversations), max(1, lengths.supervised)
    whole = [1 - cut.rows / rows for cut in cuts]
    kept = [1 - cut.supervised_lost / trained for cut in cuts]
    return cumulative(
        [cut.max_length for cut in cuts],
        [
            Series(Text("prep.lengths.rows_whole"), whole),
            Series(Text("prep.lengths.trainable_kept"), kept),
        ],
        caption=Text("prep.lengths.caption.kept"),
        x_label=Text("prep.lengths.axis.limit"),
        y_label=Text("prep.lengths.axis.kept"),
        markers=_limit_mark(lengths.conversations, limit),
    )


def _cut_table(lengths: Lengths, cuts: Sequence[Cut], limit: int | None) -> Table:
    trained = max(1, lengths.supervised)
    asked = [place for place, cut in enumerate(cuts) if cut.max_length == limit]
    columns = ("limit", "rows", "answers_cut", "without_labels", "lost", "share")
    return Table(
        columns=[
            Column(
                label=Text(f"prep.lengths.column.{name}"),
                numeric=True,
                bar=name in ("rows", "lost"),
                spec="percent" if name == "share" else "",
            )
            for name in columns
        ],
        rows=[
            [
                cut.max_length,
                cut.rows,
                cut.answers_cut,
                cut.without_labels,
                cut.supervised_lost,
                cut.supervised_lost / trained,
            ]
            for cut in cuts
        ],
        caption=Text("prep.lengths.caption.cuts"),
        highlight=asked[0] if asked else None,
    )


def _percentiles(lengths: Lengths) -> Table:
    """A line for conversations, turns, prompts, answers, and each role beside the user."""
    kinds: dict[str, Int64] = {
        "conversation": lengths.conversations,
        "turn": lengths.turns["tokens"].to_numpy().astype(np.int64),
        "prompt": lengths.prompts,
        "answer": lengths.answers,
        **{role: lengths.of_role(role) for role in ROLES_SHOWN if role != "user"},
    }
    heads = [
        Text("prep.lengths.longest" if p == 100 else "prep.lengths.p", p=p) for p in PERCENTILES
    ]
    return Table(
        columns=[
            Column(label=Text("prep.lengths.column.kind")),
            Column(label=Text("prep.lengths.column.count"), numeric=True),
            *(Column(label=head, numeric=True) for head in heads),
        ],
        rows=[
            [Text(f"prep.lengths.kind.{name}"), len(found), *percentiles(found).values()]
            for name, found in kinds.items()
            if len(found)
        ],
        caption=Text("prep.lengths.caption.percentiles"),
    )


def _groups(groups: Sequence[Group]) -> list[Block]:
    """The conversations by language and by use of tools, where there is more than one kind."""
    by_language = [group for group in groups if group.name in LANGUAGES]
    by_tools = [group for group in groups if group.name not in LANGUAGES]
    told = [kinds for kinds in (by_language, by_tools) if len(kinds) > 1]
    charts: list[Block] = [
        _histogram(
            {group.name: group.conversations for group in kinds},
            caption=Text(f"prep.lengths.caption.by_{name}"),
            y_label=Text("prep.lengths.axis.conversations"),
        )
        for name, kinds in (("language", by_language), ("tools", by_tools))
        if kinds in told and _worth_drawing(np.concatenate([g.conversations for g in kinds]))
    ]
    return [*charts, group_table([group for kinds in told for group in kinds])] if told else []


def group_table(groups: Sequence[Group]) -> Table:
    """Conversations by language and use of tools, one line a group."""
    names = ("conversations", "tokens", "trained", "median", "p95", "prompt", "answer")
    return Table(
        columns=[
            Column(label=Text("prep.lengths.column.group")),
            *(
                Column(
                    label=Text(f"prep.lengths.group.{name}"),
                    numeric=True,
                    spec="percent" if name == "trained" else "",
                )
                for name in names
            ),
        ],
        rows=[
            [
                Text(f"prep.lengths.{group.name}"),
                len(group.conversations),
                int(group.conversations.sum()),
                group.supervised / max(1, int(group.conversations.sum())),
                percentiles(group.conversations)["p50"],
                percentiles(group.conversations)["p95"],
                percentiles(group.prompts).get("p50"),
                percentiles(group.answers).get("p50"),
            ]
            for group in groups
        ],
        caption=Text("prep.lengths.caption.groups"),
    )
