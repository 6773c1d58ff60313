"""One run at a time in one folder."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from glmprep.errors import UsageError


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds a folder, which is made; the system takes the lock back however the process ends.

    Raises UsageError where another process holds it, or it is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: is a file; name a folder")
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise UsageError(
            f"{folder}: another run writes here; wait for it or name another folder"
        ) from None
    finally:
        os.close(handle)
