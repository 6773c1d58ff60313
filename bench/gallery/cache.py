"""Where the gallery keeps what it can make again: conversations, the base model, unpacked runs.

GALLERY_DRAW=N makes all runs with other rows and other random numbers. Draw 0 is what is committed;
a later one, made once rules stand, shows how they do on runs that nobody saw.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

DRAW = int(os.environ.get("GALLERY_DRAW", "0"))
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "glmprep-bench/gallery"

RECORDS = CACHE / ("records" if DRAW == 0 else f"records-{DRAW}")


def drawn(seed: int) -> int:
    """The seed of all that is random in a run."""
    return seed + 1000 * DRAW


def once(folder: Path, make: Callable[[Path], object]) -> Path:
    """The folder, made by `make` unless it is there; half of one is never taken for whole."""
    if not folder.exists():
        begun = folder.with_name(folder.name + ".begun")
        shutil.rmtree(begun, ignore_errors=True)
        begun.parent.mkdir(parents=True, exist_ok=True)
        make(begun)
        begun.rename(folder)
    return folder
