"""Answers that a model generates to held-out conversations, beside those that people gave.

What is asked and what would be right are read off the ids of training: a prompt is all that stands
before the first trained token of an answer, and the reference goes on to its stop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from glmprep.errors import InputError
from glmprep.families import Family
from glmprep.families.roles import OBSERVATION
from glmprep.labels import tokenize
from glmprep.languages import LANGUAGES, languages
from glmprep.records import Conversation
from glmprep.source import Source
from glmprep.stream import Stream
from glmprep.tokenizer import Tokenizer

from glmtrain.conversation import Window
from glmtrain.evaluate import answer_begins
from glmtrain.generate import Speaker
from glmtrain.likeness import Scores, compare
from glmtrain.probes import Ending, Said, loops, say
from glmtrain.prompt import Prompter
from glmtrain.toolcalls import Call, calls_of

Turns: TypeAlias = Literal["last", "all"]
AT_ONCE = 8
"""Answers that are generated together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """The ids to be answered, those of the reference, and the stop that ends it."""

    where: str
    language: str
    prompt: Sequence[int]
    reference: Sequence[int]
    stop: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of a task.

    Calls are None for an answer that is no tool call, empty for one that cannot be read.
    """

    task: Task
    ending: Ending
    text: str
    reference: str
    calls: Sequence[Call] | None
    wanted: Sequence[Call] | None

    def as_json(self) -> dict[str, Any]:
        """The answer as JSON values."""
        return {
            "where": self.task.where,
            "language": self.task.language,
            "answer": self.text,
            "reference": self.reference,
            "calls": self.calls,
            "reference_calls": self.wanted,
            **asdict(self.ending),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class CallScores:
    """Of `wanted` references that call tools: answers that call any, the same ones, and alike.

    References that cannot be read as calls are not counted. `needless` counts calls among the
    answers to `texts`, references that call none.
    """

    language: str
    wanted: int
    called: int
    named: int
    exact: int
    texts: int
    needless: int


def read(paths: Sequence[str]) -> list[Conversation]:
    """The conversations of files; raises InputError where there is none."""
    stream = Stream(Source(paths=tuple(paths)))
    found = [item for item in stream.items() if isinstance(item, Conversation)]
    if not found:
        raise InputError(stream.nothing_left("holds a conversation"))
    return found


def tasks(
    conversations: Sequence[Conversation], family: Family, tokenizer: Tokenizer, turns: Turns
) -> list[Task]:
    """The last answer of each conversation, or all, as far as they are whole and trained."""
    spoken = languages(conversations)
    made = []
    for conversation, language in zip(conversations, spoken.tolist(), strict=True):
        found = [
            task
            for row in family.rows(conversation)
            for task in _of_row(row, family, tokenizer, LANGUAGES[language])
        ]
        made += found[-1:] if turns == "last" else found
    return made


def draw(found: Sequence[Task], count: int, seed: int) -> list[Task]:
    """So many tasks at random, in their order."""
    chosen = np.random.default_rng([seed]).permutation(len(found))[:count]
    return [found[place] for place in sorted(chosen.tolist())]


def generate(
    found: Sequence[Task],
    speaker: Speaker,
    prompter: Prompter,
    window: Window,
    progress: Callable[[int, int], None],
) -> Iterator[Answer]:
    """The likeliest answer to each task that leaves room for one, by length of the prompt."""
    most = window.max_new_tokens
    fitting = [task for task in found if len(task.prompt) + most <= window.max_length]
    fitting.sort(key=lambda task: len(task.prompt))
    for start in range(0, len(fitting), AT_ONCE):
        progress(start, len(fitting))
        batch = fitting[start : start + AT_ONCE]
        spoken = say(speaker, [task.prompt for task in batch], prompter.stops, most)
        for task, said in zip(batch, spoken, strict=True):
            yield _answer(task, said, prompter, most)
    progress(len(fitting), len(fitting))


def scores(answers: Sequence[Answer]) -> list[Scores]:
    """How like their references the answers are that should be texts, by language."""
    texts = [answer for answer in answers if answer.wanted is None]
    return [
        compare(name, [(a.text, a.reference) for a in texts if a.task.language == name])
        for name in _spoken(texts)
    ]


def call_scores(answers: Sequence[Answer]) -> list[CallScores]:
    """How tool calls match their references, by language; none where no reference is one."""
    if all(answer.wanted is None for answer in answers):
        return []
    return [
        _call_scores(name, [answer for answer in answers if answer.task.language == name])
        for name in _spoken(answers)
    ]


def _of_row(row: Conversation, family: Family, tokenizer: Tokenizer, language: str) -> list[Task]:
    tokens = tokenize([row], family, tokenizer)
    ids, trained = tokens.ids, tokens.mask == 1
    begins = np.flatnonzero(answer_begins(ids, trained, np.zeros_like(trained), family.stops))
    ends = np.flatnonzero(trained & np.isin(ids, list(family.stops)))
    # An answer without a stop is a piece of a turn that was cut.
    starts = begins[np.searchsorted(begins, ends, "right") - 1]
    return [
        Task(
            where=str(row.origin),
            language=language,
            prompt=ids[:start].tolist(),
            reference=ids[start:end].tolist(),
            stop=int(ids[end]),
        )
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
    ]


def _answer(task: Task, said: Said, prompter: Prompter, most: int) -> Answer:
    wanted, reference = _read(task.reference, task.stop, prompter)
    calls, text = _read(said.tokens, said.stop, prompter)
    return Answer(
        task=task,
        ending=Ending(
            tokens=len(said.tokens),
            wanted=len(task.reference),
            fits=len(task.reference) < most,
            stopped=said.stop is not None,
            loops=loops(said.tokens),
            reference_loops=loops(task.reference),
        ),
        text=text,
        reference=reference,
        calls=calls,
        wanted=wanted,
    )


def _read(
    tokens: Sequence[int], stop: int | None, prompter: Prompter
) -> tuple[list[Call] | None, str]:
    """The tool calls, where the answer ends as such do, and the text without what was thought."""
    text = prompter.tokenizer.decode(tokens)
    called = stop is not None and stop == prompter.tokenizer.added.get(OBSERVATION)
    return calls_of(text) if called else None, prompter.answer(text).content


def _spoken(answers: Sequence[Answer]) -> list[str]:
    found = {answer.task.language for answer in answers}
    return [name for name in LANGUAGES if name in found]


def _call_scores(language: str, answers: Sequence[Answer]) -> CallScores:
    wanted = [answer for answer in answers if answer.wanted]
    called = [answer for answer in wanted if answer.calls is not None]
    texts = [answer for answer in answers if answer.wanted is None]
    return CallScores(
        language=language,
        wanted=len(wanted),
        called=len(called),
        named=sum(_names(answer.calls) == _names(answer.wanted) for answer in called),
        exact=sum(answer.calls == answer.wanted for answer in called),
        texts=len(texts),
        needless=sum(answer.calls is not None for answer in texts),
    )


def _names(calls: Sequence[Call] | None) -> list[str]:
    return [name for name, _ in calls or ()]
