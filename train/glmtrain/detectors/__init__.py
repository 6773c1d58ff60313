"""Detectors of faults in a training log: fed step by step, they need no torch and little memory.

Each rule looks at the `Curve` so far and returns what fills its texts, `step` being where the cause
began, or None. The trainer feeds them while it trains, `glmdiag log` feeds them from a file.

    step        what a log says of one step
    levels      robust statistics of a series that is read once
    losses, rates, resources, passes, curve
                what is remembered of a run
    zero_rules, loss_rules, start_rules, gradient_rules, rate_rules, resource_rules, course_rules,
    learning_rules
                the rules, by what they look at
    watch       asks the rules as the steps come in
"""

from glmtrain.detectors.step import Step
from glmtrain.detectors.watch import AT_ONCE, LOG_RULES, SPIKES_TOLD, Watch, detect

__all__ = ["AT_ONCE", "LOG_RULES", "SPIKES_TOLD", "Step", "Watch", "detect"]
