"""Rules on what a run sees and keeps: order of rows, losses, saved states, evaluation."""

from __future__ import annotations

from collections.abc import Iterator

from glmprep.findings import Finding, Severity, rule

from glmdiag.configs.record import TrainerConfig

OFTEN_EMPTIED = 20
SHORT = 500
"""Steps after which Trainers save where nothing is said; a shorter run is soon made again."""


@rule("CF236", Severity.INFO)
def nan_hidden(config: TrainerConfig) -> Iterator[Finding]:
    """A loss of NaN would be logged as 0.

    Evidence: logging_nan_inf_filter is on, as it is where nothing is said.
    Why: the Trainer of transformers then leaves NaN and infinity out of the mean that it logs;
    "the loss went to 0" is often a run of NaN.
    Fix: say logging_nan_inf_filter: false where the trainer passes it on.
    """
    if config.trainer == "deepspeed" or config.effective("nan_filter") is not True:
        return
    yield nan_hidden.finding(config.where("nan_filter"))


@rule("CF237", Severity.WARNING)
def never_saved(config: TrainerConfig) -> Iterator[Finding]:
    """Nothing is saved on the way.

    Evidence: {said} = {value}{run}.
    Why: a crash loses the whole run, and the best state before it went wrong is gone.
    Fix: save every few hundred steps, and keep two or three.
    """
    steps, longest = config.save_steps, config.max_steps
    if config.save_strategy == "no":
        yield never_saved.finding(
            config.where("save_strategy"),
            severity=Severity.INFO if longest and longest <= SHORT else Severity.WARNING,
            said=config.key("save_strategy"),
            value="no",
            run=f", max_steps = {longest}" if longest else "",
        )
    elif steps and steps >= 1 and longest and steps > longest and config.trainer != "glmtrain":
        yield never_saved.finding(
            config.where("save_steps"),
            severity=Severity.INFO,
            said=config.key("save_steps"),
            value=f"{steps:g}",
            run=f", max_steps = {longest}",
        )


@rule("CF238", Severity.INFO)
def never_evaluated(config: TrainerConfig) -> Iterator[Finding]:
    """Nothing is evaluated.

    Evidence: no evaluation is set up; all that will be known is the loss of training.
    Why: whether a run learns or only remembers shows on held-out rows alone.
    Fix: hold some rows out (glmprep split) and evaluate every few hundred steps.
    """
    if config.trainer != "deepspeed" and config.effective("eval_strategy") in (None, "no"):
        yield never_evaluated.finding(config.where("eval_strategy"))


@rule("CF256", Severity.WARNING)
def trained_in_order(config: TrainerConfig) -> Iterator[Finding]:
    """Rows are not shuffled.

    Evidence: {said} = {value}, so rows are trained in the order of the data.
    Why: where the data is sorted, by topic, source or length, the model follows what came last and
    forgets what came first, and the loss shows the order rather than what is learned.
    Fix: leave it out, unless the order is meant (a curriculum).
    """
    if config.in_order:
        said = config.said["in_order"]
        yield trained_in_order.finding(str(said), said=said.key, value=str(said.value).lower())


@rule("CF241", Severity.WARNING)
def cache_emptied_often(config: TrainerConfig) -> Iterator[Finding]:
    """The cache of the allocator is emptied often.

    Evidence: {said} = {steps}.
    Why: each emptying gives memory back to the driver and asks for it again: memory goes up and
    down with that period, and steps take longer.
    Fix: leave it out; against fragmentation set PYTORCH_ALLOC_CONF=expandable_segments:True.
    """
    steps = config.empty_cache_steps
    if steps is not None and 0 < steps < OFTEN_EMPTIED:
        yield cache_emptied_often.finding(
            config.where("empty_cache_steps"), said=config.key("empty_cache_steps"), steps=steps
        )


def judge(config: TrainerConfig) -> list[Finding]:
    """All findings on what is seen and kept of a run."""
    rules = (nan_hidden, never_saved, never_evaluated, trained_in_order, cache_emptied_often)
    return [finding for each in rules for finding in each(config)]
