"""A log that is still being written: its new steps, as they come."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from glmprep.errors import InputError
from glmtrain.detectors import Step

from glmdiag.logs.console import Console
from glmdiag.logs.entries import to_step
from glmdiag.logs.folder import logs_in
from glmdiag.logs.jsonlines import parsed
from glmdiag.logs.lines import LONGEST_LINE
from glmdiag.logs.reading import kind_of, steps_of

CHUNK = 1 << 20  # bytes read at once
RECORD = "run.json"
ENDED = ("finished", "stopped")


@dataclass(slots=True, kw_only=True)
class Following:
    """Reads what is appended to a file, also one that is not there yet, is replaced or cut short.

    It ends when the run's record beside the file says that the run is over, at the step `until`, or
    after `timeout` seconds without a new step. Files that are written anew as a whole
    (trainer_state.json) are read again when they change.
    """

    path: Path
    until: int | None = None
    timeout: float | None = None
    poll: float = 1.0
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _rest: bytes = b""
    _place: int = 0
    _file: tuple[int, int] | None = None
    _reader: Callable[[str], Iterator[Step]] | None = None
    _whole: bool = False
    _last: int = -1
    _changed: float = 0.0

    def steps(self) -> Iterator[Step | None]:
        """Each new step, and None whenever there is nothing new for now."""
        quiet_since = self.clock()
        while True:
            over = self._is_over()  # asked first: what was written before it is read below
            for step in self._new():
                quiet_since = self.clock()
                yield step
                if self.until is not None and step.step >= self.until:
                    return
            yield None
            if over or (self.timeout is not None and self.clock() - quiet_since >= self.timeout):
                return
            self.sleep(self.poll)

    def _new(self) -> Iterator[Step]:
        try:
            path = logs_in(self.path)[-1] if self.path.is_dir() else self.path
            status = path.stat()
        except (InputError, OSError):
            return  # not there yet, or being replaced
        if status.st_size == 0:
            return
        if (status.st_dev, status.st_ino) != self._file or status.st_size < self._place:
            self._file = (status.st_dev, status.st_ino)
            self._place, self._rest, self._reader = 0, b"", None
        if self._reader is None and not self._choose(path):
            return
        try:
            if self._whole:
                yield from self._anew(path, status)
            else:
                yield from self._appended(path)
        except OSError:
            return

    def _choose(self, path: Path) -> bool:
        """How to read the file, once its begin tells; whole lines only."""
        try:
            with path.open("rb") as file:
                if b"\n" not in (start := file.read(CHUNK)) and len(start) < CHUNK:
                    return False
            kind = kind_of(path)
        except (InputError, OSError):
            return False
        self._whole = kind in ("trainer_state", "tensorboard")
        self._reader = Console().feed if kind == "console" else _json_step
        return True

    def _appended(self, path: Path) -> Iterator[Step]:
        assert self._reader is not None
        with path.open("rb") as file:
            file.seek(self._place)
            while data := file.read(CHUNK):
                self._place += len(data)
                *lines, self._rest = (self._rest + data).split(b"\n")
                if len(self._rest) > LONGEST_LINE:
                    self._rest = b""
                for line in lines:
                    yield from self._reader(line.replace(b"\0", b"").decode("utf-8", "replace"))

    def _anew(self, path: Path, status: os.stat_result) -> Iterator[Step]:
        """The steps of a file that is written as a whole, beyond those that were told."""
        if status.st_mtime_ns == self._changed:
            return
        try:
            for step in list(steps_of(path, kind_of(path), [])):
                if step.step > self._last or (step.step == self._last and step.loss is None):
                    self._last = step.step
                    yield step
            self._changed = status.st_mtime_ns
        except InputError:
            return  # in the middle of being written

    def _is_over(self) -> bool:
        """Whether the run's own record says so, written since we look."""
        folder = self.path if self.path.is_dir() else self.path.parent
        try:
            record = json.loads((folder / RECORD).read_bytes())
        except (OSError, ValueError, RecursionError):
            return False
        return isinstance(record, dict) and record.get("state") in ENDED


def _json_step(line: str) -> Iterator[Step]:
    entry = parsed(line.removeprefix("\ufeff"))
    if isinstance(entry, dict) and (step := to_step(entry)) is not None:
        yield step
