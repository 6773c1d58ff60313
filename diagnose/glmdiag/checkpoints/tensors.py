"""Tensor files measured a slice at a time: safetensors, and pickles that torch calls safe.

A slice of a tensor is in memory at any time, never a whole file; what shows beyond that as resident
are mapped pages, which the system takes back.
"""

from __future__ import annotations

import hashlib
import math
import pickle
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from glmprep.errors import first_line
from safetensors import SafetensorError, safe_open
from torch import Tensor

SLICE = 1 << 23  # values that are measured at a time
PICKLES = (".bin", ".pt", ".pth")
REFUSED = (pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError, KeyError, TypeError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One tensor: of its values `bad` are NaN or infinite; `norm` and `largest` are of the others.

    `norm` is the root of the sum of squares; `digest` tells whether two tensors are the same.
    """

    name: str
    file: str
    dtype: str
    shape: tuple[int, ...]
    bad: int
    norm: float
    largest: float
    digest: str

    @property
    def count(self) -> int:
        """How many values it has."""
        return math.prod(self.shape)

    @property
    def zero(self) -> bool:
        """Whether all that is a number in it is zero."""
        return self.largest == 0 and self.count > 0 and self.bad == 0

    @property
    def rms(self) -> float:
        """The root of the mean of the squares."""
        return self.norm / math.sqrt(max(1, self.count))


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """All tensors of some files by name; `damaged` files with what is wrong, `unread` with why."""

    tensors: Mapping[str, Measured]
    damaged: Mapping[str, str] = field(default_factory=dict)
    unread: Mapping[str, str] = field(default_factory=dict)

    @property
    def parameters(self) -> int:
        """How many values there are."""
        return sum(tensor.count for tensor in self.tensors.values())

    @property
    def bytes_by_dtype(self) -> dict[str, int]:
        """How many values stand in each number format."""
        found: dict[str, int] = {}
        for tensor in self.tensors.values():
            found[tensor.dtype] = found.get(tensor.dtype, 0) + tensor.count
        return found


def measure(files: Sequence[Path]) -> Weights:
    """Measure all tensors of these files; what cannot be read is told, not raised."""
    tensors: dict[str, Measured] = {}
    damaged: dict[str, str] = {}
    unread: dict[str, str] = {}
    for path in files:
        try:
            for name, slices, dtype, shape in _opened(path):
                tensors[name] = _measured(name, path.name, slices, dtype, shape)
        except (SafetensorError, OSError, EOFError, RuntimeError) as error:
            damaged[path.name] = first_line(error)
        except REFUSED as error:
            unread[path.name] = why_unread(error)
    return Weights(tensors=tensors, damaged=damaged, unread=unread)


def why_unread(error: Exception) -> str:
    """Why a pickle was not read, without the advice to read it all the same."""
    if isinstance(error, pickle.UnpicklingError):
        return "a pickle of more than tensors and plain values, which is not opened"
    return first_line(error)


def load_pickle(path: Path) -> Any:
    """The tensors and plain values of a pickle, nothing else.

    Raises one of REFUSED for a file that holds anything else, or is damaged.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of what it is about to refuse
        return torch.load(path, map_location="cpu", weights_only=True, mmap=_mapped(path))


def headers(path: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a safetensors file; raises SafetensorError or OSError."""
    with safe_open(path, framework="pt") as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


_Opened = tuple[str, Iterator[Tensor], str, tuple[int, ...]]


def _opened(path: Path) -> Iterator[_Opened]:
    if path.suffix in PICKLES:
        yield from _of_pickle(path)
        return
    with safe_open(path, framework="pt") as file:
        for name in sorted(file.keys()):
            part = file.get_slice(name)
            shape = tuple(part.get_shape())
            yield name, _slices(part, shape), str(part.get_dtype()).lower(), shape


def _of_pickle(path: Path) -> Iterator[_Opened]:
    held = load_pickle(path)
    if not isinstance(held, dict):
        raise ValueError("holds no tensors by name")
    for name, tensor in held.items():
        if isinstance(tensor, Tensor) and isinstance(name, str):
            flat = tensor.detach().reshape(-1)
            dtype = str(tensor.dtype).removeprefix("torch.")
            yield name, iter(torch.split(flat, SLICE)), dtype, tuple(tensor.shape)


def _mapped(path: Path) -> bool:
    """Whether torch can map the file: an archive, as torch writes since version 1.6."""
    with path.open("rb") as file:
        return file.read(2) == b"PK"


def _slices(part: Any, shape: tuple[int, ...]) -> Iterator[Tensor]:
    """A tensor in slices along its first dimension."""
    if not shape:
        yield part[...]
        return
    step = max(1, SLICE // max(1, math.prod(shape[1:])))
    for begin in range(0, shape[0], step):
        yield part[begin : begin + step]


def _measured(
    name: str, file: str, slices: Iterator[Tensor], dtype: str, shape: tuple[int, ...]
) -> Measured:
    bad, squares, largest = 0, 0.0, 0.0
    digest = hashlib.blake2b(digest_size=16)
    for part in slices:
        flat = part.contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().tobytes())
        values = flat.float()
        finite = values.isfinite()
        if not finite.all():
            bad += int((~finite).sum())
            values = values[finite]
        if values.numel():
            largest = max(largest, float(values.abs().max()))
            squares += float(values.double().square().sum())
    return Measured(
        name=name,
        file=file,
        dtype=dtype,
        shape=shape,
        bad=bad,
        norm=math.sqrt(squares),
        largest=largest,
        digest=digest.hexdigest(),
    )
