"""Conversations for the gallery's runs, and the few words of the vocabulary that they use.

A run has to take seconds on one core, and GLM-4's output layer has 151,552 rows. So a model of the
gallery has rows only for the ids that its run uses, numbered anew, and every run reads its data
through `Words`. Shards, datasets and all that is recorded hold GLM-4's own ids.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from cache import CACHE, drawn, once
from glmprep import shards
from glmprep.shards import Manifest, Rows

VOCABULARY = 151552
IGNORED = -100
PAD, END, USER, ASSISTANT, OBSERVATION = 151329, 151329, 151336, 151337, 151338
STOPS = (END, USER, OBSERVATION)
SAMPLES = ("counselling", "toolcalls")
LONGEST = 384
POOL, FOR_RUNS = 420, 160
"""Rows of a sample that are used, and how many of them are for the runs, not for the base."""


@dataclass(frozen=True, slots=True)
class Row:
    """One tokenized conversation: ids and labels of like length, in GLM-4's numbers."""

    ids: tuple[int, ...]
    labels: tuple[int, ...]

    @property
    def trained(self) -> int:
        """How many labels it has."""
        return sum(label != IGNORED for label in self.labels)

    def cut(self, length: int) -> Row:
        """What a length limit leaves of it."""
        return Row(self.ids[:length], self.labels[:length])


@cache
def pool(sample: str) -> tuple[Row, ...]:
    """All conversations of a sample that are short enough, as `glmprep bucket` tokenizes them."""
    _, rows = shards.read(once(CACHE / f"pool-{sample}", lambda to: _bucket(sample, to)))
    found = to_rows(rows)
    np.random.default_rng(7).shuffle(found)
    return tuple(found[:POOL])


def for_base() -> list[Row]:
    """What the base model learns from."""
    return [row for sample in SAMPLES for row in pool(sample)[:-FOR_RUNS]]


def to_rows(rows: Rows) -> list[Row]:
    """The rows of a shard folder."""
    found = []
    for start, end in zip(rows.offsets[:-1], rows.offsets[1:], strict=True):
        ids, mask = rows.input_ids[start:end], rows.loss_mask[start:end] == 1
        labels = np.where(mask, ids, IGNORED)
        found.append(Row(tuple(ids.tolist()), tuple(labels.tolist())))
    return found


def take(sample: str, count: int, seed: int, *, longest: int = 256) -> list[Row]:
    """So many rows of a sample that the base model has not seen; others for another seed."""
    free = [row for row in pool(sample)[-FOR_RUNS:] if len(row.ids) <= longest]
    chosen = np.random.default_rng([drawn(seed), count]).permutation(len(free))[:count]
    return [free[place] for place in chosen]


class Words:
    """The ids that the samples use, and the numbers that they have inside the gallery's models."""

    def __init__(self, known: Sequence[int]) -> None:
        kept = {token for token in known if token >= 0}
        self.known = np.array(sorted({*kept, *range(PAD, OBSERVATION + 5)}), np.int64)
        self._numbers = np.zeros(VOCABULARY, np.int64)
        self._numbers[self.known] = np.arange(len(self.known))

    def __len__(self) -> int:
        return len(self.known)

    def inside(self, ids: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """The model's numbers of GLM-4's ids; labels that are ignored stay so."""
        given = np.asarray(ids, np.int64)
        return np.where(given < 0, given, self._numbers[given])

    def rows(self, rows: Rows) -> Rows:
        """Shards' rows as the model reads them."""
        return replace(rows, input_ids=self.inside(rows.input_ids).astype(np.int32))

    def manifest(self, manifest: Manifest) -> Manifest:
        """A manifest in the model's numbers."""
        stops = [int(stop) for stop in self.inside(list(manifest.stop_ids))]
        pad = int(self.inside(manifest.pad_id))
        return replace(manifest, vocab_size=len(self), pad_id=pad, stop_ids=stops)


@cache
def all_words() -> Words:
    """Those of all samples."""
    return Words([token for sample in SAMPLES for row in pool(sample) for token in row.ids])


_of_this_run: list[Words] = []


def words() -> Words:
    """Those of this process's run, or of all samples before one has begun."""
    return _of_this_run[-1] if _of_this_run else all_words()


def choose(rows: Sequence[Row]) -> None:
    """From here on this process's models know the words of these rows alone."""
    _of_this_run.append(Words([token for row in rows for token in (*row.ids, *row.labels)]))


def _bucket(sample: str, folder: Path) -> None:
    """Shards of a sample's conversations, those with short beginnings cut behind an answer."""
    folder.mkdir(parents=True)
    source = folder.with_suffix(".jsonl")
    source.write_text("".join(_openings(sample)), "utf-8")
    start = "from glmprep.cli import main; main()"
    sized = ("--max-length", str(LONGEST), "--max-rejects", "1", "--workers", "1", "--quiet")
    command = [sys.executable, "-c", start, "bucket", str(source), *sized, "-o", str(folder)]
    subprocess.run(command, check=True)


def _openings(sample: str) -> Sequence[str]:
    """The first exchanges of each conversation, as JSON Lines; tool calls with their results."""
    import gzip
    from importlib import resources

    packed = resources.files("glmprep") / f"assets/samples/{sample}.jsonl.gz"
    found = []
    for line in gzip.decompress(packed.read_bytes()).splitlines():
        record = json.loads(line)
        name = "messages" if "messages" in record else "conversations"
        record[name] = record[name][:4]
        if record[name][-1].get("role", record[name][-1].get("from")) in ("assistant", "gpt"):
            found.append(json.dumps(record, ensure_ascii=False) + "\n")
    return found
