"""All rules on a trainer's configuration: CF201 to CF256."""

from __future__ import annotations

from glmprep.findings import Finding

from glmdiag import (
    config_length_rules,
    config_memory_rules,
    config_precision_rules,
    config_reading_rules,
    config_step_rules,
    config_watch_rules,
    config_zero_rules,
)
from glmdiag.config_lengths import Measured
from glmdiag.configs.record import TrainerConfig
from glmdiag.hardware import Machine


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
