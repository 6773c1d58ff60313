"""Libraries that encode byte pairs, side by side: speed, loading, memory, and identity of the ids.

    python bench/engines.py [--repeats N] [--megabytes N] [--threads N] [--identity]

Each measurement is a process of its own; they take turns, so that a change in the machine's speed
meets all of them, and medians are printed. The text is what people wrote in SMILECHAT (Chinese),
and in SGD and QMSum (English), each text once, from the folder that GLM_ASSETS names or
../shared/assets beside the repository. `gigatoken` and `splintr-rs` are measured where they can be
imported. `--identity` compares the ids of fastokens and of the small encoder with those of
`tokenizers` instead: all real data, and every character of Unicode among others.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from itertools import accumulate
from pathlib import Path
from statistics import median
from typing import Any

import psutil

AT_ONCE = 4096
FORMS = ("{0}", "a{0}b", " {0}{0}1", "\n{0} {0}\r\n", "9{0}!{0}", "中{0}\u3000{0}")
LETTERS = "abcdefghijklmnopqrstuvwxyz"
Encode = Callable[[Sequence[str]], Any]


def assets() -> Path:
    """The folder with real data."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "assets"
    return Path(os.environ.get("GLM_ASSETS", beside))


def strings(value: Any) -> Iterator[str]:
    """Every text in a JSON value, the names of fields too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from value
        for inner in value.values():
            yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)


def values(path: Path) -> Iterator[Any]:
    """The rows of a file of real data."""
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode()
    if ".jsonl" in path.name:
        yield from map(json.loads, text.splitlines())
    else:
        yield json.loads(text)


def written(language: str) -> list[str]:
    """What people wrote in one language, each text once, with the line break of a header."""
    patterns = {"zh": ("smilechat/*",), "en": ("sgd/*", "qmsum/*")}[language]
    found: dict[str, None] = {}
    for pattern in patterns:
        for path in sorted((assets() / "data").glob(f"{pattern}.jsonl.gz")):
            for row in values(path):
                turns = row.get("messages") or row.get("meeting_transcripts") or []
                found.update((f"\n{turn['content']}", None) for turn in turns if turn["content"])
    return list(found)


def cut(texts: list[str], megabytes: float) -> list[str]:
    """The first texts that have so many megabytes together."""
    sizes = accumulate(len(text.encode()) for text in texts)
    return [text for text, size in zip(texts, sizes, strict=True) if size <= megabytes * 1e6]


def invented(count: int, seed: int) -> list[str]:
    """Texts of words that never came before, which no cache of words knows."""
    draw = random.Random(seed)
    words = ("".join(draw.choices(LETTERS, k=draw.randint(3, 12))) for _ in range(count * 500))
    return [" ".join(next(words) for _ in range(500)) for _ in range(count)]


def tokenizers_() -> Encode:
    from glmprep.encoders import embedded

    return embedded.reference().encode


def fastokens_() -> Encode:
    from glmprep.encoders import embedded
    from glmprep.encoders.fastokens import Fastokens

    return Fastokens(embedded.bare()).encode


def ranks_() -> Encode:
    from glmprep.encoders import embedded
    from glmprep.encoders.ranked import Ranked
    from glmprep.ranks import WORDS

    return Ranked(embedded.ranks(), WORDS).encode


def _without_added() -> bytes:
    from glmprep.encoders import embedded

    value = json.loads(embedded.whole())
    value.update(added_tokens=[], post_processor=None)
    return json.dumps(value, ensure_ascii=False).encode()


def gigatoken_() -> Encode:
    from gigatoken import gigatoken_rs

    encoder = gigatoken_rs.load_hf_json(_without_added())
    return lambda texts: encoder.encode_batch(list(texts))


def splintr_() -> Encode:
    import splintr

    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        file.write(_without_added())
        file.flush()
        encoder = splintr.from_json(file.name)
    return lambda texts: encoder.encode_batch(list(texts))


ENGINES: dict[str, Callable[[], Encode]] = {
    "tokenizers": tokenizers_,
    "fastokens": fastokens_,
    "gigatoken": gigatoken_,
    "splintr": splintr_,
    "ranks": ranks_,
}
LITTLE = 300_000
"""Characters on which the small encoder is measured: it is meant for no more."""


def measure(engine: str, language: str, megabytes: float) -> dict[str, float]:
    """Load one engine and encode one language; then texts without end, for its memory."""
    texts = cut(written(language), megabytes)
    if engine == "ranks":
        texts = texts[: max(1, LITTLE * len(texts) // sum(map(len, texts)))]
    resident = psutil.Process().memory_info
    before = resident().rss
    begin = time.perf_counter()
    encode = ENGINES[engine]()
    loaded = time.perf_counter()
    after = resident().rss
    for place in range(0, len(texts), AT_ONCE):
        encode(texts[place : place + AT_ONCE])
    done = time.perf_counter()
    size = sum(len(text.encode()) for text in texts)
    result = {
        "load": loaded - begin,
        "speed": size / 1e6 / (done - loaded),
        "loaded": (after - before) / 1e6,
    }
    for step in (1, 2, 3) if engine != "ranks" else ():
        for part in range(10):
            encode(invented(300, 100 * step + part))
        result[f"grown{step}"] = (resident().rss - before) / 1e6
    return result


def compare() -> None:
    """The ids of all real data and of every character, by each library of ours."""
    from glmprep.encoders import Encoder, embedded, known
    from glmprep.encoders.fastokens import Fastokens
    from glmprep.encoders.ranked import Ranked
    from glmprep.ranks import WORDS

    reference = embedded.reference()
    ours: list[Encoder] = [Fastokens(embedded.bare()), Ranked(embedded.ranks(), WORDS)]
    sums = dict.fromkeys((encoder.name for encoder in ours), 0)
    size = tokens = different = 0
    for texts in _all_texts():
        expected = reference.encode(texts)
        size += sum(len(text.encode()) for text in texts)
        tokens += len(expected[0])
        for encoder in ours:
            wrong = known.differs(encoder, texts, expected)
            sums[encoder.name] += len(texts)
            different += wrong
            if wrong:
                print(f"{encoder.name} differs in a batch that begins with {texts[0][:80]!r}")
    print(f"{size / 1e6:.0f} MB, {tokens:,} tokens; texts compared: {sums}; differing: {different}")
    if different:
        raise SystemExit(1)


def _all_texts() -> Iterator[list[str]]:
    for path in sorted(path for path in (assets() / "data").rglob("*") if ".json" in path.name):
        texts = list(dict.fromkeys(text for row in values(path) for text in strings(row)))
        for place in range(0, len(texts), AT_ONCE):
            yield texts[place : place + AT_ONCE]
    codes = [code for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    for form in FORMS:
        for place in range(0, len(codes), 100_000):
            texts = [form.format(chr(code)) for code in codes[place : place + 100_000]]
            yield ["".join(texts[at : at + 16]) for at in range(0, len(texts), 16)]


def measured(engine: str, language: str, threads: int, megabytes: float) -> dict[str, float]:
    """The measurement in a process of its own."""
    command = [sys.executable, __file__, "--measure", engine, language, str(megabytes)]
    limits = {"RAYON_NUM_THREADS": str(threads), "FASTOKENS_BPE_THREADS": str(threads)}
    done = subprocess.run(
        command, env={**os.environ, **limits}, check=True, capture_output=True, text=True
    )
    result: dict[str, float] = json.loads(done.stdout)
    return result


def main() -> None:
    """Measure in turns and print a table, or do what the options say."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--identity", action="store_true")
    parser.add_argument("--megabytes", type=float, default=25, help="of each language at most")
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--measure", nargs=3, metavar=("ENGINE", "LANGUAGE", "MEGABYTES"))
    options = parser.parse_args()
    if options.measure:
        engine, language, megabytes = options.measure
        print(json.dumps(measure(engine, language, float(megabytes))))
        return
    if options.identity:
        compare()
        return
    cases = [
        (engine, language, threads)
        for engine in ENGINES
        if engine == "ranks" or find_spec(engine)
        for threads in options.threads
        for language in ("zh", "en")
        if engine != "ranks" or threads == 1
    ]
    turns: dict[tuple[str, str, int], list[dict[str, float]]] = {case: [] for case in cases}
    for _ in range(options.repeats):
        for case in cases:
            turns[case].append(measured(*case, options.megabytes))
    print(
        "| engine | threads | load s | zh MB/s | en MB/s | MB loaded | MB after each 11 MB more |"
    )
    print("|---|--:|--:|--:|--:|--:|---|")
    for engine, _, threads in (case for case in cases if case[1] == "zh"):
        both = {language: turns[engine, language, threads] for language in ("zh", "en")}
        middle = {key: median(turn[key] for turn in both["en"]) for key in both["en"][0]}
        speeds = [median(turn["speed"] for turn in both[one]) for one in ("zh", "en")]
        grown = ", ".join(f"{value:.0f}" for key, value in middle.items() if "grown" in key)
        print(
            f"| {engine} | {threads} | {middle['load']:.2f} | {speeds[0]:.1f} | {speeds[1]:.1f} "
            f"| {middle['loaded']:.0f} | {grown} |"
        )


if __name__ == "__main__":
    main()
