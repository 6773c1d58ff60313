"""What turns texts into vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]


class Embedder(Protocol):
    """Vectors that are close where texts are; the same text always gets the same vector."""

    name: str
    """Tells it from all others, its weights included: what a cache and a manifest call it."""
    dims: int

    def embed(self, texts: Sequence[str]) -> Float32:
        """The vectors of texts (len(texts) x dims), each of length 1, or 0 where a text is empty.

        They are as the model gives them: see `comparable`.
        """

    def comparable(self, texts: Sequence[str]) -> Float32:
        """Vectors of texts that are compared among each other, by their dot products.

        (One row for each text, each of length 1 at most.) A text's vector depends on the others:
        what all have in common does not count.
        """
        return centred(self.embed(texts))


def centred(vectors: Float32) -> Float32:
    """Vectors less their mean, each of length 1 again; those of length 0 (of no text) stay.

    Sentence encoders put all texts in a narrow cone, so that unrelated ones look alike; centred,
    they spread (Mu and Viswanath 2018, All-but-the-Top).
    """
    said = vectors.any(axis=1)
    moved = np.zeros_like(vectors)
    if said.any():
        moved[said] = vectors[said] - vectors[said].mean(axis=0, keepdims=True)
    return unit(moved)


def unit(vectors: Float32) -> Float32:
    """Each vector of length 1, or 0 where it is."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1), np.float32)


def of_spoken(texts: Sequence[str], dims: int, encode: Callable[[list[str]], Float32]) -> Float32:
    """Unit vectors (len(texts) x dims) of the texts that say something; 0 for the others."""
    vectors = np.zeros((len(texts), dims), np.float32)
    spoken = [at for at, text in enumerate(texts) if text.strip()]
    if spoken:
        vectors[spoken] = unit(np.asarray(encode([texts[at] for at in spoken]), np.float32))
    return vectors
