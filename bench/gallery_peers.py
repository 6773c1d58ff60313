"""What trainproof and runmedic say of the recorded runs, in the terms of our causes.

Both read logs alone (trainproof's other commands are for speech data, texts and pickled
checkpoints). They are given the whole output folder, as their documentation shows, and where they
find no log in it, the log file itself. They run in an environment of their own:

    python3 -m venv ~/.cache/glmprep-bench/diagnosers
    ~/.cache/glmprep-bench/diagnosers/bin/pip install trainproof==0.22.0 runmedic==0.1.1

The tables are generous: a finding counts as right for each cause whose mechanism it names in its
own words, or whose plain effect it is. Their own order decides which finding comes first.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gallery_records import Record
from gallery_score import Diagnoser, Verdict

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
BIN = CACHE / "glmprep-bench/diagnosers/bin"
SECONDS = 60
NOTHING = {"PASS", "INFO", "info"}

TRAINPROOF: dict[str, frozenset[str]] = {
    # "Loss is exactly zero": it names labels that are all masked and the NaN filter.
    "TP-ZERO-LOSS": frozenset({"RC001", "RC008", "RC014"}),
    "TP-ZERO-LOSS-ONSET": frozenset({"RC001", "RC008", "RC014"}),
    # "NaN or Inf detected": overflow, a bad row, or a rate that is too high.
    "TP-NAN": frozenset({"RC001", "RC014", "RC021", "RC042"}),
    "TP-NAN-GRAD": frozenset({"RC001", "RC014", "RC021", "RC042"}),
    # "Loss curve is completely flat", "never improved": whatever keeps weights where they are.
    "TP-FLAT": frozenset({"RC015", "RC022", "RC023", "RC026", "RC041"}),
    "TP-DEAD-RUN": frozenset({"RC015", "RC022", "RC023", "RC026", "RC041", "RC005", "RC052"}),
    # "Loss curve is diverging".
    "TP-DIVERGE": frozenset({"RC021", "RC024", "RC025"}),
    "TP-ZERO-GRAD": frozenset({"RC041", "RC001"}),
    "TP-GRAD-SPIKE": frozenset({"RC024", "RC025", "RC042", "RC026"}),
    "TP-ZERO-LR": frozenset({"RC023"}),
    "TP-ZERO-LR-PARTIAL": frozenset({"RC023"}),
    "TP-OVERFIT": frozenset({"RC027"}),
    "TP-STEP-CLIFF": frozenset({"RC034", "RC031"}),
}
RUNMEDIC: dict[str, frozenset[str]] = {
    "non_finite": frozenset({"RC001", "RC014", "RC021", "RC042"}),
    # Its likely causes: the rate, the optimiser's state, unshuffled data.
    "divergence": frozenset({"RC021", "RC024", "RC025", "RC043", "RC046"}),
    # A rate that is too high, bad batches, clipping.
    "loss_spikes": frozenset({"RC021", "RC024", "RC025", "RC026", "RC031", "RC042", "RC046"}),
    # A rate that is too low, frozen parameters, labels that do not belong to their inputs.
    "no_learning": frozenset({"RC005", "RC015", "RC022", "RC023", "RC026", "RC041", "RC052"}),
    "overfitting": frozenset({"RC027"}),
    "grad_spikes": frozenset({"RC024", "RC025", "RC026", "RC042"}),
    "slow_steps": frozenset({"RC031", "RC034"}),
    "slowdown": frozenset({"RC034"}),
    "memory_growth": frozenset({"RC034"}),
    "log:cuda_oom": frozenset({"RC032", "RC033"}),
    "log:amp_overflow": frozenset({"RC014"}),
}


def trainproof(record: Record) -> Verdict:
    """`trainproof doctor`."""
    for place in _places(record):
        told = _json(BIN / "trainproof", "doctor", str(place), "--json")
        reports = told.get("reports", []) if isinstance(told, dict) else []
        found = [finding for report in reports for finding in report.get("findings", [])]
        if any(finding["id"] not in ("TP-NO-RECORDS", "TP-NO-LOSS") for finding in found):
            return _first(((f["id"], f["level"]) for f in found), TRAINPROOF, error="FAIL")
    return Verdict()


def runmedic(record: Record) -> Verdict:
    """`runmedic diagnose`."""
    for place in _places(record):
        told = _json(BIN / "runmedic", "diagnose", str(place), "--json")
        runs = told if isinstance(told, list) else []
        found = [finding for run in runs for finding in run.get("findings", [])]
        if runs:
            named = ((f["check"], f["severity"]) for f in found)
            return _first(named, RUNMEDIC, error="critical")
    return Verdict()


PEERS: dict[str, Diagnoser] = {"trainproof": trainproof, "runmedic": runmedic}


def _places(record: Record) -> Iterator[Path]:
    yield record.run
    if record.log is not None:
        yield record.log


def _first(
    findings: Iterator[tuple[str, str]], table: dict[str, frozenset[str]], *, error: str
) -> Verdict:
    """The first that is more than a remark; an error if any is one."""
    said = [(name, level) for name, level in findings if level not in NOTHING]
    if not said:
        return Verdict()
    name = said[0][0]
    severe = any(level == error for _, level in said)
    return Verdict(causes=table.get(name, frozenset()), error=severe, said=name)


def _json(*command: str | Path) -> Any:
    """What a command prints; nothing where it prints no JSON or takes too long."""
    try:
        done = subprocess.run(command, capture_output=True, timeout=SECONDS, check=False)
        return json.loads(done.stdout)
    except (ValueError, subprocess.TimeoutExpired):
        return None
