"""What other trainers do with rows: their rules, written anew after reading them at the source.

`POLICIES` are rules for length alone, applied to this suite's tokens and targets; `TRAINERS` give a
trainer's own input and labels. docs/peers.md has the rules in words, with version and place.
"""

from __future__ import annotations

from glmprep.peers import axolotl, llamafactory, official, swift, trl
from glmprep.peers.fate import IGNORED, Kept, Labelled, Policy, Reading, Trainer
from glmprep.peers.rows import Rows

POLICIES = (
    Policy(name="official", keep=official.keep),
    Policy(name="official_combine", keep=official.keep_last),
    Policy(name="llamafactory", keep=llamafactory.keep),
    Policy(name="trl", keep=trl.keep),
    Policy(name="axolotl", keep=axolotl.keep),
    Policy(name="swift_delete", keep=swift.keep_fitting),
    Policy(name="swift_left", keep=swift.keep_left),
    Policy(name="swift_right", keep=swift.keep_right),
)
TRAINERS = (
    Trainer(name="official", label=official.label_each),
    Trainer(name="official_combine", label=official.label_last),
    Trainer(name="llamafactory", label=llamafactory.label_answers, read=llamafactory.read),
    Trainer(name="trl", label=trl.label_all),
    Trainer(name="trl_answers", label=trl.label_answers),
)

__all__ = [
    "IGNORED",
    "POLICIES",
    "TRAINERS",
    "Kept",
    "Labelled",
    "Policy",
    "Reading",
    "Rows",
    "Trainer",
]
