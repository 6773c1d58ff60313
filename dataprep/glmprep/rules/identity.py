"""Rules on who the model is said to be, over claims (see `glmprep.text.personas`)."""

from __future__ import annotations

from collections.abc import Collection

from glmprep.findings import Severity, rule
from glmprep.text.personas import OTHERS, Claim


@rule("DF206", Severity.WARNING)
def systems_disagree(found: Collection[Claim]) -> list[Claim]:
    """System messages give the model different names or makers.

    Evidence: names and makers in the system messages, with the number of conversations: {labels}.
    Why: a model that is told now this name and now that one learns none of them; it is meant where
    you train personas.
    Fix: write one name in all system messages, or none.
    """
    return _differing(found)


@rule("DF207", Severity.WARNING)
def answers_disagree(found: Collection[Claim]) -> list[Claim]:
    """Answers give the model different names or makers.

    Evidence: names and makers that answers claim and their system messages do not, with the number
    of conversations: {labels}.
    Why: the model forgets who it is, and answers now with this name and now with that one.
    Fix: write one name in all answers, or state the name in the system message.
    """
    return _differing(found)


@rule("DF208", Severity.WARNING)
def contradicts_system(told: frozenset[Claim], claimed: frozenset[Claim]) -> frozenset[Claim]:
    """An answer contradicts the name in its system message.

    Evidence: conversations whose answers claim another name or maker than the system message gives:
    {count}.
    Why: the model learns that the system message does not bind it.
    Fix: write the same name in both.
    """
    kinds = {claim.kind for claim in told}
    return frozenset(claim for claim in claimed - told if claim.kind in kinds)


@rule("DF212", Severity.WARNING)
def another_model(found: Collection[Claim]) -> list[Claim]:
    """Answers claim to be another company's model.

    Evidence: names and makers that answers claim, with the number of conversations: {labels}.
    Why: the answers were written by that model; trained on them, yours will say the same of itself.
    Fix: replace the name, or remove these conversations.
    """
    return [claim for claim in found if claim in OTHERS]


def _differing(found: Collection[Claim]) -> list[Claim]:
    """The claims of each kind that has more than one label."""
    kinds = [claim.kind for claim in found]
    return [claim for claim in found if kinds.count(claim.kind) > 1]
