"""All rules of all commands, with their texts in either language."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from glmprep.errors import UsageError
from glmprep.findings import RULES, Rule, readable
from glmreport.text import rule_text

RULE_MODULES = (
    "glmprep.lines",
    "glmprep.tables",
    "glmprep.schemas.rules",
    "glmprep.repair",
    "glmprep.merging.trims",
    "glmprep.merging.turns",
    "glmprep.merging.groups",
    "glmprep.merging.outcomes",
    "glmprep.rules.format",
    "glmprep.rules.answers",
    "glmprep.rules.privacy",
    "glmprep.rules.text",
    "glmprep.rules.template",
    "glmprep.rules.sets",
    "glmprep.rules.identity",
    "glmprep.rules.pairs",
    "glmprep.rules.lengths",
    "glmprep.rules.reasoning",
    "glmprep.rules.shards",
    "glmprep.rules.ledger",
    "glmprep.rules.inputs",
    "glmtrain.detectors.zero_rules",
    "glmtrain.detectors.loss_rules",
    "glmtrain.detectors.start_rules",
    "glmtrain.detectors.gradient_rules",
    "glmtrain.detectors.rate_rules",
    "glmtrain.detectors.resource_rules",
    "glmtrain.detectors.course_rules",
    "glmtrain.detectors.learning_rules",
    "glmtrain.rules",
    "glmtrain.eval_rules",
    "glmdiag.machine.hardware_rules",
    "glmdiag.machine.device_rules",
    "glmdiag.machine.build_rules",
    "glmdiag.software.env_rules",
    "glmdiag.software.code_rules",
    "glmdiag.labels.label_rules",
    "glmdiag.memory.memory_rules",
    "glmdiag.labels.dataset_rules",
    "glmdiag.labels.cut_rules",
    "glmdiag.labels.stop_rules",
    "glmdiag.checkpoints.checkpoint_rules",
    "glmdiag.checkpoints.adapter_rules",
    "glmdiag.checkpoints.series_rules",
    "glmdiag.checkpoints.learning_rules",
    "glmdiag.replay.replay_rules",
    "glmdiag.preflight.trial_rules",
    "glmdiag.preflight.invariance_rules",
    "glmdiag.preflight.effect_rules",
    "glmdiag.configuration.reading_rules",
    "glmdiag.configuration.precision_rules",
    "glmdiag.configuration.zero_rules",
    "glmdiag.configuration.length_rules",
    "glmdiag.configuration.step_rules",
    "glmdiag.configuration.watch_rules",
    "glmdiag.configuration.memory_rules",
    "glmdiag.labels.content_rules",
    "glmdiag.report.causes.data",
    "glmdiag.report.causes.formats",
    "glmdiag.report.causes.rates",
    "glmdiag.report.causes.memory",
    "glmdiag.report.causes.weights",
)
TEXTS = ("title", "evidence", "why", "fix")


def all_rules() -> Sequence[Rule[Any]]:
    """Every rule of the suite, by id."""
    for module in RULE_MODULES:
        import_module(module)
    return [RULES[rule_id] for rule_id in sorted(RULES)]


def find(rule_id: str) -> Rule[Any]:
    """A rule by its id, upper or lower case; raises UsageError for an unknown one."""
    known = {rule.id: rule for rule in all_rules()}
    if rule_id.upper() not in known:
        raise UsageError(f"{rule_id}: no such rule; glmdiag explain --list shows all")
    return known[rule_id.upper()]


def describe(rule: Rule[Any], language: str) -> dict[str, str]:
    """A rule as plain values; a text that a language lacks is given in English.

    `evidence` and `fix` hold `{names}` that a finding fills in.
    """
    texts = {name: str(getattr(rule, name)) for name in TEXTS}
    if language != "en":
        texts |= rule_text(rule.id, language) or {}
    shown = {name: readable(text) for name, text in texts.items()}
    return {"id": rule.id, "severity": rule.severity.value} | shown
