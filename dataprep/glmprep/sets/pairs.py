"""Does each answer fit its own prompt best, or that of another row?

No model is needed. An answer mostly takes up words of its prompt, and the rare ones among them tell
prompts apart: the fit of an answer to a prompt is the sum of the inverse document frequencies
(Spärck Jones 1972), in nats, of the rare features that both have. An answer tells its prompt where
the two are each other's best match, twice as good as any other. Most answers tell none; those that
do point at their own row in sound data, and elsewhere in data that slipped or was shuffled.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from glmprep.collect import EXAMPLES, Hit
from glmprep.findings import Example
from glmprep.labels import Int64, TokenBatch
from glmprep.records import Conversation, Origin
from glmprep.rules.pairs import shifted_answers, shuffled_answers, swapped_answers
from glmprep.sets.wholes import wholes
from glmprep.text.ngrams import LONGEST, features

BLOCK = 1 << 15
"""Rows that are compared with one another; with a block the memory of its features is given back,
about 500 bytes a row."""
TOGETHER = 1 << 10
"""Rows whose features are counted together, so that the result does not depend on batches."""
AT_ONCE = 1 << 10
"""Answers that are compared with the prompts of their block together."""
BUCKETS = 1 << 20
RAREST = 32
"""Features that are kept of a text."""
COMMON = 16
"""A feature of more prompts than this in a block tells none of them apart."""
TELLING = 12.0
MARGIN = 2.0
FITS = {"answer": pl.Int32, "prompt": pl.Int32, "fit": pl.Float64}
UInt32 = npt.NDArray[np.uint32]
Exchange = tuple[Origin, str, str]


class Pairs:
    """Matches the first answer of each conversation with the prompts of its block."""

    def __init__(self) -> None:
        self._seen = np.zeros((2, BUCKETS), np.int32)
        self._waiting: list[Exchange] = []
        self._rows = 0
        self._block = _Block()
        self._own = 0
        self._offsets: Counter[int] = Counter()
        self._elsewhere: dict[int, list[Example]] = {}
        self._swaps = 0
        self._swapped: list[Example] = []

    def add(self, conversations: Sequence[Conversation], tokens: TokenBatch) -> None:
        """Keep the rarest features of a batch."""
        for one in wholes(conversations):
            if exchange := _first(one):
                self._waiting.append((one.origin, *exchange))
            if len(self._waiting) == TOGETHER:
                self._take()

    def _take(self) -> None:
        """Keep the rarest features of the rows that wait."""
        found, self._waiting = self._waiting, []
        origins, prompts, answers = zip(*found, strict=True)
        sides = [features(prompts), features(answers)]
        for seen, (_, feature) in zip(self._seen, sides, strict=True):
            seen += np.bincount(feature % BUCKETS, minlength=BUCKETS).astype(np.int32)
        self._rows += len(found)
        self._block.add(origins, [self._rarest(side, *sides[side]) for side in (0, 1)])
        if len(self._block.origins) >= BLOCK:
            self._match()

    def hits(self) -> Iterator[Hit]:
        """Shifted, shuffled and swapped answers."""
        if self._waiting:
            self._take()
        self._match()
        others = self._offsets.total()
        told = self._own + others
        offset = shifted_answers(self._offsets, told)
        if offset is not None:
            count = self._offsets[offset]
            yield Hit(
                rule=shifted_answers,
                count=count,
                rows=count,
                examples=self._elsewhere[offset],
                data={"offset": offset, "told": told},
            )
        elif shuffled_answers(self._own, others, self._rows):
            examples = [shown[0] for shown in list(self._elsewhere.values())[:EXAMPLES]]
            yield Hit(
                rule=shuffled_answers,
                count=others,
                rows=others,
                examples=examples,
                data={"told": told},
            )
        elif self._swaps:
            yield Hit(
                rule=swapped_answers,
                count=self._swaps,
                rows=2 * self._swaps,
                examples=self._swapped,
            )

    def _rarest(self, side: int, text: Int64, feature: UInt32) -> tuple[Int64, UInt32]:
        """The rarest features of each text, before all those that the other side has too."""
        bucket = feature % BUCKETS
        one_sided = self._seen[1 - side][bucket] == 0
        order = np.lexsort((self._seen.sum(axis=0)[bucket], one_sided, text))
        text, feature = text[order], feature[order]
        kept = np.arange(len(text)) - np.searchsorted(text, text) < RAREST
        return text[kept], feature[kept]

    def _match(self) -> None:
        """Compare all rows of the block, count what is found, and begin a new one."""
        block, self._block = self._block, _Block()
        weight = np.log((2 * self._rows + 1) / (self._seen.sum(axis=0) + 1))
        fits = block.fits(weight)
        for answer, prompt in told(fits).rows():
            offset = prompt - answer
            if offset == 0:
                self._own += 1
                continue
            self._offsets[offset] += 1
            shown = self._elsewhere.setdefault(offset, [])
            if len(shown) < EXAMPLES:
                shown.append(block.example(answer, "→", prompt))
        found = swaps(fits)
        self._swaps += found.height
        left = EXAMPLES - len(self._swapped)
        self._swapped += [block.example(one, "↔", other) for one, other in found.head(left).rows()]


class _Block:
    """Rows, and the features of their prompts and answers."""

    def __init__(self) -> None:
        self.origins: list[Origin] = []
        self._sides: list[list[pl.DataFrame]] = [[], []]

    def add(self, origins: Sequence[Origin], sides: Sequence[tuple[Int64, UInt32]]) -> None:
        for name, tables, (text, feature) in zip(
            ("prompt", "answer"), self._sides, sides, strict=True
        ):
            row = (text + len(self.origins)).astype(np.int32)
            tables.append(pl.DataFrame({name: row, "feature": feature}))
        self.origins += origins

    def fits(self, weight: npt.NDArray[np.float64]) -> pl.DataFrame:
        """`answer`, `prompt` and `fit` of rows that share two rare features, or one with itself."""
        if not self.origins:
            return pl.DataFrame(schema=FITS)
        prompts, answers = (pl.concat(tables) for tables in self._sides)
        prompts = prompts.filter(pl.len().over("feature") <= COMMON)
        weights = pl.Series("weight", weight[prompts["feature"].to_numpy() % BUCKETS])
        prompts = prompts.with_columns(weights)
        # A part of the answers at a time: they meet most prompts in one feature only.
        parts = answers.with_columns(part=pl.col("answer") // AT_ONCE).partition_by(
            "part", include_key=False, maintain_order=True
        )
        found = [
            part.join(prompts, on="feature")
            .group_by("answer", "prompt")
            .agg(fit=pl.col("weight").sum(), shared=pl.len())
            .filter((pl.col("shared") > 1) | (pl.col("answer") == pl.col("prompt")))
            .drop("shared")
            for part in parts
        ]
        return pl.concat([pl.DataFrame(schema=FITS), *found])

    def example(self, answer: int, sign: str, prompt: int) -> Example:
        return Example(where=str(self.origins[answer]), excerpt=f"{sign} {self.origins[prompt]}")


def told(fits: pl.DataFrame) -> pl.DataFrame:
    """`answer` and `prompt` of those that are each other's best match by far."""
    rival = np.maximum(_rival(fits, "answer"), _rival(fits, "prompt"))
    telling = (pl.col("fit") >= TELLING) & (pl.col("fit") >= MARGIN * rival)
    return fits.filter(telling).select("answer", "prompt").sort("answer")


def swaps(fits: pl.DataFrame) -> pl.DataFrame:
    """`answer` < `prompt` of pairs of rows that have each other's answer."""
    back = ["prompt", "answer"]
    own = fits.filter(pl.col("answer") == pl.col("prompt")).select("answer", own="fit")
    crossed = (
        fits.with_columns(best=pl.col("fit").max().over("answer"))
        .filter(pl.col("answer") != pl.col("prompt"))
        .join(own, on="answer", how="left")
        .with_columns(pl.col("own").fill_null(0))
    )
    return (
        crossed.join(crossed, left_on=["answer", "prompt"], right_on=back, suffix="_back")
        .filter((pl.col("answer") < pl.col("prompt")) & swapped_answers())
        .select("answer", "prompt")
        .sort("answer", "prompt")
    )


def _rival(fits: pl.DataFrame, side: str) -> npt.NDArray[np.float64]:
    """For each line the best fit among the other lines of the same prompt or answer, 0 if none."""
    group, fit = fits[side].to_numpy(), fits["fit"].to_numpy()
    order = np.lexsort((fit, group))
    ends = np.flatnonzero(np.append(group[order][1:] != group[order][:-1], True)[: len(fit)])
    best = np.repeat(fit[order][ends], np.diff(ends, prepend=-1))
    second = np.where(np.diff(ends, prepend=-1) > 1, fit[order][ends - 1], 0.0)
    best[ends] = second
    rival = np.empty_like(best)
    rival[order] = best
    return rival


def _first(conversation: Conversation) -> tuple[str, str] | None:
    """What the user says first, and the first answer to it with the calls that it makes."""
    messages = conversation.messages
    for turn, message in enumerate(messages):
        if message.role != "assistant":
            continue
        asked = [m.content for m in messages[:turn] if m.role == "user"]
        calls = [call.arguments for call in message.tool_calls]
        if asked:
            answer = "\n".join([message.content, *calls])
            return "\n".join(asked)[:LONGEST], answer[:LONGEST]
    return None
