"""What `glmprep merge --trim all` takes out of real meetings, and whether all of it comes back.

    python bench/merge.py

QMSum (English): each meeting one user's message of `Speaker: text` lines, with its first general
question and its answer. VCSum (Chinese, recognised speech): each row `speaker：text` lines, with
what was discussed as the answer. Seconds are those of one core, start of the program included.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from meetings import assets, rows_of


def qmsum() -> Iterator[tuple[str, str, str]]:
    """Transcript, question and answer of each meeting."""
    for file in sorted((assets() / "data" / "qmsum").glob("*.jsonl.gz")):
        for row in rows_of(file):
            said = [f"{turn['speaker']}: {turn['content']}" for turn in row["meeting_transcripts"]]
            query = row["general_query_list"][0]
            yield "\n".join(said), query["query"], query["answer"]


def vcsum() -> Iterator[tuple[str, str, str]]:
    """Transcript, question and answer of each row."""
    for row in rows_of(assets() / "data" / "vcsum" / "short_dev.jsonl.gz"):
        turns = zip(row["speaker"], row["context"], strict=True)
        said = "\n".join(f"{speaker}：{''.join(turn)}" for speaker, turn in turns)
        yield said, "请总结这段会议。", row["discussion"]


def write(path: Path, meetings: Iterator[tuple[str, str, str]]) -> None:
    """Write conversations of the meetings."""
    with path.open("w", encoding="utf-8") as file:
        for said, question, answer in meetings:
            asked = {"role": "user", "content": f"{said}\n\n{question}"}
            row = {"messages": [asked, {"role": "assistant", "content": answer}]}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def glmprep(*arguments: str | Path) -> float:
    """Run the command; its seconds of processor time."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    command = [sys.executable, "-m", "glmprep.cli", *map(str, arguments), "--quiet"]
    subprocess.run(command, check=True)
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before


def measure(name: str, folder: Path, meetings: Iterator[tuple[str, str, str]]) -> None:
    """Merge, take back, and print what each rule removed."""
    data, merged, back, plain = (
        folder / f"{part}.jsonl" for part in ("data", "out", "back", "plain")
    )
    found = folder / "found.json"
    write(data, meetings)
    asked = ("--trim", "all", "--workers", "1")
    seconds = glmprep("merge", data, *asked, "-o", merged, "--json", found)
    glmprep("merge", merged, "--undo", f"{merged}.merges.jsonl", "-o", back)
    glmprep("convert", data, "-o", plain)
    result: dict[str, Any] = json.loads(found.read_bytes())
    tokens = [result[when]["trained"] + result[when]["context"] for when in ("before", "after")]
    same = back.read_bytes() == plain.read_bytes()
    print(f"\n{name}: {tokens[0]:,} tokens, {tokens[1]:,} left; {seconds:.0f} s; undone: {same}\n")
    print("| rule | places | trained tokens | context tokens |\n|---|---|---|---|")
    for rule, one in sorted(result["rules"].items()):
        removed = one["removed"]
        print(f"| {rule} | {one['places']:,} | {removed['trained']:,} | {removed['context']:,} |")


if __name__ == "__main__":
    for name, meetings in (("QMSum", qmsum()), ("VCSum", vcsum())):
        with tempfile.TemporaryDirectory() as folder:
            measure(name, Path(folder), meetings)
