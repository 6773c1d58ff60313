"""The context that settings ask for."""

from __future__ import annotations

from glmprep.contexts.before import Before, Note, Replay
from glmprep.contexts.memory import Memory
from glmprep.contexts.notes import from_json
from glmprep.contexts.outline import Outline
from glmprep.cutting import Cutting
from glmprep.families import Family
from glmprep.semantics.embedder import Embedder
from glmprep.tokenizer import Tokenizer


def load(cutting: Cutting, family: Family, tokenizer: Tokenizer, embedder: Embedder) -> Before:
    """What stands before each segment, at training and at inference."""
    if not cutting.recalls:
        return Replay(cutting.limits)
    kind = Memory if cutting.context == "memory" else Outline
    return Note(
        kind(tokenizer, from_json(cutting.notes), embedder), cutting.limits, family, tokenizer
    )
