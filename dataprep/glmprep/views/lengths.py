"""Token lengths as charts and tables, and what each maximum length would cut."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from glmreport.charts import Marker, Series, cumulative, edges, histogram
from glmreport.page import Block, Chart, Column, Paragraph, Table
from glmreport.text import Text

from glmprep.lengths import PERCENTILES, Cut, Lengths, percentiles

Int64 = npt.NDArray[np.int64]
MARKED = (50, 95, 99)
MOST_BINS = 44
FAR = 2
"""A limit more than so many times the longest conversation says nothing; it is not drawn."""


def length_blocks(lengths: Lengths, limit: int | None) -> list[Block]:
    """How long conversations and turns are."""
    return [_conversations(lengths.conversations, limit), *_turns(lengths), _percentiles(lengths)]


def limit_blocks(lengths: Lengths, limit: int | None) -> list[Block]:
    """What each maximum length would lose; one sentence where none of them loses anything."""
    cuts = _telling(lengths.cuts(), limit)
    if not cuts[0].rows:
        return [Paragraph(Text("prep.lengths.nothing_cut", tokens=cuts[0].max_length))]
    chart = [_kept(lengths, cuts, limit)] if len(cuts) > 1 else []
    return [*chart, _cut_table(lengths, cuts, limit)]


def _telling(cuts: Sequence[Cut], limit: int | None) -> list[Cut]:
    """Limits up to the first that cuts nothing, and the one that was asked about."""
    useful = sum(cut.rows > 0 for cut in cuts) + 1
    return [cut for place, cut in enumerate(cuts) if place < useful or cut.max_length == limit]


def _conversations(lengths: Int64, limit: int | None) -> Block:
    if len(np.unique(lengths)) == 1:
        only = Text("prep.lengths.all_alike", rows=len(lengths), tokens=int(lengths[0]))
        return Paragraph(only)
    return histogram(
        [Series(Text("prep.lengths.conversations"), _counts(lengths, bins := _bins(lengths)))],
        bins,
        caption=Text("prep.lengths.caption.conversations"),
        x_label=Text("prep.lengths.axis.tokens"),
        y_label=Text("prep.lengths.axis.conversations"),
        markers=[*_percentile_marks(lengths), *_limit_mark(lengths, limit)],
    )


def _turns(lengths: Lengths) -> list[Chart]:
    kinds = {"prompts": lengths.prompts, "answers": lengths.answers}
    kinds = {name: turns for name, turns in kinds.items() if len(turns)}
    every = np.concatenate([np.zeros(0, np.int64), *kinds.values()])
    if len(np.unique(every)) < 2:
        return []
    bins = _bins(every)
    chart = histogram(
        [Series(Text(f"prep.lengths.{name}"), _counts(kinds[name], bins)) for name in kinds],
        bins,
        caption=Text(f"prep.lengths.caption.{'_'.join(kinds)}"),
        x_label=Text("prep.lengths.axis.tokens"),
        y_label=Text("prep.lengths.axis.turns"),
    )
    return [chart]


def _bins(lengths: Int64) -> list[float]:
    """Bin edges at whole numbers, as evenly spaced on a logarithmic axis as these allow."""
    low, high = int(lengths.min()), int(lengths.max()) + 1
    bins = min(MOST_BINS, max(8, round(len(lengths) ** 0.5)))
    return sorted({float(round(edge)) for edge in edges(low, high, bins)})


def _counts(lengths: Int64, bins: Sequence[float]) -> list[float]:
    return [float(count) for count in np.histogram(lengths, bins)[0]]


def _percentile_marks(lengths: Int64) -> list[Marker]:
    values = percentiles(lengths)
    return [
        Marker(values[f"p{p}"], Text("prep.lengths.mark.percentile", p=p, tokens=values[f"p{p}"]))
        for p in MARKED
    ]


def _limit_mark(lengths: Int64, limit: int | None) -> list[Marker]:
    longest = int(lengths.max())
    if limit is None or limit > longest * FAR:
        return []
    level = "bad" if limit < longest else "good"
    return [Marker(limit, Text("prep.lengths.mark.limit", tokens=limit), level)]


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
    kinds = {
        "conversation": lengths.conversations,
        "prompt": lengths.prompts,
        "answer": lengths.answers,
    }
    found = {kind: percentiles(values) for kind, values in kinds.items()}
    names = [Text(f"prep.lengths.{name}") for name in ("longest",)]
    rows = [
        [
            names[0] if p == 100 else Text("prep.lengths.percentile", p=p),
            *(found[kind].get(f"p{p}") for kind in kinds),
        ]
        for p in PERCENTILES
    ]
    head = [Column(label=Text("prep.lengths.column.share_of"))]
    return Table(
        columns=head
        + [Column(label=Text(f"prep.lengths.column.{kind}"), numeric=True) for kind in kinds],
        rows=rows,
        caption=Text("prep.lengths.caption.percentiles"),
    )


assert pairwise
