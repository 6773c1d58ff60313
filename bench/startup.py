"""How long the commands take before they do anything: help, version, ten rows audited.

    python bench/startup.py [--repeats N]

Each measurement is a process of its own. They take turns with a bare `import click`, so that a
change in the machine's speed meets all of them; medians are printed, of the clock and of the CPU.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import orjson

ROW = {
    "messages": [
        {"role": "user", "content": "今天天气怎么样？"},
        {"role": "assistant", "content": "It is sunny, 20 degrees."},
    ]
}


def commands(data: Path) -> dict[str, list[str]]:
    """What is measured, by name."""

    def cli(package: str, *arguments: str) -> list[str]:
        return ["-c", f"from {package}.cli import main; main()", *arguments]

    return {
        "import click": ["-c", "import click"],
        "glmprep --version": cli("glmprep", "--version"),
        "glmprep --help": cli("glmprep", "--help"),
        "glmtrain --help": cli("glmtrain", "--help"),
        "glmdiag --help": cli("glmdiag", "--help"),
        "glmprep audit --help": cli("glmprep", "audit", "--help"),
        "import numpy, polars": ["-c", "import numpy, polars"],
        "glmprep audit, ten rows": cli("glmprep", "audit", str(data), "--fail-on", "never"),
    }


def measure(words: list[str]) -> tuple[float, float]:
    """Seconds by the clock and of the CPU, of one process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.perf_counter()
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
    clock, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    return clock, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measure in turns, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "ten.jsonl"
        data.write_bytes((orjson.dumps(ROW) + b"\n") * 10)
        measured = commands(data)
        seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in measured}
        for turn in range(repeats + 1):
            for name, words in measured.items():
                found = measure(words)
                if turn:  # the first fills the file cache
                    seconds[name].append(found)
    for name, found in seconds.items():
        clock, cpu = (median(column) for column in zip(*found, strict=True))
        print(f"{name:<26}{clock:6.3f} s by the clock, {cpu:6.3f} s of the CPU")


if __name__ == "__main__":
    main()
