"""What is trained in a set of tokens: our shards, or what any other trainer makes of its data.

`read` gives `Labels`, which `glmdiag.labels.label_rules.judge` judges.
"""

from __future__ import annotations

from glmprep import tokenizer

from glmdiag.labels.apart import CLOSE, OPEN, Coverage, Labels, Made, Roles
from glmdiag.labels.contract import Served
from glmdiag.labels.reading import Wanted, read
from glmdiag.labels.simulated import TRAINERS, simulate
from glmdiag.labels.turns import Turns

__all__ = [
    "CLOSE",
    "OPEN",
    "TRAINERS",
    "Coverage",
    "Labels",
    "Made",
    "Roles",
    "Served",
    "Turns",
    "Wanted",
    "read",
    "simulate",
    "tokenizer",
]
