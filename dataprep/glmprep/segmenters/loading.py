"""A segmenter by its name on the command line."""

from __future__ import annotations

from glmprep.errors import UsageError
from glmprep.segmenters.balanced import balanced
from glmprep.segmenters.greedy import greedy
from glmprep.segmenters.semantic import Semantic
from glmprep.segmenters.stretch import Segmenter
from glmprep.semantics.embedder import Embedder

NAMES = ("greedy", "balanced", "semantic")


def load(name: str, embedder: Embedder) -> Segmenter:
    """The segmenter of that name; only `semantic` reads, and asks the embedder.

    Raises:
        UsageError: there is none of that name.
    """
    if name == "greedy":
        return greedy
    if name == "balanced":
        return balanced
    if name == "semantic":
        return Semantic(embedder=embedder)
    raise UsageError(f"segmenter {name!r}: none of {', '.join(NAMES)}")
