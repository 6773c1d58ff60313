"""Conversations that say the same, over the whole data: of each group the best are kept.

A row goes only in favour of one that stays, which it is alike to itself and not just through
others, and only where both have the same numbers, names, negations and calls. A row of a dozen
turns takes 0.9 KB with signatures, and with vectors 0.4 KB and 4 bytes for each dimension: a
million rows 0.9 GB, and with 384 dimensions 1.9 GB.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from glmprep.collect import EXAMPLES, Hit
from glmprep.findings import Example, Severity, rule
from glmprep.labels import Bool, Int64, TokenBatch
from glmprep.merging.meaning import key_chains
from glmprep.merging.quality import quality
from glmprep.merging.sketches import Signatures, Similarity, Sketches, Vectors
from glmprep.records import Conversation, Origin
from glmprep.rules.sets import ALIKE
from glmprep.semantics.embedder import Embedder
from glmprep.sets.neighbours import groups
from glmprep.sets.wholes import fullest, goes_on, runs
from glmprep.text.hashing import UInt64

LEADERS = 256
"""Rows with the same key information that a row of their group is compared with, the best first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alike:
    """Two rows are near duplicates from the similarity `whole` on, and `answers` of their answers.

    `most` rows of a group stay.
    """

    whole: float = ALIKE
    answers: float = ALIKE
    most: int = 1


@rule("DF531", Severity.INFO)
def says_the_same(whole: Similarity, answers: Similarity, alike: Alike) -> Bool:
    """Near duplicates of other rows were dropped.

    Evidence: {count} {count:|conversation was|conversations were} dropped in favour of
    {kept} that {kept:|says|say} the same; the largest group had {most} of them.
    Why: they weigh as one text seen many times, and a validation split that parts them measures
    memory.
    Fix: nothing is to be done; the map of the merge tells which row went in favour of which. If
    rows that differ were dropped, raise the threshold.
    """
    return (whole >= alike.whole) & (answers >= alike.answers)


@rule("DF532", Severity.INFO)
def says_something_else(same_keys: bool, answers: Similarity, alike: Alike) -> bool:
    """Near duplicates were kept, since they differ in meaning.

    Evidence: {count} {count:|conversation is|conversations are} nearly like another one and
    {count:|was|were} kept, since numbers, names, negations, calls, instructions or answers differ.
    Why: several answers to one question, and one answer with another number, are each worth
    learning, unless one of them is wrong.
    Fix: look at the examples, and remove what is wrong.
    """
    return not same_keys or bool((answers < alike.answers).any())


class Groups:
    """Shown each batch once, as a collector is; tells afterwards which rows are not needed.

    Alike are rows whose signatures are (by words), or with an `embedder` the vectors of what is
    asked and of what is answered. One that continues an earlier line is always kept.
    """

    def __init__(self, alike: Alike, embedder: Embedder | None = None) -> None:
        self._alike = alike
        self._sketches: Sketches = Signatures() if embedder is None else Vectors(embedder)
        self._files: dict[str, int] = {}
        self._places = [np.zeros((0, 2), np.int64)]
        self._qualities = [np.zeros((0, 3), np.int64)]
        self._chains = [np.zeros(0, np.uint64)]
        self._answers = [np.zeros(0, np.int64)]

    def add(self, conversations: Sequence[Conversation], tokens: TokenBatch) -> None:
        """Take in a batch of rows and their tokens (see `labels.tokenize`)."""
        rows = [
            fullest(conversations, run)
            for run in runs(conversations)
            if not goes_on(conversations[run.start])
        ]
        if not rows:
            return
        self._sketches.add(conversations, tokens, rows)
        chosen = [conversations[row] for row in rows]
        origins = [c.origin for c in chosen]
        files = [self._files.setdefault(o.path, len(self._files)) for o in origins]
        self._places.append(np.column_stack((files, [o.line for o in origins])))
        self._qualities.append(np.array([quality(c) for c in chosen]))
        chains, offsets = key_chains(chosen)
        self._chains.append(chains)
        self._answers.append(np.diff(offsets))

    def dropped(self) -> Mapping[Origin, Origin]:
        """The rows that go, in the order of reading, each with the one that stays for it."""
        return {self._origin(row): self._origin(kept) for row, kept in self._dropped.items()}

    def hits(self) -> Iterator[Hit]:
        """What was dropped, and what was kept although it is nearly alike."""
        if self._dropped:
            sizes = Counter(self._dropped.values())
            yield Hit(
                rule=says_the_same,
                count=len(self._dropped),
                rows=len(self._dropped),
                examples=self._examples("→", list(self._dropped.items())),
                data={"kept": len(sizes), "most": max(sizes.values()) + 1},
            )
        if self._differing:
            rows = len({row for pair in self._differing for row in pair})
            examples = self._examples("≠", self._differing)
            yield Hit(rule=says_something_else, count=rows, rows=rows, examples=examples)

    @cached_property
    def _links(self) -> Int64:
        return self._sketches.links(self._alike.whole)

    @cached_property
    def _dropped(self) -> dict[int, int]:
        """The rows that go, in order, each with the row that stays for it."""
        leaders: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
        kept: Counter[int] = Counter()
        dropped: dict[int, int] = {}
        for group, row in self._by_quality():
            if not len(chain := self._chain(row)):
                continue
            leader = self._leader(row, leaders[group, chain[-1]])
            if leader is None:
                for key in chain:
                    leaders[group, key].append(row)
            elif kept[leader] + 1 < self._alike.most:
                kept[leader] += 1
            else:
                dropped[row] = leader
        return dict(sorted(dropped.items()))

    @cached_property
    def _differing(self) -> list[tuple[int, int]]:
        """Pairs of rows that are nearly alike and stay, since they do not say the same."""
        return [
            (first, second)
            for first, second in self._links.tolist()
            if first not in self._dropped
            and second not in self._dropped
            and says_something_else(
                self._same_keys(first, second),
                self._sketches.answers(first, np.array([second])),
                self._alike,
            )
        ]

    def _by_quality(self) -> Iterator[tuple[int, int]]:
        """All rows that are like another one, with their group; in each group the best first."""
        first, second = self._links.T
        qualities = np.concatenate(self._qualities)
        label = groups(first, second, len(qualities))
        rows = np.unique(self._links)
        order = np.lexsort((rows, *qualities[rows].T[::-1], label[rows]))
        yield from zip(label[rows][order].tolist(), rows[order].tolist(), strict=True)

    def _leader(self, row: int, among: Sequence[int]) -> int | None:
        """The best of some rows with the same key information that says the same as `row`."""
        if not among:
            return None
        rows = np.array(among[:LEADERS])
        same = says_the_same(
            self._sketches.likeness(row, rows), self._sketches.answers(row, rows), self._alike
        )
        return int(rows[same.argmax()]) if same.any() else None

    def _chain(self, row: int) -> list[int]:
        """The key chain of a row (see `meaning.key_chains`)."""
        chains, offsets = self._all_chains
        return [int(key) for key in chains[offsets[row] : offsets[row + 1]]]

    @cached_property
    def _all_chains(self) -> tuple[UInt64, Int64]:
        offsets = np.concatenate(([0], np.cumsum(np.concatenate(self._answers))))
        return np.concatenate(self._chains), offsets

    def _same_keys(self, one: int, other: int) -> bool:
        """Whether one says all that the other says at its beginning, by its key information."""
        chain, longer = sorted((self._chain(one), self._chain(other)), key=len)
        return bool(chain) and longer[len(chain) - 1] == chain[-1]

    @cached_property
    def _all_places(self) -> Int64:
        return np.concatenate(self._places)

    def _origin(self, row: int) -> Origin:
        file, line = self._all_places[row].tolist()
        return Origin(list(self._files)[file], line)

    def _examples(self, sign: str, pairs: Sequence[tuple[int, int]]) -> list[Example]:
        return [
            Example(where=str(self._origin(one)), excerpt=f"{sign} {self._origin(other)}")
            for one, other in pairs[:EXAMPLES]
        ]
