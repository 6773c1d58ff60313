"""Memory: of all earlier turns, the sentences closest to what is asked next."""

from __future__ import annotations

from collections.abc import Sequence

from glmprep.contexts.choosing import Page, best, varied
from glmprep.contexts.earlier import Earlier
from glmprep.contexts.notes import Notes
from glmprep.contexts.recall import questions
from glmprep.contexts.relevance import Relevance, scaled
from glmprep.contexts.salience import salience
from glmprep.records import Message
from glmprep.semantics.embedder import Embedder
from glmprep.tokenizer import Tokenizer

KEY = 0.05
"""What a key sentence counts beside relevance: it decides where nothing, or little, is asked."""


class Memory:
    """Retrieves what the coming questions are about, and where that is little, key sentences.

    Keeps what it read of one conversation, for its next segment.
    """

    def __init__(self, tokenizer: Tokenizer, notes: Notes, embedder: Embedder) -> None:
        self._earlier = Earlier(tokenizer)
        self._relevance = Relevance(embedder)
        self._page = Page(tokenizer, notes, "memory")

    def note(self, earlier: Sequence[Message], coming: Sequence[Message], budget: int) -> str:
        """The note (see `Recall`)."""
        said, asked = self._earlier, questions(coming)
        said.read(earlier)
        if not len(said) or budget < 1:
            return ""
        scores = KEY * scaled(salience(said))
        if asked:
            scores += self._relevance.scores(said, asked)
        candidates = best(scores, said.tokens, budget)
        order = varied([said.texts[piece] for piece in candidates], scores[candidates])
        return self._page.write(said, candidates[order].tolist(), budget)
