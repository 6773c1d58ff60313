"""Scores diagnosers on the recorded runs of tests/gallery: `glmdiag report`, trainproof, runmedic.

    python bench/gallery_score.py                    # glmdiag, by kind and in sum
    python bench/gallery_score.py --split tune       # seed 1 alone; held-out: seeds 2 and 3
    python bench/gallery_score.py --who trainproof runmedic    # the others, see gallery_peers.py
    python bench/gallery_score.py --kind rc042 --wrong    # what was said instead

Of each run only the top cause counts. Recall: the share of faulty runs whose cause it is.
Precision: the share of the runs it names a cause for, whose cause it is; one that is named for a
healthy run is wrong. A healthy run called an error is counted by itself.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gallery_records import Record, kept, unpacked

Diagnoser = Callable[[Record], "Verdict"]
WHO = ("glmdiag", "trainproof", "runmedic")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a diagnoser says of a run.

    `causes` are ours that its first finding stands for; glmdiag names exactly one. `error` says
    that anything it found is an error, `said` is its own word for the first.
    """

    causes: frozenset[str] = frozenset()
    error: bool = False
    said: str = "-"

    def right(self, record: Record) -> bool:
        """Whether the cause is named."""
        return record.cause in self.causes

    @property
    def named(self) -> bool:
        """Whether it names any cause."""
        return self.said != "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Sums over runs."""

    faulty: int
    right: int
    named: int
    healthy: int
    called_errors: int
    called_warnings: int

    @property
    def recall(self) -> float:
        """Of the faulty runs, those whose top cause is right."""
        return self.right / max(1, self.faulty)

    @property
    def precision(self) -> float:
        """Of the runs a cause is named for, those whose cause it is."""
        return self.right / max(1, self.named)

    @classmethod
    def of(cls, judged: Sequence[tuple[Record, Verdict]]) -> Score:
        """Count."""
        healthy = [verdict for record, verdict in judged if record.cause is None]
        errors = sum(verdict.error for verdict in healthy)
        return cls(
            faulty=len(judged) - len(healthy),
            right=sum(verdict.right(record) for record, verdict in judged),
            named=sum(verdict.named for _, verdict in judged),
            healthy=len(healthy),
            called_errors=errors,
            called_warnings=sum(verdict.named for verdict in healthy) - errors,
        )


def glmdiag(record: Record) -> Verdict:
    """`glmdiag report`, as a user calls it but in this process."""
    told = _reported(record)
    if told is None:
        return Verdict(error=True, said="failed")
    causes = told["causes"]
    if not causes:
        return Verdict()
    error = any(cause["severity"] == "error" for cause in causes)
    return Verdict(causes=frozenset({causes[0]["id"]}), error=error, said=causes[0]["id"])


def judged(diagnoser: Diagnoser, records: Sequence[Record]) -> list[tuple[Record, Verdict]]:
    """Each run with what is said of it."""
    return [(record, diagnoser(record)) for record in records]


def by_kind(found: Sequence[tuple[Record, Verdict]]) -> list[str]:
    """A line of a table for each kind: how many runs, how many right, what was said."""
    lines = ["| kind | runs | right | said |", "|---|---|---|---|"]
    for kind in sorted({record.kind for record, _ in found if record.cause}):
        of_kind = [each for each in found if each[0].kind == kind]
        right = sum(verdict.right(record) for record, verdict in of_kind)
        said = " ".join(verdict.said for _, verdict in of_kind)
        lines.append(f"| {kind} | {len(of_kind)} | {right} | {said} |")
    return lines


def in_sum(name: str, found: Sequence[tuple[Record, Verdict]]) -> str:
    """One line of the table of sums."""
    score = Score.of(found)
    return (
        f"| {name} | {score.faulty} | {score.recall:.3f} | {score.precision:.3f} | "
        f"{score.healthy} | {score.called_errors} | {score.called_warnings} |"
    )


def main() -> None:
    """Print the tables."""
    asked = _arguments()
    with nullcontext(kept(asked.records)) if asked.records else unpacked() as records:
        chosen = [record for record in records if _wanted(record, asked)]
        found = {name: judged(_diagnoser(name), chosen) for name in asked.who}
        for name, each in found.items():
            print(f"{name}:")
            if asked.wrong:
                _print_wrong(each)
            print("\n".join(by_kind(each)), end="\n\n")
        print("| | faulty | recall | precision | healthy | called an error | warned of |")
        print("|---|---|---|---|---|---|---|")
        for name, each in found.items():
            for split in ("tune", "held-out"):
                part = [one for one in each if one[0].held_out == (split == "held-out")]
                if part:
                    print(in_sum(f"{name}, {split}", part))


def _diagnoser(name: str) -> Diagnoser:
    """Who is called so."""
    if name == "glmdiag":
        return glmdiag
    from gallery_peers import PEERS

    return PEERS[name]


def _reported(record: Record) -> Any:
    """The JSON of the report; None, and a line on standard error, where it ends without one."""
    from click.testing import CliRunner
    from glmdiag.cli import glmdiag as command

    arguments = ["report", str(record.run), "--simulate", record.card, "--base"]
    arguments += [str(record.folder / "base"), "--fail-on", "never", "--json", "-"]
    for config in record.configs:
        arguments += ["--config", str(config)]
    if record.data is not None:
        arguments += ["--shards", str(record.data)]
    outcome = CliRunner().invoke(command, arguments)
    if outcome.exit_code != 0:
        print(f"{record.folder.name}: {outcome.output} {outcome.exception!r}", file=sys.stderr)
        return None
    return json.loads(outcome.stdout)


def _print_wrong(found: Sequence[tuple[Record, Verdict]]) -> None:
    for record, verdict in found:
        if not verdict.right(record) and (record.cause or verdict.named):
            print(f"{record.folder.name}: {verdict.said}{' (error)' if verdict.error else ''}")


def _wanted(record: Record, asked: argparse.Namespace) -> bool:
    split = asked.split in (None, "held-out" if record.held_out else "tune")
    return split and (asked.kind is None or record.kind.startswith(asked.kind))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--split", choices=["tune", "held-out"])
    parser.add_argument("--kind", help="kinds whose names begin so")
    parser.add_argument("--who", nargs="+", choices=WHO, default=["glmdiag"])
    parser.add_argument("--records", type=Path, help="a folder of records in place of the archives")
    parser.add_argument("--wrong", action="store_true", help="list the runs that it gets wrong")
    return parser.parse_args()


if __name__ == "__main__":
    main()
