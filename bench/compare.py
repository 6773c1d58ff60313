"""The road from JSON Lines to a tokenized data set on disk: glmprep beside other trainers.

    bash bench/peers.sh      # once: installs the others, each in an environment of its own
    python bench/compare.py [--repeats N] [--rows N]

Everything runs in turn, each in a process of its own from its start to its end, on files that are
in the page cache, without any cache of its own, and N times over, so that a change in the machine's
speed meets all. Two worker processes each. What was written is counted from the files. The corpus
is that of bench/corpus.py; the others get it in the form that they read (bench/peers/forms.py),
and making that form is not timed. Writes bench/results/peers.json, and from it the section in
docs/benchmarks.md with its plot (bench/page.py). What is not installed is left out and said.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import page
from corpus import assets
from measure import Failed, Measured, measure
from written import Written, of_cached, of_saved, of_shards

BENCH = Path(__file__).resolve().parent
RESULTS = BENCH / "results/peers.json"
ENVIRONMENTS = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "glmprep-bench"
GLMPREP = str(Path(sys.executable).with_name("glmprep"))
LENGTH = 8192
PROCESSES = 2
OURS = "glmprep bucket"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The files of one run."""

    corpus: Path
    forms: Path
    out: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """One that is measured: its command, and how what it wrote is counted."""

    name: str
    packed: bool
    command: Callable[[Place], Sequence[str]]
    count: Callable[[Path], Written] | None


def runners(environments: Path) -> list[Runner]:
    """All that can run here."""
    found = [
        Runner(name=OURS, packed=True, command=_bucket(), count=of_shards),
        Runner(
            name="tokenization alone, tokenizers",
            packed=False,
            command=_alone("tokenizers"),
            count=None,
        ),
    ]
    if "--tokenizer-engine" in _output([GLMPREP, "bucket", "--help"]):
        command = _bucket("--tokenizer-engine", "tokenizers")
        found.insert(
            1,
            Runner(
                name="glmprep bucket, tokenizers", packed=True, command=command, count=of_shards
            ),
        )
    if importlib.util.find_spec("fastokens"):
        found.append(
            Runner(
                name="tokenization alone, fastokens",
                packed=False,
                command=_alone("fastokens"),
                count=None,
            )
        )
    for name, script, environment, packed, count in (
        ("LLaMA-Factory", "run_llamafactory.py", "llamafactory", True, of_saved),
        ("TRL", "run_trl.py", "trl", True, of_saved),
        ("official script", "run_official.py", "trl", False, of_cached),
    ):
        python = environments / environment / "bin/python"
        if python.exists():
            command = _peer(str(python), script)
            found.append(Runner(name=name, packed=packed, command=command, count=count))
        else:
            print(f"{name} is left out: {python} does not exist; run bench/peers.sh")
    return found


def _bucket(*more: str) -> Callable[[Place], Sequence[str]]:
    fixed = ("--layout", "packed", "--max-length", str(LENGTH), "--max-rejects", "1", "--quiet")
    return lambda at: [
        GLMPREP,
        "bucket",
        str(at.corpus),
        *fixed,
        *more,
        "-o",
        str(at.out / "shards"),
    ]


def _alone(engine: str) -> Callable[[Place], Sequence[str]]:
    script = str(BENCH / "peers/run_tokens.py")
    return lambda at: [sys.executable, script, engine, str(at.corpus)]


def _peer(python: str, script: str) -> Callable[[Place], Sequence[str]]:
    path = str(BENCH / "peers" / script)
    return lambda at: [python, path, str(at.forms), str(at.out), str(LENGTH), str(PROCESSES)]


def run(runner: Runner, corpus: Path, forms: Path, work: Path) -> dict[str, Any]:
    """One run: what it took, what it wrote, and what it said if it measures itself."""
    out = work / "out"
    out.mkdir()
    log = work / "log.txt"
    environment = {
        "HF_HOME": str(out / "cache"),
        "HF_DATASETS_CACHE": str(out / "cache/datasets"),
        "HF_HUB_OFFLINE": "1",
        "TMPDIR": str(out),
        "WANDB_MODE": "disabled",
    }
    place = Place(corpus=corpus, forms=forms, out=out)
    taken: Measured = measure(runner.command(place), environment, log)
    found = asdict(taken)
    if runner.count:
        found |= asdict(runner.count(out))
    else:
        found |= json.loads(log.read_bytes().splitlines()[-1])
    shutil.rmtree(out)
    return found


def in_turn(
    taking_part: list[Runner], corpus: Path, forms: Path, work: Path, turn: int
) -> dict[str, dict[str, Any]]:
    """One run of each; who fails is told, and takes part no more."""
    found = {}
    for runner in list(taking_part):
        try:
            found[runner.name] = run(runner, corpus, forms, work)
        except Failed as error:
            print(f"{runner.name} is left out: {error}", file=sys.stderr)
            taking_part.remove(runner)
            shutil.rmtree(work / "out")
            continue
        print(f"{turn}  {runner.name:32}{found[runner.name]['wall']:8.1f} s", flush=True)
    return found


def prepare(work: Path, rows: int | None) -> tuple[Path, Path, dict[str, int]]:
    """The corpus, the forms for the others, and the size of the corpus."""
    corpus, forms = work / "corpus.jsonl", work / "forms"
    only = ["--rows", str(rows)] if rows else []
    made = _output([sys.executable, str(BENCH / "corpus.py"), "-o", str(corpus), *only])
    print(made, end="")
    model = assets() / "tokenizer/glm-4-9b-chat"
    _output([sys.executable, str(BENCH / "peers/forms.py"), str(corpus), str(model), str(forms)])
    return (
        corpus,
        forms,
        {"rows": int(corpus.read_bytes().count(b"\n")), "bytes": corpus.stat().st_size},
    )


def _output(command: Sequence[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def versions(environments: Path) -> dict[str, str]:
    """The versions of all that takes part."""
    wanted = {
        sys.executable: ("tokenizers", "fastokens"),
        str(environments / "llamafactory/bin/python"): ("llamafactory", "transformers", "datasets"),
        str(environments / "trl/bin/python"): ("trl", "transformers", "datasets"),
    }
    asked = (
        "import importlib.metadata as m, sys\n"
        "known = {d.name.lower() for d in m.distributions()}\n"
        "print(*(f'{n} {m.version(n)}' for n in sys.argv[1:] if n in known), sep=', ')"
    )
    return {
        ("glmprep", "LLaMA-Factory", "TRL, official script")[place]: _output(
            [python, "-c", asked, *names]
        ).strip()
        for place, (python, names) in enumerate(wanted.items())
        if Path(python).exists()
    }


def main() -> None:
    """Measure, write the results, and with them the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rows", type=int, help="the first rows of the corpus alone, for a trial")
    parser.add_argument("--only", nargs="*", help="names of those to run")
    parser.add_argument("--environments", type=Path, default=ENVIRONMENTS)
    parser.add_argument("--results", type=Path, help=f"in place of {RESULTS.name}; no page then")
    options = parser.parse_args()
    taking_part = [
        runner
        for runner in runners(options.environments)
        if not options.only or runner.name in options.only
    ]
    with tempfile.TemporaryDirectory(prefix="glmprep-bench-") as folder:
        work = Path(folder)
        corpus, forms, size = prepare(work, options.rows)
        turns = [
            in_turn(taking_part, corpus, forms, work, turn)
            for turn in range(1, options.repeats + 1)
        ]
    done = {runner.name for runner in taking_part}
    results = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{os.cpu_count()} cores, Python {platform.python_version()}",
        "corpus": size,
        "length": LENGTH,
        "packed": [runner.name for runner in taking_part if runner.packed],
        "versions": versions(options.environments),
        "turns": [{name: turn[name] for name in turn if name in done} for turn in turns],
    }
    path = options.results or RESULTS
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n")
    print(page.table(results))
    if not options.results:
        page.write()


if __name__ == "__main__":
    main()
