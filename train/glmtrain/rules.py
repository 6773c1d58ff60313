"""Rules on a run as a whole: its settings, and what came of it. Free of torch, as all rules are."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from glmprep.findings import Severity, rule

if TYPE_CHECKING:
    from glmtrain.learned import Learned
    from glmtrain.plan import Plan


@rule("CF101", Severity.WARNING)
def setting_without_effect(given: Collection[str], plan: Plan) -> list[dict[str, str]]:
    """A setting has no effect.

    Evidence: {setting} was given but changes nothing, because {because}.
    Why: a run that ignores what was asked for looks as if it had been tried.
    Fix: leave {setting} out, or change what keeps it from having an effect.
    """
    config, run, because = plan.config, plan.config.run, {}
    if config.model.method != "lora":
        lora = [name for name in given if name.startswith("lora.")]
        because.update(dict.fromkeys(lora, f"model.method = {config.model.method}"))
    if config.precision.dtype != "fp16":
        because["precision.initial_loss_scale"] = f"precision.dtype = {config.precision.dtype}"
    if config.schedule.decay == "constant":
        because["schedule.final"] = "schedule.decay = constant"
    if run.max_steps is not None and run.max_steps > plan.steps:
        because["run.max_steps"] = f"run.epochs = {run.epochs} ({plan.steps} steps)"
    elif run.epochs is not None and run.epochs * plan.steps_per_epoch > plan.steps:
        because["run.epochs"] = f"run.max_steps = {run.max_steps}"
    return [{"setting": n, "because": because[n]} for n in sorted(set(given) & set(because))]


@rule("LG101", Severity.WARNING)
def nothing_learned(learned: Learned) -> dict[str, float | int] | None:
    """The run did not lower the loss.

    Evidence: on {rows} of the training rows the loss was {before:.3g} before and {after:.3g} after.
    Why: a model whose loss does not fall even on rows that it trained on answers as before.
    Fix: train for more steps (--max-steps), or raise the learning rate (--lr); where the loss rose,
    lower it.
    """
    if learned.verdict == "learned":
        return None
    return {"rows": learned.rows, "before": learned.before, "after": learned.after}
