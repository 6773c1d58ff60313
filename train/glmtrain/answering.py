"""Answers to the last question of many conversations, in their order."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Literal, TypeAlias

from glmprep import canonical
from glmprep.errors import UsageError
from glmprep.records import Conversation, Message, Origin

from glmtrain.batched import speak
from glmtrain.conversation import Prompt, Running
from glmtrain.generate import Sampler, Sampling
from glmtrain.inference import Inference

BATCHES_SORTED = 16
"""So many batches are read ahead, to answer prompts of like lengths together."""
Ended: TypeAlias = Literal["stop", "length", "too long", "no question"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A conversation up to its last question, with the answer if there is one.

    `stop` is the token at which the model ended. `seconds` are those of the batch that the answer
    was made in.
    """

    conversation: Conversation
    ended: Ended
    stop: str | None = None
    prompt_tokens: int = 0
    answer_tokens: int = 0
    seconds: float = 0.0

    def line(self) -> bytes:
        """As a line of canonical JSON Lines."""
        facts = {"prompt_tokens": self.prompt_tokens, "answer_tokens": self.answer_tokens}
        ends = {"ended": self.ended, "stop": self.stop, "seconds": round(self.seconds, 4)}
        return canonical.line(self.conversation, **facts, **ends)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answering:
    """Answers with `made`, `rows` prompts at a time; row n draws with the seed plus n."""

    made: Inference
    sampling: Sampling
    rows: int = 1

    def __call__(self, conversations: Iterable[Conversation]) -> Iterator[Answered]:
        """An answer for each conversation."""
        numbered = enumerate(conversations)
        while chunk := list(islice(numbered, self.rows * BATCHES_SORTED)):
            yield from self._chunk(chunk)

    def _chunk(self, chunk: Sequence[tuple[int, Conversation]]) -> Iterator[Answered]:
        asked = {number: question(conversation) for number, conversation in chunk}
        prompts = {number: self._ids(one) for number, one in asked.items() if _asks(one)}
        found = {number: ids for number, ids in prompts.items() if ids}
        order = sorted(found, key=lambda number: len(found[number]))
        said: dict[int, Answered] = {}
        for begin in range(0, len(order), self.rows):
            batch = order[begin : begin + self.rows]
            said |= self._batch({number: (asked[number], found[number]) for number in batch})
        for number, conversation in asked.items():
            ended: Ended = "too long" if number in prompts else "no question"
            yield said.get(number) or Answered(conversation=conversation, ended=ended)

    def _batch(self, batch: dict[int, tuple[Conversation, Sequence[int]]]) -> dict[int, Answered]:
        made, begun = self.made, time.perf_counter()
        seeds = [(self.sampling.seed + number) % 2**32 for number in batch]
        spoken = speak(
            made.speaker,
            [ids for _, ids in batch.values()],
            [Sampler(replace(self.sampling, seed=seed)) for seed in seeds],
            stops=made.prompter.stops,
            most=made.window.max_new_tokens,
        )
        seconds = time.perf_counter() - begun
        rows = zip(batch.items(), spoken, strict=True)
        return {
            number: self._answered(conversation, len(ids), tokens, seconds)
            for (number, (conversation, ids)), tokens in rows
        }

    def _answered(
        self, asked: Conversation, prompt: int, tokens: list[int], seconds: float
    ) -> Answered:
        tokenizer = self.made.prompter.tokenizer
        stopped = tokens[-1] in self.made.prompter.stops
        text = tokenizer.decode(tokens[:-1] if stopped else tokens)
        answer = self.made.prompter.answer(text)
        return Answered(
            conversation=replace(asked, messages=(*asked.messages, answer)),
            ended="stop" if stopped else "length",
            stop=tokenizer.decode(tokens[-1:]) if stopped else None,
            prompt_tokens=prompt,
            answer_tokens=len(tokens) - stopped,
            seconds=seconds,
        )

    def _ids(self, asked: Conversation) -> Sequence[int] | None:
        """The prompt's ids, with less of what came before where all does not fit; None for none."""
        made = self.made
        ids = made.prompter(asked.messages, asked.tools)
        if len(ids) + made.window.max_new_tokens <= made.window.max_length:
            return ids
        if asked.tools:  # they were never left out in training
            return None
        head = [message for message in asked.messages if message.role == "system"]
        *said, last = (message for message in asked.messages if message.role != "system")
        try:
            running = Running(made.prompter, made.before, made.window, head=head)
        except UsageError:
            return None
        running.said = said
        prompt = running.ask(last.content)
        return prompt.ids if isinstance(prompt, Prompt) else None


def question(conversation: Conversation) -> Conversation:
    """The conversation up to the last thing that the user said."""
    places = [n for n, message in enumerate(conversation.messages, 1) if message.role == "user"]
    return replace(conversation, messages=conversation.messages[: places[-1] if places else 0])


def prompt(text: str, place: Origin, system: str | None = None) -> Conversation:
    """A conversation of one question."""
    head = (Message(role="system", content=system),) if system else ()
    asked = Message(role="user", content=text)
    return Conversation(id=f"{place.path}-{place.line}", messages=(*head, asked), origin=place)


@dataclass(slots=True)
class Tally:
    """Counts over all answers."""

    ended: Counter[Ended] = field(default_factory=Counter)
    answer_tokens: int = 0

    def add(self, answered: Answered) -> None:
        """Count one."""
        self.ended[answered.ended] += 1
        self.answer_tokens += answered.answer_tokens

    @property
    def unanswered(self) -> int:
        """How many have no answer."""
        return self.ended["too long"] + self.ended["no question"]

    def as_json(self, seconds: float) -> dict[str, Any]:
        """The counts and the speed, as plain JSON values."""
        return {
            "conversations": self.ended.total(),
            "ended": dict(self.ended),
            "answer_tokens": self.answer_tokens,
            "seconds": round(seconds, 3),
            "tokens_per_second": round(self.answer_tokens / seconds, 1),
        }


def _asks(conversation: Conversation) -> bool:
    return bool(conversation.messages)
