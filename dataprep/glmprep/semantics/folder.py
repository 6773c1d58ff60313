"""A model folder of the user's, as sentence-transformers or model2vec save it."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from glmprep.errors import InputError, UsageError
from glmprep.semantics.embedder import Embedder, Float32, of_spoken

Encode = Callable[[list[str]], Float32]
PICKLED = frozenset({".bin", ".pt", ".pth", ".pkl", ".ckpt"})
SAFE = "model.safetensors"
OWN = "sentence_transformers."
"""What the parts that modules.json names begin with; any other would be code from elsewhere."""
NOT_READ = frozenset({".md", ".gitattributes", ".gitignore", ".onnx", ".h5", ".msgpack"})


class Folder(Embedder):
    """The model in a folder: nothing is downloaded, no code and no pickle in it is loaded.

    Raises:
        InputError: the folder holds no such model, or one that needs code or a pickle.
        UsageError: the package that reads it is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            self._encode = _encode(folder)
            self.dims = self._encode(["1"]).shape[1]
            self.name = f"{folder.resolve().name}-{_fingerprint(folder)}"
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError) as error:
            raise InputError(f"{folder}: not a model that can be loaded ({error})") from error

    def embed(self, texts: Sequence[str]) -> Float32:
        """The vectors of texts, each the same whatever the others are."""
        whole = [text.encode("utf-8", "replace").decode() for text in texts]
        return of_spoken(whole, self.dims, self._encode)


def _encode(folder: Path) -> Encode:
    _refuse_pickles(folder)
    modules = [str(module["type"]) for module in _read(folder / "modules.json", [])]
    if not all(module.startswith(OWN) for module in modules):
        raise InputError(f"{folder}/modules.json: names code that is not {OWN}*")
    kind = _read(folder / "config.json", {}).get("model_type")
    if kind == "model2vec" or any(module.endswith(".StaticEmbedding") for module in modules):
        return _static(folder)
    if not modules:
        raise InputError(
            f"{folder}: neither the modules.json of a sentence-transformers model "
            "nor the config.json of a model2vec model is in it"
        )
    return _transformer(folder)


def _refuse_pickles(folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        if path.suffix in PICKLED and not (path.parent / SAFE).is_file():
            raise InputError(f"{path}: weights in a pickle can run code; save them as {SAFE}")


def _static(folder: Path) -> Encode:
    model = _package("model2vec", folder).StaticModel.from_pretrained(folder)
    return lambda texts: np.asarray(model.encode(texts, use_multiprocessing=False), np.float32)


def _transformer(folder: Path) -> Encode:
    """Texts go in one at a time: in a batch the last digits of a vector depend on the others."""
    package = _package("sentence-transformers", folder)
    with contextlib.redirect_stderr(io.StringIO()):  # bars that libraries show while they load
        model = package.SentenceTransformer(
            str(folder),
            trust_remote_code=False,
            local_files_only=True,
            model_kwargs={"use_safetensors": True},
        )
    return lambda texts: np.asarray(
        model.encode(texts, batch_size=1, show_progress_bar=False), np.float32
    )


def _package(name: str, folder: Path) -> Any:
    try:
        return importlib.import_module(name.replace("-", "_"))
    except ImportError as error:
        raise UsageError(f"{folder}: this model needs {name}: pip install {name}") from error


def _read(path: Path, absent: Any) -> Any:
    return json.loads(path.read_bytes()) if path.is_file() else absent


def _fingerprint(folder: Path) -> str:
    """A hash of all files of the model that decide its vectors."""
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix not in PICKLED | NOT_READ:
            digest.update(str(path.relative_to(folder)).encode())
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "blake2b").digest())
    return digest.hexdigest()
