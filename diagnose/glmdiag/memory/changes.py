"""The smallest change with which a run fits a card: changes in order of what they cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from glmdiag.memory.prediction import MARGIN, Prediction, Setup, predict

Step: TypeAlias = tuple[str, Callable[[Setup], Setup]]
ROUND = 256
"""Limits and budgets are looked for in such steps."""
LEAST = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What to change, as options of the command, and what is needed then.

    `cut` is the share of rows that become shorter.
    """

    options: Sequence[str]
    prediction: Prediction
    cut: float = 0.0

    @property
    def fits(self) -> bool:
        """Whether all fits then."""
        return self.prediction.fits

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        total = self.prediction.largest.total
        return {"options": list(self.options), "total": total, "fits": self.fits, "cut": self.cut}


def smallest(setup: Setup) -> Change | None:
    """The first that fits, else what comes nearest; None where all fits as it is.

    Fewer tokens a batch change no gradient where more batches make a step, so they come with every
    other change; shorter rows come last, as they lose data. A margin is left if that can be.
    """
    if setup.memory is None or predict(setup).fits:
        return None
    roomy = replace(setup, memory=round((1 - MARGIN) * setup.memory))
    return _fitting(roomy) or _fitting(setup) or _nearest(setup)


def _fitting(setup: Setup) -> Change | None:
    last = None
    for options, changed in _variants(setup):
        whole = Change(options=options, prediction=predict(changed))
        last = whole if whole.fits else _fewer(options, changed)
        if last.fits:
            return last
    return None if last is None else _shorter(last.options, last.prediction.setup)


def _nearest(setup: Setup) -> Change:
    tried = (_fewer(options, changed) for options, changed in _variants(setup))
    return min(tried, key=lambda change: change.prediction.largest.total)


def _variants(setup: Setup) -> Iterator[tuple[list[str], Setup]]:
    """The set-up as it is, with each change alone, then with one after the other."""
    yield [], setup
    steps = _steps(setup)
    for option, apply in steps:
        yield [option], apply(setup)
    options: list[str] = []
    for option, apply in steps:
        options, setup = [*options, option], apply(setup)
        if len(options) > 1:
            yield list(_without_older(options)), setup


def _steps(setup: Setup) -> list[Step]:
    training, found = setup.training, list[Step]()
    if setup.loss == "naive":
        found.append(("--trainer glmtrain", lambda s: replace(s, loss="chunked")))
    if not training.checkpointing:
        found.append(("--checkpointing", _with(checkpointing=True)))
    if training.method == "full" and training.optimiser == "adamw":
        found.append(("--optimiser adamw8bit", _with(optimiser="adamw8bit")))
    if training.gpus > 1:
        stages = [stage for stage in (2, 3) if stage > training.stage]
        if training.method == "qlora":
            stages = [stage for stage in stages if stage < 3]
        found += [(f"--zero {stage}", _with(stage=stage, optimiser="adamw")) for stage in stages]
        if not training.offload:
            found.append(("--offload", _with(offload=True, stage=max(2, training.stage))))
    if training.method == "full":
        found.append(("--method lora", _with(method="lora", optimiser="adamw")))
    if training.method in ("full", "lora"):
        found.append(("--method qlora", _with(method="qlora", stage=min(2, training.stage))))
    return found


def _with(**changes: Any) -> Callable[[Setup], Setup]:
    return lambda setup: replace(setup, training=replace(setup.training, **changes))


def _without_older(options: Sequence[str]) -> Iterator[str]:
    """Of options that are said twice the last."""
    names = [option.partition(" ")[0] for option in options]
    for place, option in enumerate(options):
        if names[place] not in names[place + 1 :]:
            yield option


def _fewer(options: Sequence[str], setup: Setup) -> Change:
    """The most tokens, or rows, in a batch that fit, down to one row."""
    if setup.rows is not None:
        most = _largest(1, setup.rows, 1, lambda rows: replace(setup, rows=rows))
        fewer, said = replace(setup, rows=most), f"--batch-size {most}"
    else:
        low = min(setup.lengths.longest, setup.tokens)
        most = _largest(low, setup.tokens, ROUND, lambda tokens: replace(setup, tokens=tokens))
        fewer, said = replace(setup, tokens=most), f"--tokens-per-batch {most}"
    changed = fewer != setup
    return Change(options=[said, *options] if changed else options, prediction=predict(fewer))


def _shorter(options: Sequence[str], setup: Setup) -> Change | None:
    """The longest rows that fit with all other changes; None where not even short ones do."""
    whole = setup.lengths

    def limited(limit: int) -> Setup:
        return replace(setup, lengths=whole.cut(limit), tokens=min(setup.tokens, limit))

    limit = _largest(min(LEAST, whole.longest), whole.longest, ROUND, limited)
    found = predict(limited(limit))
    if not found.fits:
        return None
    said = [*options, f"--max-length {limit}"]
    return Change(options=said, prediction=found, cut=whole.over(limit))


def _largest(low: int, high: int, step: int, make: Callable[[int], Setup]) -> int:
    """The largest of low, low + step, ... that fits and is not above `high`; `low` where none."""
    fewest, most = 0, (high - low) // step
    while fewest < most:
        middle = (fewest + most + 1) // 2
        if predict(make(low + middle * step)).fits:
            fewest = middle
        else:
            most = middle - 1
    return low + fewest * step
