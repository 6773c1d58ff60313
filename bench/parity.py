"""Ids and masks of every family beside the models' own templates, on real conversations.

    python bench/parity.py [FAMILY ...] [--thinking on|off|auto] [--jobs N]

The conversations lie in the folder that GLM_ASSETS names, or in ../shared/assets beside the
repository: dialogues, tool calls with their results, several calls at once, content in parts and
null, reasoning. One in four that has no reasoning gets some. What ids and masks should be is told
by tests/dataprep/references.py, from the templates as transformers renders them, and for ChatGLM3
by chatglm3_reference.py; a family is added to the comparison in `REFERENCES` there, or in `expect`
here. Rows with text of control tokens are left out: there the two are meant to differ.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "tests" / "dataprep"))

NAMES = ("chatglm3", "glm4", "glm4-0414", "glm-z1", "glm4.5", "glm4.6", "glm4.7")
COUNTS = {
    "smilechat": 120,
    "sgd": 100,
    "glaive": 100,
    "kdconv": 100,
    "parts": 80,
    "tau-bench": 20,
    "thinking": 50,
}
Expect = Callable[[Any], tuple[list[int], list[int]]]


@dataclass(kw_only=True)
class Sums:
    """What was compared, and in how many tokens the two differ."""

    name: str
    conversations: int = 0
    rows: int = 0
    tokens: int = 0
    trained: int = 0
    ids: int = 0
    masks: int = 0


def assets() -> Path:
    """The folder with real data."""
    beside = REPOSITORY.parent / "shared" / "assets"
    return Path(os.environ.get("GLM_ASSETS", beside))


def conversations() -> Iterator[Any]:
    """Real conversations, as glmprep parses them."""
    import realdata
    from glmprep.parse import parse
    from glmprep.records import Origin, RawRow

    for kind, count in COUNTS.items():
        rows = list(islice(realdata.rows(assets(), kind), count))
        if kind != "thinking":
            rows[::4] = realdata.reasoned(rows[::4])
        raw = [RawRow(value=row, origin=Origin(kind, n)) for n, row in enumerate(rows, 1)]
        yield from parse(raw)


def expect(name: str, thinking: str, folder: Path) -> tuple[str, Expect]:
    """The tokenizer that a family is compared on, and what gives a row's ids and mask."""
    import chatglm3_reference
    import references
    from glmprep import canonical

    if name == "chatglm3":
        path = assets() / "tokenizer" / "chatglm2-3-6b"
        model = path / "tokenizer.model"
        return str(path), lambda row: chatglm3_reference.reference(row, model)
    from glmprep.encoders import embedded

    setup = references.REFERENCES[name]
    data = references.vocabulary(embedded.whole(), setup.tokens)
    (folder / "tokenizer.json").write_bytes(data)
    template = (assets() / "templates" / setup.template).read_text("utf-8")
    reference = setup.make(data, template, thinking)
    return str(folder), lambda row: reference(json.loads(canonical.line(row)))


def compare(name: str, thinking: Any) -> Sums:
    """A family beside its reference, row by row."""
    from glmprep import families
    from glmprep.labels import tokenize
    from glmprep.tokenizer import load

    sums = Sums(name=name)
    with tempfile.TemporaryDirectory() as folder:
        path, expected = expect(name, thinking, Path(folder))
        tokenizer = load(path)
        family = families.load(name, tokenizer, thinking=thinking)
        for conversation in conversations():
            if any(token in repr(conversation) for token in tokenizer.added):
                continue
            sums.conversations += 1
            for row in family.rows(conversation):
                batch = tokenize([row], family, tokenizer)
                ids, mask = expected(row)
                sums.rows += 1
                sums.tokens += len(ids)
                sums.trained += sum(mask)
                sums.ids += differing(batch.ids.tolist(), ids)
                sums.masks += differing(batch.mask.tolist(), mask)
    return sums


def differing(ours: list[int], theirs: list[int]) -> int:
    """Places in which two lists differ."""
    pairs = zip(ours, theirs, strict=False)
    return sum(a != b for a, b in pairs) + abs(len(ours) - len(theirs))


def main() -> int:
    """Print the table; the status is 1 where anything differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("names", nargs="*", metavar="FAMILY", default=NAMES)
    parser.add_argument("--thinking", choices=("on", "off", "auto"), default="on")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    print(f"thinking {options.thinking}; differing counts tokens")
    print("family     conversations   rows     tokens    trained  differing ids  differing masks")
    faults = 0
    with ProcessPoolExecutor(options.jobs) as pool:
        for one in pool.map(compare, options.names, [options.thinking] * len(options.names)):
            print(
                f"{one.name:10} {one.conversations:13,} {one.rows:6,} {one.tokens:10,}"
                f" {one.trained:10,} {one.ids:14,} {one.masks:16,}",
                flush=True,
            )
            faults += one.ids + one.masks
    return min(faults, 1)


if __name__ == "__main__":
    raise SystemExit(main())
