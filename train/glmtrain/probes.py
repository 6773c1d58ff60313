"""What a model says of itself, before and after; and whether its answers come to an end."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import orjson
from glmprep.errors import InputError
from glmprep.labels import tokenize
from glmprep.records import Conversation, Message

from glmtrain.batched import speak
from glmtrain.forgetting import Pair, mean_loss
from glmtrain.generate import Sampler, Sampling, Speaker
from glmtrain.prompt import CHAT, Prompter

PHRASE, TIMES, LEAST = 64, 4, 24
"""A loop is a phrase of so many tokens at most, so many times in a row, over so many tokens."""
MOST_PROBES = 200
QUESTIONS = (
    "你是谁？",
    "你叫什么名字？",
    "你是哪家公司开发的？",
    "Who are you?",
    "What is your name?",
    "Who developed you?",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """Tokens that were generated, without the one that ended them; `stop` is that, if it came."""

    tokens: Sequence[int]
    stop: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How one answer ended; `wanted` is how many tokens its reference has.

    `fits` says whether the reference, with its stop, is within the limit of the answer.
    """

    tokens: int
    wanted: int
    fits: bool
    stopped: bool
    loops: bool
    reference_loops: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Endings:
    """How answers ended. `endless` counts those, of the `fitting`, that reached the limit."""

    answers: int
    fitting: int
    endless: int
    loops: int
    reference_loops: int
    median_tokens: float
    median_wanted: float

    @classmethod
    def of(cls, endings: Sequence[Ending]) -> Endings:
        """The counts of at least one answer."""
        fitting = [ending for ending in endings if ending.fits]
        return cls(
            answers=len(endings),
            fitting=len(fitting),
            endless=sum(not ending.stopped for ending in fitting),
            loops=sum(ending.loops for ending in endings),
            reference_loops=sum(ending.reference_loops for ending in endings),
            median_tokens=median(ending.tokens for ending in endings),
            median_wanted=median(ending.wanted for ending in endings),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A question, and the answer that the training data teaches, where that is known."""

    question: str
    expected: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a model answers to a probe, and its mean loss on the expected answer's tokens."""

    text: str
    stopped: bool
    expected_loss: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """A probe with the replies of the model and, where there is one, of its base."""

    probe: Probe
    reply: Reply
    base: Reply | None

    @property
    def changed(self) -> bool | None:
        """Whether model and base answer differently, None without a base."""
        return None if self.base is None else self.base.text != self.reply.text


def say(
    speaker: Speaker, prompts: Sequence[Sequence[int]], stops: Collection[int], most: int
) -> list[Said]:
    """The likeliest tokens behind each prompt, up to a stop or `most` of them."""
    greedy = [Sampler(Sampling()) for _ in prompts]
    spoken = speak(speaker, prompts, greedy, stops=stops, most=most)
    return [
        Said(tokens=tokens[:-1], stop=tokens[-1])
        if tokens[-1] in stops
        else Said(tokens=tokens, stop=None)
        for tokens in spoken
    ]


def loops(tokens: Sequence[int]) -> bool:
    """Whether the tokens end in a loop: one phrase again and again (see PHRASE)."""
    ids = np.asarray(tokens, dtype=np.int64)
    for phrase in range(1, PHRASE + 1):
        tail = max(TIMES * phrase, LEAST)
        if tail > len(ids):
            return False
        end = ids[-tail:]
        if np.array_equal(end[phrase:], end[:-phrase]):
            return True
    return False


def read_probes(path: Path) -> list[Probe]:
    """Probes from JSON Lines: {"question": …, "expected": …}, the second may be left out.

    Raises InputError for any other line, for none, and for more than MOST_PROBES.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    places = [f"{path}:{number}" for number, line in enumerate(lines, 1) if line.strip()]
    if not 0 < len(places) <= MOST_PROBES:
        raise InputError(f"{path}: {len(places)} probes; from 1 to {MOST_PROBES} can be asked")
    return [_probe(p, line) for p, line in zip(places, filter(bytes.strip, lines), strict=True)]


def ask(
    pair: Pair | None, speaker: Speaker, prompter: Prompter, probes: Sequence[Probe], most: int
) -> list[Probed]:
    """Put each probe to the model and to its base, if any, alone and without a system message."""

    tuned = _replies(speaker, prompter, probes, most)
    if pair is None:
        return [Probed(probe=p, reply=r, base=None) for p, r in zip(probes, tuned, strict=True)]
    with pair.base() as causal:
        based = _replies(replace(speaker, causal=causal), prompter, probes, most)
    made = zip(probes, tuned, based, strict=True)
    return [Probed(probe=probe, reply=reply, base=base) for probe, reply, base in made]


def _probe(place: str, line: bytes) -> Probe:
    try:
        value: Any = orjson.loads(line)
    except ValueError as error:
        raise InputError(f"{place}: not JSON ({error})") from error
    known = isinstance(value, dict) and value.keys() <= {"question", "expected"}
    if not known or not all(isinstance(text, str) and text.strip() for text in value.values()):
        raise InputError(f'{place}: write {{"question": TEXT, "expected": TEXT}}')
    if "question" not in value:
        raise InputError(f"{place}: no question")
    return Probe(**value)


def _replies(
    speaker: Speaker, prompter: Prompter, probes: Sequence[Probe], most: int
) -> list[Reply]:
    questions = [Message(role="user", content=probe.question) for probe in probes]
    said = say(speaker, [prompter([question]) for question in questions], prompter.stops, most)
    return [
        Reply(
            text=prompter.answer(prompter.tokenizer.decode(one.tokens)).content,
            stopped=one.stop is not None,
            expected_loss=None
            if probe.expected is None
            else _expected_loss(speaker, prompter, question, probe.expected),
        )
        for probe, question, one in zip(probes, questions, said, strict=True)
    ]


def _expected_loss(speaker: Speaker, prompter: Prompter, question: Message, expected: str) -> float:
    answer = Message(role="assistant", content=expected)
    asked = Conversation(id=CHAT.path, messages=(question, answer), origin=CHAT)
    told = tokenize([asked], prompter.family, prompter.tokenizer)
    return mean_loss(speaker.causal, speaker.precision, told.ids.tolist(), told.mask.tolist())
