"""The section of docs/benchmarks.md on other trainers and on growth, from the results on disk.

    python bench/page.py

Reads bench/results/peers.json and growth.json as bench/compare.py and bench/growth.py left them,
and writes what stands between the two marks in docs/benchmarks.md, and docs/images/bench-*.svg.
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS = REPOSITORY / "bench/results"
PAGE = REPOSITORY / "docs/benchmarks.md"
IMAGES = REPOSITORY / "docs/images"
BEGIN, END = "<!-- bench: peers, begin -->", "<!-- bench: peers, end -->"
OURS = "glmprep bucket"
BOUND = "tokenization alone"
Results = dict[str, Any]


def write() -> None:
    """Write the section and the plots."""
    import plot

    text = PAGE.read_text("utf-8")
    if BEGIN not in text:
        text = f"{text.rstrip()}\n\n{BEGIN}\n{END}\n"
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    parts = []
    for name, section, draw in (
        ("peers", peers, plot.peers),
        ("growth", growth, plot.growth),
    ):
        path = RESULTS / f"{name}.json"
        if path.exists():
            results = json.loads(path.read_bytes())
            draw(results, IMAGES / f"bench-{name}.svg")
            parts.append(section(results))
    PAGE.write_text(f"{before}{BEGIN}\n{''.join(parts)}{END}{after}", "utf-8")


def names(results: Results) -> list[str]:
    """Those that were measured, ours first and the bounds last."""
    return sorted(results["turns"][0], key=lambda name: name.startswith(BOUND))


def middle(results: Results, name: str, field: str) -> float:
    """The median over the turns."""
    return float(median(turn[name][field] for turn in results["turns"]))


def ratio(results: Results, name: str, to: str = OURS, field: str = "wall") -> float:
    """The median over the turns of how many times as much one took as another."""
    return float(median(turn[name][field] / turn[to][field] for turn in results["turns"]))


def table(results: Results) -> str:
    """Those that write a data set, then the bounds, as Markdown."""
    heads = (
        "",
        "seconds",
        "times glmprep",
        "CPU s",
        "rows/s",
        "tokens/s",
        "MB/s",
        "peak memory",
        "resident",
        "packing",
        "trained tokens",
    )
    rows = [_row(results, name) for name in names(results)]
    lines = [heads, ("---",) * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines).replace("|  |", "| |")


def _row(results: Results, name: str) -> tuple[str, ...]:
    seconds = middle(results, name, "wall")
    first = results["turns"][0][name]
    packed = name in results["packed"]
    filled = first["tokens"] / (first["rows"] * results["length"]) if packed else 0
    trained = first.get("supervised")
    return (
        name,
        f"{seconds:.1f}",
        f"{ratio(results, name):.2f}",
        f"{middle(results, name, 'cpu'):.1f}",
        f"{results['corpus']['rows'] / seconds:,.0f}",
        f"{first['tokens'] / seconds:,.0f}",
        f"{results['corpus']['bytes'] / 1e6 / seconds:.1f}",
        f"{middle(results, name, 'peak') / 1e6:,.0f} MB",
        f"{middle(results, name, 'resident') / 1e6:,.0f} MB",
        f"{filled:.2%}" if packed else "–",
        f"{trained:,}" if trained is not None else "–",
    )


def peers(results: Results) -> str:
    """The section on other trainers."""
    corpus = results["corpus"]
    installed = "; ".join(f"{who}: {what}" for who, what in results["versions"].items())
    return f"""## Beside other trainers

All real conversations of the assets, each text once ({corpus["rows"]:,} rows,
{corpus["bytes"] / 1e6:.1f} MB), from JSON Lines to a tokenized data set on disk at
{results["length"]:,} tokens, start-up included. {results["machine"]}, {results["date"]},
turns: {len(results["turns"])}, medians. Peak memory is the proportional set size of all processes
of a run (shared pages count once), resident the sum of their resident set sizes.
`bash bench/peers.sh && python bench/compare.py`

{table(results)}
![Seconds and peak memory beside other trainers](images/bench-peers.svg)

{bounds(results)}
- LLaMA-Factory: template `glm4`, `packing`, two workers, saved to `tokenized_path`.
- TRL: what `SFTTrainer` does with its data, losses on answers only, packing `bfd`, two workers.
- Official script: its `process_batch` written anew, `combine: false`, two workers, unpacked.
- The others' input was put into their own forms beforehand, which is not timed, and they neither
  check the data nor account for it.
- Conversations that are too long are set aside by glmprep (`glmprep segment` splits them) and cut
  by the others: there trained tokens differ, and in labels ([peers](peers.md)).
- {installed}.

"""


def bounds(results: Results) -> str:
    """What tokenization alone takes, and how many times as long ours takes."""
    lines = []
    for engine, ours in (("fastokens", OURS), ("tokenizers", f"{OURS}, tokenizers")):
        bound = f"{BOUND}, {engine}"
        if {bound, ours} <= set(names(results)):
            loading, reading, encoding = (
                f"{middle(results, bound, part):.2f} s"
                for part in ("loading", "reading", "encoding")
            )
            bare = median(
                turn[ours]["wall"] / (turn[bound]["wall"] - turn[bound]["loading"])
                for turn in results["turns"]
            )
            lines.append(
                f"Tokenization alone with {engine} loads the vocabulary in {loading}, reads in"
                f" {reading} and encodes in {encoding}.\n`{ours}` takes"
                f" {ratio(results, ours, bound):.2f} times as long as that process, and {bare:.2f}"
                " times with its loading left out.\n"
            )
    return "".join(lines)


def growth(results: Results) -> str:
    """The section on growth."""
    lines = "".join(
        f"| {run['rows']:,} | {run['bytes'] / 1e6:,.0f} MB | {run['wall']:.1f} |"
        f" {run['rows'] / run['wall']:,.0f} | {run['peak'] / 1e6:,.0f} MB |"
        f" {run['resident'] / 1e6:,.0f} MB |\n"
        for run in results["runs"]
    )
    return f"""## Growth

`glmprep bucket --layout packed` on the same conversations, repeated under other ids.
{results["machine"]}, {results["date"]}. `python bench/growth.py`

| rows | input | seconds | rows/s | peak memory | resident |
|---|---|---|---|---|---|
{lines}
Time grows with the power {results["exponent"]:.3f} of the rows, the
start-up of {results["start"]:.1f} s taken off.

![Seconds and peak memory by rows](images/bench-growth.svg)

"""


if __name__ == "__main__":
    write()
