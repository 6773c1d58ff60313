"""Did a run learn: what its record, its verification, its log and its weights say, joined.

The trainer measures the same trained answers before and after, which is exact; `glmtrain verify`
repeats that and adds held-out ones; a log shows the loss of other rows at each step; the weights
show how far anything moved at all.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, Literal

from glmprep.errors import InputError, SuiteError
from glmprep.findings import Finding, Severity
from glmreport.text import Catalogue, Text
from glmtrain import learned as trainers
from glmtrain import rules
from glmtrain.learned import NOTICEABLE, Learned, Measured

from glmdiag import logs
from glmdiag.checkpoints import learning_rules, reading
from glmdiag.checkpoints.files import read_json
from glmdiag.checkpoints.reading import Checkpoint

Verdict = Literal["learned", "little", "nothing", "harmed", "unknown"]
ORDER: tuple[Verdict, ...] = ("harmed", "nothing", "little", "learned")
"""What one witness says holds against those behind it."""
LITTLE = 0.05
"""A loss that fell by less than this share has fallen a little."""
STILL, BARELY = 1e-6, 1e-4
"""|ΔW| / |W| of the layer that moved most: below the first it stands still, for bf16 and fp32."""
ENDS = 0.1
"""The share of a log at each end whose losses are taken together."""
LEAST_STEPS = 30
"""So that each end has three losses at least."""
OF_DIFFERENCES, OF_MEDIANS = 1.048, 1.253
"""Of normal noise: its deviation over the median difference, a median's error over a mean's."""
SURE = 2.0
"""So many standard errors a level of the log may be off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """One source and what it says; `before` and `after` are losses, or norms, None for neither."""

    source: Literal["record", "manner", "verify", "held_out", "log", "weights"]
    says: Verdict
    before: float | None = None
    after: float | None = None

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        return {
            "source": self.source,
            "says": self.says,
            "before": _number(self.before),
            "after": _number(self.after),
        }


@dataclass(frozen=True, kw_only=True)
class Learning:
    """All that was found on a run; `unseen` says what was not there."""

    folder: Path
    witnesses: Sequence[Witness]
    checkpoint: Checkpoint
    recorded: Learned | None
    unseen: Sequence[Text]

    @property
    def verdict(self) -> Verdict:
        """What the witnesses come to: the worst, but exact ones hold against the log alone."""
        exact = [each for each in self.witnesses if each.source != "log"]
        said = {each.says for each in exact or self.witnesses} - {"unknown"}
        return next((verdict for verdict in ORDER if verdict in said), "unknown")

    @property
    def sure(self) -> bool:
        """Whether more than a log says so, whose losses are of other rows at each step."""
        return any(w.says == self.verdict and w.source != "log" for w in self.witnesses)

    @property
    def farthest(self) -> float | None:
        """|ΔW| / |W| of the layer that moved most, None where the base is not at hand."""
        moved = [x for _, x in self.checkpoint.changed if x == x]
        return max(moved, default=None)

    def findings(self) -> list[Finding]:
        """The verdict as a finding, unless it learned, and what the trainer's rules say."""
        found = learning_rules.judge(self)
        if self.recorded is not None:
            # What LG101 says is the verdict's own finding.
            found += [
                f for f in trainers.judge(self.recorded) if f.rule != rules.nothing_learned.id
            ]
        return found

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        layers = self.checkpoint.changed
        return {
            "run": str(self.folder),
            "verdict": self.verdict,
            "witnesses": [each.as_json() for each in self.witnesses],
            "change_by_layer": [{"layer": layer, "relative": _number(x)} for layer, x in layers],
            "recorded": self.recorded and self.recorded.as_json(),
            "unseen": [Catalogue.load("en").say(note) for note in self.unseen],
        }


def read(run: Path, base: str | Path | None = None, verified: Path | None = None) -> Learning:
    """Join what there is on a run; raises InputError for a folder that is none.

    `verified` is the JSON of `glmtrain verify`.
    """
    checkpoint = reading.read(run, base)
    unseen = list(checkpoint.notes)
    recorded = _recorded(checkpoint.record)
    witnesses: list[Witness] = []
    if recorded is None:
        unseen.append(Text("diag.learned.unseen.record"))
    else:
        witnesses += _of_record(recorded)
    if verified is not None:
        witnesses += _of_verification(read_json(verified), verified)
    witnesses += _of_log(run, unseen)
    witnesses += _of_weights(checkpoint)
    return Learning(
        folder=run,
        witnesses=witnesses,
        checkpoint=checkpoint,
        recorded=recorded,
        unseen=unseen,
    )


def _recorded(record: Mapping[str, Any] | None) -> Learned | None:
    said = (record or {}).get("learned")
    if not isinstance(said, dict):
        return None
    try:
        return Learned(
            before=Measured.from_json(said["before"]),
            after=Measured.from_json(said["after"]),
            answers=int(said["answers"]),
            tokens=int(said["tokens"]),
            exact=said.get("exact"),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _of_record(recorded: Learned) -> Iterator[Witness]:
    before, after = recorded.before, recorded.after
    yield _of_losses("record", before.loss, after.loss)
    manner = rules.only_manner_learned(recorded)
    if manner is not None and manner["severity"] == Severity.WARNING:
        yield Witness(source="manner", says="little", before=before.gap, after=after.gap)


def _of_verification(said: Mapping[str, Any], path: Path) -> Iterator[Witness]:
    try:
        sides = (said["learned"][side]["loss"] for side in ("before", "after"))
        before, after = (math.nan if loss is None else float(loss) for loss in sides)
        held = said.get("held_out")
        yield _of_losses("verify", before, after)
        if held:
            once, now = float(held["before"]), float(held["after"])
            worse = said["verdict"] == "memorised"
            says: Verdict = "harmed" if worse else "unknown"
            yield Witness(source="held_out", says=says, before=once, after=now)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: not what glmtrain verify --json writes ({error!r})") from error


def _of_losses(source: Literal["record", "verify"], before: float, after: float) -> Witness:
    """What the loss of the same answers before and after says."""
    says: Verdict = "learned"
    if not after < before * (1 + NOTICEABLE):  # so that NaN counts as harm
        says = "harmed"
    elif after > before * (1 - NOTICEABLE):
        says = "nothing"
    elif after > before * (1 - LITTLE):
        says = "little"
    return Witness(source=source, says=says, before=before, after=after)


def _of_log(run: Path, unseen: list[Text]) -> Iterator[Witness]:
    """The level of the loss at both ends of the log."""
    try:
        steps = logs.read(run).steps
    except SuiteError:
        unseen.append(Text("diag.learned.unseen.log"))
        return
    losses = [step.loss for step in steps if step.loss is not None and math.isfinite(step.loss)]
    if len(losses) < LEAST_STEPS:
        unseen.append(Text("diag.learned.unseen.few", count=len(losses)))
        return
    yield _of_levels(losses)


def _of_levels(losses: Sequence[float]) -> Witness:
    """What the medians of both ends say, where the noise between neighbours lets them.

    Noise is the median difference of neighbours, which no trend moves much (Rice 1984); `unknown`
    is what lies within it.
    """
    width = int(ENDS * len(losses))
    before, after = median(losses[:width]), median(losses[-width:])
    noise = median(abs(b - a) for a, b in pairwise(losses)) * OF_DIFFERENCES
    off = SURE * OF_MEDIANS * noise * math.sqrt(2 / width)
    scale = abs(before) or 1.0
    least, most = (before - after - off) / scale, (before - after + off) / scale
    says: Verdict = "unknown"
    if most < -NOTICEABLE:
        says = "harmed"
    elif least > -NOTICEABLE and most < NOTICEABLE:
        says = "nothing"
    elif least > 0:
        says = "little" if most < LITTLE else "learned"
    return Witness(source="log", says=says, before=before, after=after)


def _of_weights(checkpoint: Checkpoint) -> Iterator[Witness]:
    """How far the weights moved: not at all, or to what is no number."""
    if any(tensor.bad for tensor in checkpoint.weights.tensors.values()):
        yield Witness(source="weights", says="harmed")
        return
    adapter = checkpoint.adapter
    pairs = [] if adapter is None else [p.b for p in adapter.pairs.values() if p.b is not None]
    if adapter is not None and pairs and all(b.zero for b in pairs) and not adapter.whole:
        yield Witness(source="weights", says="nothing", after=0.0)
        return
    moved = [x for _, x in checkpoint.changed if x == x]
    if moved:
        most = max(moved)
        says: Verdict = "nothing" if most < STILL else "little" if most < BARELY else "learned"
        yield Witness(source="weights", says=says, after=most)


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
