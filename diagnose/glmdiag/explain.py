"""All rules of all commands, with their texts in either language."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from glmprep.errors import UsageError
from glmprep.findings import RULES, Rule
from glmreport.text import rule_text

RULE_MODULES = (  # those that need torch last
    "glmprep.read",
    "glmprep.parse",
    "glmprep.rules.format",
    "glmprep.rules.sets",
    "glmprep.rules.lengths",
    "glmprep.verify",
    "glmtrain.detectors",
    "glmdiag.hardware_rules",
    "glmdiag.label_rules",
    "glmtrain.plan",
    "glmtrain.learned",
)
TEXTS = ("title", "evidence", "why", "fix")


def all_rules() -> tuple[Sequence[Rule[Any]], Sequence[str]]:
    """Every rule of the suite by id, and the modules whose rules need torch, if it is missing."""
    missing = [module for module in RULE_MODULES if not _imported(module)]
    return [RULES[rule_id] for rule_id in sorted(RULES)], missing


def find(rule_id: str) -> Rule[Any]:
    """A rule by its id, upper or lower case; raises UsageError for an unknown one."""
    wanted = rule_id.upper()
    for module in RULE_MODULES:
        _imported(module)
        if wanted in RULES:
            return RULES[wanted]
    raise UsageError(f"{rule_id}: no such rule; glmdiag explain --list shows all")


def describe(rule: Rule[Any], language: str) -> dict[str, str]:
    """A rule as plain values; a text that a language lacks is given in English.

    `evidence` and `fix` hold `{names}` that a finding fills in.
    """
    english = {name: str(getattr(rule, name)) for name in TEXTS}
    translated: Mapping[str, str] = {}
    if language != "en":
        translated = rule_text(rule.id, language) or {}
    return {"id": rule.id, "severity": rule.severity.value, **english, **translated}


def _imported(module: str) -> bool:
    """Import a module of the suite; False where torch or what goes with it is not installed."""
    try:
        import_module(module)
    except ImportError as error:
        if (error.name or "").startswith("glm"):
            raise
        return False
    return True
