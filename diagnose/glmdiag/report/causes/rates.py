"""Causes in the optimiser's settings."""

from __future__ import annotations

from typing import Literal

from glmprep.findings import Finding

from glmdiag.report.suspects import Points, Signs, cause


def rate(side: Literal["low", "high"]) -> Points:
    """Points for a learning rate that is out of its range on one side."""

    def points(finding: Finding) -> float:
        said, limit = float(finding.data["rate"]), float(finding.data[side])
        return 1.5 * (said < limit if side == "low" else said > limit)

    return points


def clipped(finding: Finding) -> float:
    """Clipping to almost nothing harms by itself, none at all only where something happens."""
    return 2.5 if float(finding.data["clip"]) > 0 else 1.5


@cause(
    "RC021",
    Signs(
        found={
            "LG006": 3.0,
            "LG013": 3.0,
            "LG021": 3.0,
            "LG041": 3.5,
            "LG048": 3.0,
            "LG049": 2.5,
            "LG001": 1.5,
            "LG010": 1.0,
            "LG022": 1.0,
            "CF231": rate("high"),
            "LG124": 2.0,
            "LG128": 1.0,
            "CK007": 2.0,
        },
        odd={"LG003": 1.0, "LG025": 4.0, "LG017": 2.0, "CF232": 1.5, "LG043": 2.0},
    ),
)
def rate_too_high() -> None:
    """The learning rate is too high.

    Evidence: for it {pro}; against it {contra}.
    Why: steps overshoot: the loss rises instead of falling, and does not come back.
    Fix: take a third of the rate or less (LoRA about 1e-4, full about 1e-5) from a checkpoint
    before the rise.
    """


@cause("RC022", Signs(found={"LG016": 3.5, "LG005": 2.0, "LG040": 1.0, "CF231": rate("low")}))
def rate_too_low() -> None:
    """The learning rate is too low.

    Evidence: for it {pro}; against it {contra}.
    Why: gradients are sound, but the weights hardly move.
    Fix: raise the rate to what the method needs: LoRA about 1e-4, full about 1e-5, P-tuning about
    1e-2.
    """


@cause("RC023", Signs(found={"LG008": 4.5, "LG019": 4.0, "CF240": 2.0}))
def schedule_ends_early() -> None:
    """The learning rate is zero for most of the run.

    Evidence: for it {pro}; against it {contra}.
    Why: the schedule was made for fewer steps than are trained, or for another number of devices;
    behind its end no weight changes.
    Fix: let the schedule take its length from the run (--max-steps or --epochs), and remove a total
    that is written down elsewhere, as in a DeepSpeed file.
    """


@cause("RC024", Signs(found={"LG017": 3.5, "LG049": 2.0, "LG048": 1.0, "CF232": 1.5}))
def no_warmup() -> None:
    """There is no warm-up.

    Evidence: for it {pro}; against it {contra}.
    Why: the optimiser's first steps go by gradients of a few rows, at the full rate; the loss leaps
    at once and takes long to come back.
    Fix: warm up over 3 to 10 % of the steps: schedule.warmup = 0.05, or warmup_ratio.
    """


@cause("RC025", Signs(found={"LG042": 2.5, "CF234": 1.5, "CF233": 0.5}))
def batches_too_small() -> None:
    """Batches are too small for the learning rate.

    Evidence: for it {pro}; against it {contra}.
    Why: a step follows a single conversation; the next one pulls elsewhere.
    Fix: accumulate over 8 to 16 batches (--accumulate, gradient_accumulation_steps), or lower the
    rate.
    """


@cause("RC026", Signs(found={"CF235": clipped, "LG023": 1.0, "LG040": 1.5}))
def clipping_unsuited() -> None:
    """Gradients are clipped to almost nothing, or not at all.

    Evidence: for it {pro}; against it {contra}.
    Why: a limit far below every norm makes each step as small as the limit; without any, one odd
    batch moves the weights as far as it likes.
    Fix: set max_grad_norm to 1.0.
    """


@cause("RC027", Signs(found={"LG015": 4.0, "LG045": 0.5, "LG104": 2.0, "LG035": 0.5}))
def learned_by_heart() -> None:
    """The model learns its data by heart.

    Evidence: for it {pro}; against it {contra}.
    Why: the loss on held-out data rises while that on the data falls: more steps make it worse.
    Fix: stop at the best step (evaluation.patience), train fewer epochs, or take more data, a lower
    rank or dropout.
    """
