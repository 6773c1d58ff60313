"""The libraries in turn: what is there at once, then what encodes quickly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

from glmprep.encoders import Encoder, Flat, known
from glmprep.encoders.fastokens import Unfit

LITTLE = 50_000
"""Characters that a small encoder takes less time for than the reference takes to load."""
ENOUGH = 4_000_000
"""Characters from which the quick encoder saves more time than its loading takes."""
SAMPLE = 4_000
"""Characters of the data on which the quick encoder is compared with the others."""


class Growing:
    """An encoder of one vocabulary, by the library that suits the characters that came so far.

    `small` goes before the reference if there is one, and `quick` comes from `enough` characters
    on; `expected` are those to come, as far as that is known. The quick one is used only if it
    gives the `answers` to the known texts and the same ids as the others for the start of the data;
    else the reference goes on, and `notes` says why. `refused` says why it is not made for this
    vocabulary, which is no fault.
    """

    def __init__(
        self,
        small: Callable[[], Encoder] | None,
        reference: Callable[[], Encoder],
        quick: Callable[[], Encoder],
        answers: Callable[[], Flat],
        *,
        expected: int,
        enough: int = ENOUGH,
    ) -> None:
        self.notes: list[str] = []
        self.refused = ""
        self._small = small or reference
        self._little = LITTLE if small else 0
        self._reference = reference
        self._quick = quick
        self._answers = answers
        self._characters = expected
        self._enough = enough
        self._grown = False

    @cached_property
    def _encoder(self) -> Encoder:
        """The one that encodes at present; whoever only asks for ids of added tokens needs none."""
        return self._small()

    @property
    def name(self) -> str:
        """The library that encodes at present."""
        return self._encoder.name

    def encode(self, texts: Sequence[str]) -> Flat:
        """Ids of all texts, one after the other, and the number of ids of each text."""
        if not self._grown:
            self._characters += sum(map(len, texts))
            self.grow(texts)
        return self._encoder.encode(texts)

    def grow(self, texts: Sequence[str] = ()) -> None:
        """Take the encoder for the characters so far; `texts` are those that come next."""
        if self._grown:
            return
        if self._characters >= self._enough:
            self._encoder = self._proven(known.sample(texts, SAMPLE))
            self._grown = True
        elif self._characters >= self._little:
            self._encoder = self._reference()

    def _proven(self, sample: Sequence[str]) -> Encoder:
        try:
            quick = self._quick()
            wrong = known.differs(quick, known.texts(), self._answers()) or known.differs(
                quick, sample, self._encoder.encode(sample)
            )
        except Unfit as error:
            self.refused = str(error)
            return self._reference()
        except Exception as error:  # of any kind: the reference is there for it
            first = (str(error) or type(error).__name__).splitlines()[0][:120]
            return self._fall_back(f"cannot be used ({first})")
        return self._fall_back(f"{quick.name} gives other ids") if wrong else quick

    def _fall_back(self, reason: str) -> Encoder:
        reference = self._reference()
        self.notes.append(f"tokenizer engine: {reason}; {reference.name} encodes instead")
        return reference
