"""Rules on whether a run learned: each takes a `Learning` and yields its finding."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from glmprep.findings import Finding, Severity, rule

if TYPE_CHECKING:
    from glmdiag.checkpoints.learning import Learning

WHERE = "run"


@rule("CK025", Severity.ERROR)
def learned_nothing(learning: Learning) -> Iterator[Finding]:
    """The run learned nothing.

    Evidence: {witnesses} of {all} witnesses say so; the loss of trained answers was {before} before
    and {after} after, and the weights moved by {moved} of their norm.
    Why: a model whose weights or losses stand still answers as it did before.
    Fix: glmdiag report RUN ranks the causes; first look at learning rate, labels and whether steps
    were made at all.
    """
    if learning.verdict == "nothing":
        yield learned_nothing.finding(WHERE, severity=_severity(learning), **_data(learning))


@rule("CK026", Severity.WARNING)
def learned_little(learning: Learning) -> Iterator[Finding]:
    """The run learned little.

    Evidence: {witnesses} of {all} witnesses say so; the loss of trained answers was {before} before
    and {after} after, and the weights moved by {moved} of their norm.
    Why: less than a twentieth of the loss, or only the manner of the answers, changes little of
    what the model says.
    Fix: train for longer (--epochs) or at a higher rate (--lr), and look with glmprep show whether
    questions stand in front of their answers.
    """
    if learning.verdict == "little":
        least = Severity.WARNING if learning.sure else Severity.INFO
        yield learned_little.finding(WHERE, severity=least, **_data(learning))


@rule("CK027", Severity.ERROR)
def harmed(learning: Learning) -> Iterator[Finding]:
    """The run harmed the model.

    Evidence: {witnesses} of {all} witnesses say so; the loss of trained answers was {before} before
    and {after} after, and the weights moved by {moved} of their norm.
    Why: a loss that rose, weights that are no numbers, or held-out answers that are predicted worse
    leave a model that answers worse than its base.
    Fix: go back to the checkpoint with the lowest held-out loss, and train at a third of the rate;
    glmdiag log RUN says where it turned.
    """
    if learning.verdict == "harmed":
        yield harmed.finding(WHERE, severity=_severity(learning), **_data(learning))


def judge(learning: Learning) -> list[Finding]:
    """The finding of the verdict, none where the run learned or nothing is known."""
    return [f for each in (learned_nothing, learned_little, harmed) for f in each(learning)]


def _severity(learning: Learning) -> Severity:
    """A log alone may err: its last rows may be other ones than its first."""
    return Severity.ERROR if learning.sure else Severity.WARNING


def _data(learning: Learning) -> dict[str, Any]:
    says = [each for each in learning.witnesses if each.says == learning.verdict]
    measured = [each for each in learning.witnesses if each.source in ("record", "verify", "log")]
    loss = measured[0] if measured else None
    moved = learning.farthest
    return {
        "witnesses": len(says),
        "all": len(learning.witnesses),
        "sources": ", ".join(each.source for each in says),
        "before": _shown(loss.before if loss else None),
        "after": _shown(loss.after if loss else None),
        "moved": _shown(moved),
    }


def _shown(value: float | None) -> str:
    return "?" if value is None else f"{value:.3g}"
