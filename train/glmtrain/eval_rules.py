"""Rules on how good a model is, by what `glmtrain eval` measured."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from glmprep.findings import Severity, rule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from glmtrain.answers import CallScores
    from glmtrain.evaluate import Sums
    from glmtrain.forgetting import Divergence
    from glmtrain.probes import Endings

ENDLESS, LOOPS, GAP, MOVED, EXACT = 0.1, 0.05, 0.2, 0.5, 0.5
ERRORS = 2
"""So many standard errors a gap must be above nothing."""
FEWEST_CALLS = 5

Facts = dict[str, float | int]


@rule("LG111", Severity.WARNING)
def endless_answers(endings: Endings, most: int) -> Facts | None:
    """Answers do not come to an end.

    Evidence: {count} of {answers} answers reached their limit ({most} tokens at most) without a
    stop, though their references are shorter.
    Why: GLM ends a turn with the next role's token; a model that was not trained to write it goes
    on until it is cut off.
    Fix: see with glmdiag labels whether stop tokens are trained; where they are, train for more
    steps.
    """
    if endings.endless <= ENDLESS * endings.fitting:
        return None
    return {"count": endings.endless, "answers": endings.fitting, "most": most}


@rule("LG112", Severity.WARNING)
def looping_answers(endings: Endings) -> Facts | None:
    """Answers end in a loop.

    Evidence: {count} of {answers} answers end in a phrase that comes again and again, and
    {references} of the references.
    Why: a model loops where it is unsure, or where it learned too long from too little text.
    Fix: look at the answers; train for fewer steps or at a lower learning rate, and take doubled
    turns out of the data with glmprep merge.
    """
    if endings.loops - endings.reference_loops <= LOOPS * endings.answers:
        return None
    return {
        "count": endings.loops,
        "answers": endings.answers,
        "references": endings.reference_loops,
    }


@rule("LG113", Severity.WARNING)
def worse_on_long(sums: Sums) -> Facts | None:
    """Long conversations are predicted worse than short ones.

    Evidence: a token of a long conversation costs {gap:.2f} nats more than one of a short one
    (standard error {error:.2f}), a perplexity {times:.2f} times as high.
    Why: what long conversations ask for may be learned less well: they are few, or they were cut.
    Fix: compare with the gap of the base model; where that is smaller, see with glmprep audit
    what the training data holds of such lengths, and mix them with glmprep bucket --order
    length-mixed.
    """
    if sums.gap is None:
        return None
    gap, error = sums.gap
    if not gap > max(GAP, ERRORS * error):
        return None
    return {"gap": gap, "error": error, "times": math.exp(gap)}


@rule("LG114", Severity.WARNING)
def moved_far(divergence: Divergence) -> Facts | None:
    """On texts of no concern to the training the model is far from its base.

    Evidence: KL(base || model) is {kl:.2f} nats a token on {texts} general texts, and at
    {other:percent} of the places another token is the likeliest.
    Why: what a model could do before is lost where its probabilities move on all texts alike.
    Fix: train for fewer steps, at a lower learning rate or rank, or mix general data in with
    --replay.
    """
    if divergence.all.value <= MOVED:
        return None
    texts = divergence.all.rows
    return {"kl": divergence.all.value, "texts": texts, "other": 1 - divergence.same}


@rule("LG115", Severity.WARNING)
def wrong_calls(scores: Sequence[CallScores]) -> Facts | None:
    """Tool calls are not those of the references.

    Evidence: of {wanted} answers that call a tool in the references, {called} call one, {named} the
    same one, and {count} with the same arguments.
    Why: a call with another name or other arguments does something else, or nothing.
    Fix: look at the calls that differ; see with glmdiag labels whether calls are trained, and that
    the tools are given in the form that the template reads.
    """
    wanted = sum(each.wanted for each in scores)
    exact = sum(each.exact for each in scores)
    if wanted < FEWEST_CALLS or exact >= EXACT * wanted:
        return None
    called, named = (sum(getattr(s, name) for s in scores) for name in ("called", "named"))
    return {"wanted": wanted, "called": called, "named": named, "count": exact}
