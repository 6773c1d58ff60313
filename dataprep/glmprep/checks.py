"""All checks of data that is to be trained on: what `audit` says, and what `show` leafs by."""

from __future__ import annotations

from glmprep.collect import Collector
from glmprep.families import Family
from glmprep.intake import Intake
from glmprep.reasoning import ReasoningUse
from glmprep.rowchecks import RowChecks
from glmprep.rules.format import FORMAT_RULES
from glmprep.rules.text import TEXT_RULES
from glmprep.sets import set_collectors
from glmprep.sets.fingerprints import Fingerprints
from glmprep.source import Source
from glmprep.tokenizer import Tokenizer


def checking(
    source: Source, family: Family, tokenizer: Tokenizer, *, keep_flags: bool = False
) -> Intake:
    """A pass over `source` with every rule on messages."""
    return Intake(
        source,
        family=family,
        special_tokens=list(tokenizer.added),
        rules=(*FORMAT_RULES, *TEXT_RULES),
        keep_flags=keep_flags,
    )


def collectors(
    rows: RowChecks, family: Family, evaluation: Fingerprints | None = None
) -> list[Collector]:
    """Every check over all rows; `evaluation` is the set that is held out."""
    return [rows, ReasoningUse(family.reasoning), *set_collectors(evaluation)]
