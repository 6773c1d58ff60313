"""All rules on a trainer's configuration: CF201 to CF256."""

from __future__ import annotations

from glmprep.findings import Finding

from glmdiag.configs.record import TrainerConfig
from glmdiag.configuration import length_rules as config_length_rules
from glmdiag.configuration import memory_rules as config_memory_rules
from glmdiag.configuration import precision_rules as config_precision_rules
from glmdiag.configuration import reading_rules as config_reading_rules
from glmdiag.configuration import step_rules as config_step_rules
from glmdiag.configuration import watch_rules as config_watch_rules
from glmdiag.configuration import zero_rules as config_zero_rules
from glmdiag.configuration.lengths import Measured
from glmdiag.machine.hardware import Machine


def judge(
    config: TrainerConfig,
    machine: Machine | None = None,
    lengths: Measured | None = None,
    width: int | None = None,
) -> list[Finding]:
    """All findings on a configuration; without a machine or lengths, those that need none.

    `width` is the model's hidden size, which learning rates go by; where it is None, the model that
    the configuration names is looked at. Needs neither torch nor transformers.
    """
    found = [
        *config_reading_rules.judge(config),
        *config_precision_rules.judge(config, machine),
        *config_zero_rules.judge(config),
    ]
    if config.trainer == "deepspeed":
        return found
    return [
        *found,
        *config_length_rules.judge(config, lengths),
        *config_step_rules.judge(config, width or config_step_rules.width_of(config.model)),
        *config_watch_rules.judge(config),
        *config_memory_rules.judge(config, machine),
    ]
