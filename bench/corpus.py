"""The corpus of the benchmarks: all real conversations of the assets, each text once.

    python bench/corpus.py -o CORPUS.jsonl                 # about 94 MB
    python bench/corpus.py -o SMALL.jsonl --rows 500       # the first rows of it
    python bench/corpus.py -o LARGE.jsonl --rows 1000000 --repeat
    python bench/corpus.py -o HUGE.jsonl --bytes 10e9 --repeat

The assets lie in the folder that GLM_ASSETS names, or in ../shared/assets beside the repository.
Rows are canonical `messages` as `glmprep convert` writes them, in an order that depends on their
content alone. A conversation that says the same as one before is left out. Of a meeting the first
question holds the transcript, and questions and answers follow. What cannot be a conversation is
left out: texts for pretraining, rows with pictures, answers that were judged bad. With `--repeat`
the corpus is written again and again under other ids until it is large enough: for growth and
memory, not for speed, since text that was seen before flatters caches.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import itertools
import json
import os
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from glmprep import canonical
from glmprep.parse import parse
from glmprep.read import read
from glmprep.records import Conversation, Origin, RawRow

REPOSITORY = Path(__file__).resolve().parents[1]
ROLES = {"client": "user", "counselor": "assistant"}
SEED = "glm-bench-1"
READ = (
    "smilechat/*.jsonl.gz",
    "sgd/*.jsonl.gz",
    "tau_bench/gpt-4o-airline.json.gz",
    "llamafactory/alpaca_*_demo.json",
    "llamafactory/dpo_*_demo.json",
    "llamafactory/glaive_*_demo.json",
    "llamafactory/identity.json",
    "llamafactory/kto_en_demo.json",
    "llamafactory/reason_tool_use_demo_50.jsonl",
    "llamafactory/v1_*_demo.jsonl",
)
"""What glmprep reads as it is; the other sources are put into messages below."""
ENGLISH = "You answer questions about a meeting from its transcript."
CHINESE = "你根据会议记录回答问题。"
Row = dict[str, Any]


def assets() -> Path:
    """The folder with real data."""
    beside = REPOSITORY.parent / "shared" / "assets"
    return Path(os.environ.get("GLM_ASSETS", beside))


def lines(folder: Path) -> list[bytes]:
    """The corpus, a row a line."""
    found: dict[bytes, bytes] = {}
    for name, conversation in conversations(folder):
        row = canonical.row(conversation)
        said = json.dumps([row["messages"], row.get("tools")], sort_keys=True).encode()
        key = hashlib.sha256(SEED.encode() + said).digest()
        if key not in found:
            identified = {**row, "id": f"{name}-{key.hex()[:16]}"}
            found[key] = json.dumps(identified, ensure_ascii=False).encode() + b"\n"
    return [found[key] for key in sorted(found)]


def conversations(folder: Path) -> Iterator[tuple[str, Conversation]]:
    """Every conversation and the name of where it is from."""
    data = folder / "data"
    paths = [str(path) for pattern in READ for path in sorted(data.glob(pattern))]
    rows = itertools.chain(read(paths), kdconv(data), qmsum(data), vcsum(data))
    for found in parse(rows, ROLES, take="chosen"):
        if isinstance(found, Conversation):
            yield Path(found.origin.path).name.split(".")[0], found


def kdconv(data: Path) -> Iterator[RawRow]:
    """Knowledge dialogues: the two who speak take turns."""
    for path in sorted((data / "kdconv").glob("*.json.gz")):
        for place, dialogue in enumerate(json.loads(gzip.decompress(path.read_bytes())), 1):
            said = [turn["message"] for turn in dialogue["messages"]]
            yield _raw(_exchange("", zip(said[::2], said[1::2], strict=False)), path, place)


def qmsum(data: Path) -> Iterator[RawRow]:
    """English meetings and the questions asked about them."""
    for path in sorted((data / "qmsum").glob("*.jsonl.gz")):
        for place, meeting in enumerate(_rows(path), 1):
            turns = meeting["meeting_transcripts"]
            transcript = "\n".join(f"{turn['speaker']}: {turn['content']}" for turn in turns)
            asked = meeting["general_query_list"] + meeting["specific_query_list"]
            pairs = ((pair["query"], pair["answer"]) for pair in asked)
            yield _raw(_exchange(ENGLISH, pairs, transcript), path, place)


def vcsum(data: Path) -> Iterator[RawRow]:
    """Chinese meetings, each in several rows, and what was said about each matter."""
    for path in sorted((data / "vcsum").glob("*.jsonl.gz")):
        meetings = defaultdict(list)
        for part in _rows(path):
            meetings[part["av_num"]].append(part)
        for place, parts in enumerate(meetings.values(), 1):
            said = [
                f"说话人{speaker}：{''.join(texts)}"
                for part in parts
                for speaker, texts in zip(part["speaker"], part["context"], strict=True)
            ]
            pairs = ((f"关于“{part['agenda']}”说了什么？", part["discussion"]) for part in parts)
            yield _raw(_exchange(CHINESE, pairs, "\n".join(said)), path, place)


def _exchange(system: str, pairs: Iterable[tuple[str, str]], transcript: str = "") -> Row:
    """Questions and answers, the first question with the transcript before it."""
    messages = [{"role": "system", "content": system}] if system else []
    for place, (question, answer) in enumerate(pairs):
        asked = f"{transcript}\n\n{question}" if transcript and not place else question
        messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
    return {"messages": messages}


def _raw(row: Row, path: Path, place: int) -> RawRow:
    return RawRow(value=row, origin=Origin(str(path), place))


def _rows(path: Path) -> Iterator[Row]:
    yield from map(json.loads, gzip.decompress(path.read_bytes()).splitlines())


@dataclass(kw_only=True)
class Written:
    """What a file holds."""

    size: int = 0
    rows: int = 0
    messages: int = 0
    sha256: Any = field(default_factory=hashlib.sha256)

    def add(self, line: bytes) -> None:
        self.size += len(line)
        self.rows += 1
        self.messages += line.count(b'{"role": ')
        self.sha256.update(line)


def write(path: Path, rows: Iterable[bytes], most_rows: float, least_bytes: float) -> Written:
    """Write rows until there are enough of them, or of bytes."""
    written = Written()
    with path.open("wb") as file:
        for row in rows:
            if written.rows >= most_rows or written.size >= least_bytes:
                break
            file.write(row)
            written.add(row)
    return written


def repeated(rows: list[bytes]) -> Iterator[bytes]:
    """The rows again and again, each time under other ids."""
    yield from rows
    for turn in itertools.count(2):
        for row in rows:
            yield row.replace(b'{"id": "', b'{"id": "%d-' % turn, 1)


def main() -> None:
    """Write the corpus and say what it holds."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--rows", type=float, default=float("inf"))
    parser.add_argument("--bytes", type=float, default=float("inf"))
    parser.add_argument("--repeat", action="store_true", help="until ROWS or BYTES are reached")
    options = parser.parse_args()
    if options.repeat and options.rows == options.bytes:
        parser.error("--repeat needs --rows or --bytes")
    if not (assets() / "data").is_dir():
        sys.exit(f"{assets()}: holds no folder named data; set GLM_ASSETS")
    rows = lines(assets())
    made = repeated(rows) if options.repeat else iter(rows)
    written = write(options.output, made, options.rows, options.bytes)
    print(f"{written.size:,} bytes, {written.rows:,} rows, {written.messages:,} messages")
    print(f"sha256 {written.sha256.hexdigest()}")


if __name__ == "__main__":
    main()
