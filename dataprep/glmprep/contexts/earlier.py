"""The earlier turns of a conversation in small pieces, each read once however often they grow."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from glmprep.contexts.notes import Language, Who
from glmprep.records import Message
from glmprep.semantics.sentences import sentences
from glmprep.semantics.terms import Terms, terms
from glmprep.text.scripts import HAN, LATIN
from glmprep.tokenizer import Tokenizer

Int64 = npt.NDArray[np.int64]
LONGEST = 240
"""Bytes of a piece: some sixty tokens, so that several fit in a small note."""
PASSAGE = 256
"""Tokens of a passage: enough to tell what is spoken of, little enough to be of one thing."""
FACT = re.compile(r"\d|[a-z,;:]\s+[A-Z][a-z]|[《「『“]")
"""A number, or what may be a name or a title."""
CLAUSE = re.compile(r"[，、；：,;:)\]}）】]\s*|\s+")


class Earlier:
    """Sentences of the turns so far, in order, and the passages that they make up.

    A piece is a sentence, or a part of a long one. Of each piece, by its number:

    - texts: its words, with single spaces for white space and line breaks
    - joined: whether it follows the piece before it without a space
    - who, saying: whose it is, and the number of the text it is from (a message's, or a call's)
    - tokens: what it takes in a note
    - facts: whether it tells a number or a name, a call or its result
    - passage: the number of its passage, a run of pieces of about `PASSAGE` tokens

    `terms` are those of the pieces. Only what is new is read where the messages begin with those of
    the last call, as they do from segment to segment; one conversation is held at a time.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._clear()

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def language(self) -> Language:
        """Chinese where there are more ideographs than words in Latin letters."""
        return "zh" if self._han > self._latin else "en"

    def read(self, messages: Sequence[Message]) -> None:
        """Hold these messages and no others."""
        known = len(self._messages)
        if tuple(messages[:known]) != self._messages:
            self._clear()
            known = 0
        self._add(messages[known:])
        self._messages += tuple(messages[known:])

    def passage_text(self, number: int) -> str:
        """The text of a passage."""
        first, last = np.searchsorted(self.passage, (number, number + 1)).tolist()
        return " ".join(self.texts[first:last])

    def _clear(self) -> None:
        self._messages: tuple[Message, ...] = ()
        self._han = self._latin = 0
        self._filled = self._sayings = 0
        self.texts: list[str] = []
        self.who: list[Who] = []
        self.joined: list[bool] = []
        self.saying = self.passage = self.tokens = np.zeros(0, np.int64)
        self.facts = np.zeros(0, np.bool_)
        self.terms = terms([])

    def _add(self, messages: Sequence[Message]) -> None:
        first = len(self)
        sayings: list[int] = []
        for message in messages:
            for who, text in _said(message):
                self._han += len(HAN.findall(text))
                self._latin += len(LATIN.findall(text))
                for piece, joined in _pieces(text):
                    self.texts.append(piece)
                    self.joined.append(joined)
                    self.who.append(who)
                    sayings.append(self._sayings)
                self._sayings += 1
        if not sayings:
            return
        new = self.texts[first:]
        # With the space that most of them follow: so they are encoded in a line.
        _, tokens = self._tokenizer.encode_batch([" " + text for text in new])
        self.saying = np.append(self.saying, sayings)
        self.tokens = np.append(self.tokens, tokens)
        self.passage = np.append(self.passage, self._numbered(tokens.tolist()))
        facts = [
            who in ("call", "tool") or FACT.search(text) is not None
            for who, text in zip(self.who[first:], new, strict=True)
        ]
        self.facts = np.append(self.facts, facts)
        self.terms = _joined(self.terms, terms(new))

    def _numbered(self, tokens: Sequence[int]) -> list[int]:
        """The passage of each new piece; the last one of before is filled up first."""
        passage = int(self.passage[-1]) if len(self.passage) else 0
        numbers = []
        for count in tokens:
            if self._filled and self._filled + count > PASSAGE:
                passage, self._filled = passage + 1, 0
            self._filled += count
            numbers.append(passage)
        return numbers


def _joined(old: Terms, new: Terms) -> Terms:
    return Terms(
        texts=old.texts + new.texts,
        text=np.append(old.text, new.text + old.texts),
        hashed=np.append(old.hashed, new.hashed),
        count=np.append(old.count, new.count),
    )


def _said(message: Message) -> Iterator[tuple[Who, str]]:
    """Who says what in a message; instructions are not retold, and reasoning was never said."""
    if message.role == "system":
        return
    yield message.role, message.content
    for call in message.tool_calls:
        yield "call", f"{call.name} {call.arguments}"


def _pieces(text: str) -> Iterator[tuple[str, bool]]:
    """The sentences of a text, long ones in parts; whether each is joined to what is before it."""
    spaced = True
    for sentence in sentences(text):
        for part in _parts(sentence):
            if piece := " ".join(part.split()):
                yield piece, not (spaced or part[0].isspace())
            spaced = part[-1].isspace()


def _parts(sentence: str) -> Iterator[str]:
    """A sentence in parts that are short enough, cut at a clause or a space where there is one."""
    size = len(sentence.encode("utf-8", "replace"))
    most = max(8, LONGEST * len(sentence) // max(1, size))
    begin = 0
    while len(sentence) - begin > most:
        found = [m.end() for m in CLAUSE.finditer(sentence, begin + most // 2, begin + most)]
        end = found[-1] if found else begin + most
        yield sentence[begin:end]
        begin = end
    yield sentence[begin:]
