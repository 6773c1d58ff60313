"""Causes in what is trained, and in what was saved."""

from __future__ import annotations

from glmprep.findings import Finding

from glmdiag.report.suspects import Signs, cause, gradient


@cause(
    "RC041",
    Signs(
        found={
            "CK004": 4.0,
            "CK017": 4.0,
            "CF142": 4.0,
            "LG007": gradient(zero=True),
            "CK009": 1.5,
            "CF228": 1.5,
        }
    ),
)
def adapter_without_gradient() -> None:
    """What should learn gets no gradient.

    Evidence: for it {pro}; against it {contra}.
    Why: the adapter hangs on no module, is frozen, or is cut off by gradient checkpointing whose
    inputs need no gradient; the run costs time and changes nothing.
    Fix: check the target modules (all-linear), call enable_input_require_grads() with
    checkpointing, and run glmdiag preflight.
    """


@cause(
    "RC042",
    Signs(
        found={
            "LG127": 4.0,
            "LG123": 4.0,
            "LG043": 3.0,
            "DL127": 2.5,
            "DL106": 0.5,
            "LG004": 1.5,
            "LG012": 1.0,
            "LG001": 0.5,
        }
    ),
)
def poisoned_row() -> None:
    """One row spoils the run.

    Evidence: for it {pro}; against it {contra}.
    Why: a single row unlike all others has a loss or gradient that outweighs its whole batch.
    Fix: glmdiag replay RUN --step N names the row; repair or remove it, and let the guard skip such
    steps: guard.spikes = "skip".
    """


def anew(finding: Finding) -> float:
    """A rate that rises once more means a schedule begun anew, unless it is a longer plan."""
    return 4.0 if finding.data.get("anew") is True else 1.0


@cause("RC043", Signs(found={"LG037": 4.0, "LG018": anew, "CK016": 2.0}))
def resume_lost_state() -> None:
    """The run was resumed without its optimiser or schedule.

    Evidence: for it {pro}; against it {contra}.
    Why: the first steps after a resume go at the full rate without the optimiser's memory, and undo
    part of what was learned.
    Fix: resume from a whole checkpoint (optimizer, scheduler and step): glmtrain run --resume, or
    resume_from_checkpoint.
    """


@cause("RC044", Signs(found={"CK002": 5.0, "CK001": 4.5, "CK003": 4.0, "CK015": 3.0, "LG122": 3.0}))
def weights_damaged() -> None:
    """The saved weights are damaged.

    Evidence: for it {pro}; against it {contra}.
    Why: numbers that are not finite, or a file that was cut off, spoil whatever is computed with
    them.
    Fix: take the checkpoint before; glmdiag checkpoint DIR says which tensors are concerned.
    """


@cause("RC045", Signs(found={"CK013": 5.0, "CK011": 5.0, "CF255": 4.5, "CK010": 4.0}))
def another_base() -> None:
    """The adapter belongs to another base model.

    Evidence: for it {pro}; against it {contra}.
    Why: an adapter is a correction of one model's weights; on others it is noise, or does not load.
    Fix: use the base that run.json or adapter_config.json names.
    """
