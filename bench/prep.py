"""How fast `glmprep audit` and `glmprep bucket` are, beside the bare tokenizer on the same text.

    python bench/prep.py [DATA] [--repeats N]

DATA defaults to SMILECHAT (12,022 dialogues) in the folder that GLM_ASSETS names, or in
../shared/assets beside the repository. Each measurement is a process of its own; they take turns,
so that a change in the machine's speed meets all of them. Medians are printed, and the ratio to the
bare `tokenizers.encode_batch` turn by turn. `seconds` leave out the start of Python and the loading
of the tokenizer, which are the same for all; `process` is all of it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

ROLES = {"client": "user", "counselor": "assistant"}
ENCODED_AT_ONCE = 8192


def assets() -> Path:
    """The folder with real data."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "assets"
    return Path(os.environ.get("GLM_ASSETS", beside))


def run_audit(data: str) -> dict[str, Any]:
    """Check and measure all rows."""
    from glmprep import families, tokenizer
    from glmprep.audit import audit
    from glmprep.source import Source

    source = Source(paths=[data], roles=ROLES)
    vocabulary = tokenizer.load(engine="tokenizers")
    family = families.load("auto", vocabulary)
    begin = time.perf_counter()
    result = audit(source, family=family, tokenizer=vocabulary, max_length=2048)
    seconds = time.perf_counter() - begin
    tokens = int(result.lengths.conversations.sum())
    return {"seconds": seconds, "rows": result.rows, "tokens": tokens}


def run_bucket(data: str, layout: Any = "buckets") -> dict[str, Any]:
    """Check, label, arrange and write all rows."""
    from glmprep import families, tokenizer
    from glmprep.bucket import Config, bucket
    from glmprep.source import Source
    from glmprep.store import Folder
    from glmprep.tokenizing import Ready

    vocabulary = tokenizer.load(engine="tokenizers")
    family = families.load("auto", vocabulary)
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        result = bucket(
            Source(paths=[data], roles=ROLES),
            Folder(Path(folder)),
            tokenizing=Ready(vocabulary, family),
            config=Config(layout=layout, max_length=2048),
        )
        seconds = time.perf_counter() - begin
    ledger = result.ledger
    return {"seconds": seconds, "rows": ledger.read, "tokens": ledger.written.tokens}


def run_packed(data: str) -> dict[str, Any]:
    """The same with packed rows."""
    return run_bucket(data, "packed")


def run_raw(data: str) -> dict[str, Any]:
    """Nothing but `tokenizers.encode_batch` over the text of the messages, read beforehand."""
    import tokenizers
    from glmprep.encoders import embedded
    from glmprep.parse import parse
    from glmprep.read import read
    from glmprep.records import Conversation

    encoder = tokenizers.Tokenizer.from_str(embedded.bare())
    conversations = [c for c in parse(read([data]), ROLES) if isinstance(c, Conversation)]
    texts = ["\n" + message.content for c in conversations for message in c.messages]
    tokens = 0
    begin = time.perf_counter()
    for place in range(0, len(texts), ENCODED_AT_ONCE):
        part = encoder.encode_batch(texts[place : place + ENCODED_AT_ONCE])
        tokens += sum(len(encoding) for encoding in part)
    seconds = time.perf_counter() - begin
    return {"seconds": seconds, "rows": len(conversations), "tokens": tokens}


RUNS: dict[str, Callable[[str], dict[str, Any]]] = {
    "raw encode_batch": run_raw,
    "audit": run_audit,
    "bucket": run_bucket,
    "bucket packed": run_packed,
}


def measure(name: str, data: str) -> dict[str, Any]:
    """One run in a process of its own."""
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, __file__, data, "--only", name], capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found | {"process": time.perf_counter() - begin}


def size(data: str) -> int:
    """Bytes of the data, unpacked."""
    import gzip

    path = Path(data)
    return len(gzip.decompress(path.read_bytes())) if path.suffix == ".gz" else path.stat().st_size


def main() -> None:
    """Measure and print."""
    default = assets() / "data/smilechat/smilechat_12k.jsonl.gz"
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="?", default=str(default))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", choices=RUNS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        found = RUNS[options.only](options.data)
        # Kibibytes on Linux.
        found["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
        print(json.dumps(found))
        return
    if not Path(options.data).exists():
        sys.exit(f"{options.data}: no such file; name the data or set GLM_ASSETS")
    turns = [{name: measure(name, options.data) for name in RUNS} for _ in range(options.repeats)]
    report(turns, size(options.data))


def report(turns: list[dict[str, dict[str, Any]]], data_bytes: int) -> None:
    """Print the medians as a table."""
    heads = ("seconds", "process", "rows/s", "tokens/s", "MB/s", "peak MB", "of raw")
    print(f"{'':18}" + "".join(f"{head:>10}" for head in heads))
    for name in RUNS:
        seconds = median(turn[name]["seconds"] for turn in turns)
        process = median(turn[name]["process"] for turn in turns)
        peak = max(turn[name]["peak"] for turn in turns) / 1e6
        ratio = median(
            turn[name]["seconds"] / turn["raw encode_batch"]["seconds"] for turn in turns
        )
        rows, tokens = turns[0][name]["rows"], turns[0][name]["tokens"]
        print(
            f"{name:18}{seconds:10.2f}{process:10.2f}{rows / seconds:10,.0f}"
            f"{tokens / seconds:10,.0f}{data_bytes / 1e6 / seconds:10.2f}{peak:10,.0f}{ratio:10.2f}"
        )


if __name__ == "__main__":
    main()
