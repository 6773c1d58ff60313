"""A command's wall time, CPU time and peak memory, with all the processes that it starts.

Memory is told in two ways. `resident` is the sum of the resident set sizes, read every tenth of a
second; pages that processes share count for each of them. `peak` is the sum of the proportional set
sizes, where such pages count once; the kernel walks all page tables to find it, some 30 ms for each
GB, so it is read only as often as takes a twentieth of one core. Both hold files that are mapped
into memory. CPU time is what each process had used when it was last seen, added up, since not every
process is waited for by the one above it.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PERIOD = 0.1
REST = 20
"""For each second that proportional sizes took, so many pass before they are read again."""
PROPORTIONAL = re.compile(rb"^Pss: +(\d+) kB", re.MULTILINE)
PAGE = os.sysconf("SC_PAGE_SIZE")
TICKS = os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    """A command that did not end with status 0, and the end of what it said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Seconds and bytes of one run."""

    wall: float
    cpu: float
    peak: int
    resident: int


class _Watch(threading.Thread):
    """Samples the memory of a process and all below it until told to stop."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid = pid
        self.stop = threading.Event()
        self.peak = self.resident = 0
        self.cpu: dict[str, float] = {}

    def run(self) -> None:
        again = 0.0
        while not self.stop.wait(PERIOD):
            tree = list(_tree(Path(f"/proc/{self.pid}")))
            self.cpu |= {process.name: used for process in tree if (used := _cpu(process))}
            resident = sum(map(_resident, tree))
            self.resident = max(self.resident, resident)
            # What is proportional is never more than what is resident.
            if resident > self.peak and time.monotonic() >= again:
                begin = time.thread_time()
                self.peak = max(self.peak, sum(map(_proportional, tree)))
                again = time.monotonic() + REST * (time.thread_time() - begin)


def _tree(process: Path) -> Iterator[Path]:
    """A process and all below it, as folders of /proc."""
    yield process
    for thread in process.glob("task/*/children"):
        for child in _read(thread).split():
            yield from _tree(Path("/proc", child.decode()))


def _resident(process: Path) -> int:
    return int((_read(process / "statm").split() or [b"0", b"0"])[1]) * PAGE


def _cpu(process: Path) -> float:
    """Seconds of CPU time, 0 for a process that has ended."""
    fields = _read(process / "stat").rpartition(b")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS if fields else 0.0


def _proportional(process: Path) -> int:
    found = PROPORTIONAL.search(_read(process / "smaps_rollup"))
    return int(found.group(1)) << 10 if found else 0


def _read(path: Path) -> bytes:
    """What a file of /proc says; nothing where the process has just ended."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def measure(command: Sequence[str], environment: Mapping[str, str], log: Path) -> Measured:
    """Run a command to its end, its output in a log; raises Failed where it fails."""
    with log.open("wb") as output:
        begin = time.perf_counter()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **environment},
            start_new_session=True,
        )
        watch = _Watch(process.pid)
        watch.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        wall = time.perf_counter() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    watch.stop.set()
    watch.join()
    if process.returncode:
        end = log.read_text("utf-8", "replace")[-2000:]
        raise Failed(f"{' '.join(command)} ended with {process.returncode}:\n{end}")
    cpu = max(usage.ru_utime + usage.ru_stime, sum(watch.cpu.values()))
    return Measured(wall=wall, cpu=cpu, peak=watch.peak, resident=watch.resident)
