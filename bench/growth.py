"""How the time and the memory of `glmprep bucket` grow with the number of rows.

    python bench/growth.py [--rows 10000 100000 1000000] [--folder FOLDER]
    python bench/growth.py --bytes 3e9        # one large file: bounded memory

The rows are those of bench/corpus.py, repeated under other ids, since there are no more. FOLDER
needs room for the largest input, its units and its shards; it is left empty. The exponent is that
of the best line through the logarithms of rows and seconds, start-up taken off.
Without `--bytes`, bench/results/growth.json and docs/benchmarks.md are written anew.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import page
from measure import measure

BENCH = Path(__file__).resolve().parent
RESULTS = BENCH / "results/growth.json"
GLMPREP = str(Path(sys.executable).with_name("glmprep"))
FEW, STARTS = 10, 3
"""Start-up is the least that so few rows take in so many runs."""
Run = dict[str, Any]


def run(size: Sequence[str], folder: Path) -> Run:
    """Make an input, prepare it, and take both away."""
    data, shards = folder / "data.jsonl", folder / "shards"
    corpus = [sys.executable, str(BENCH / "corpus.py"), "-o", str(data), *size, "--repeat"]
    made = subprocess.run(corpus, check=True, capture_output=True, text=True).stdout
    command = [GLMPREP, "bucket", str(data), "--layout", "packed", "--max-length", "8192"]
    command += ["--max-rejects", "1", "--quiet", "-o", str(shards)]
    taken = measure(command, {"TMPDIR": str(folder)}, folder / "log.txt")
    found = {
        "rows": int(made.split(" bytes, ")[1].split(" rows")[0].replace(",", "")),
        "bytes": data.stat().st_size,
        **asdict(taken),
    }
    data.unlink()
    shutil.rmtree(shards)
    print(
        f"{found['rows']:>12,} rows {found['bytes'] / 1e6:>10,.0f} MB {found['wall']:>8.1f} s"
        f" {found['peak'] / 1e6:>8,.0f} MB peak",
        flush=True,
    )
    return found


def exponent(runs: Sequence[Run], start: float) -> float:
    """The power of the rows that the seconds grow with."""
    rows = np.log([run["rows"] for run in runs])
    seconds = np.log([run["wall"] - start for run in runs])
    return float(np.polyfit(rows, seconds, 1)[0])


def main() -> None:
    """Measure, and write results and page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--bytes", type=float, help="one input of so many bytes, printed only")
    parser.add_argument("--folder", type=Path, help="where the inputs and shards are made")
    parser.add_argument("--dry", action="store_true", help="print only, write nothing")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="glmprep-bench-", dir=options.folder) as name:
        folder = Path(name)
        if options.bytes:
            run(["--bytes", str(options.bytes)], folder)
            return
        start = min(run(["--rows", str(FEW)], folder)["wall"] for _ in range(STARTS))
        runs = [run(["--rows", str(rows)], folder) for rows in options.rows]
    results = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{os.cpu_count()} cores, Python {platform.python_version()}",
        "runs": runs,
        "start": start,
        "exponent": exponent(runs, start),
    }
    print(f"exponent {results['exponent']:.3f}, start-up {start:.2f} s taken off")
    if not options.dry:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        page.write()


if __name__ == "__main__":
    main()
