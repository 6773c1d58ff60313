"""Each number format on the same rows: what overflows, what vanishes, what is computed wrong.

All are compared with the most precise one that runs. How much of an error matters is measured too:
the gradient of a batch is itself a sample, and what two halves of its labels disagree about is far
more than what a sound format rounds away.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import reduce
from typing import Any

from glmprep.errors import InputError, first_line
from glmtrain import probe
from glmtrain.model import head_weight
from glmtrain.outofmemory import is_out_of_memory

from glmdiag.preflight.magnitudes import Magnitudes, layer_of, watched
from glmdiag.preflight.passes import Distance, Pass, compute, distance, evaluating
from glmdiag.preflight.scaling import Headroom, headroom
from glmdiag.preflight.trial import EXACT_UP_TO, Format, Made, Trial

ORDER: tuple[Format, ...] = ("fp64", "fp32", "bf16", "fp16")
REFERENCES: tuple[Format, ...] = ("fp64", "fp32", "fp16", "bf16")
"""The most precise first."""
SHORT: dict[probe.DType, Format] = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}
NOISY = 0.5
"""Of the difference between the halves of a batch: an error below is lost in the noise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer in one format; distances are to the reference, None for it and where nothing
    learns."""

    name: str
    overflowed: float
    largest: float
    vanished: float
    error: float | None
    cosine: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """One format. `problem` says why there is nothing else to tell.

    `overflowed` is the share of activations and gradients that are inf or NaN, `vanished` that of
    gradients that are zero here and not in the reference; fp16 at a loss scale without overflow.
    """

    name: Format
    problem: str | None = None
    finite: bool = False
    loss: float = math.nan
    seconds: float = math.nan
    overflowed: float = 0.0
    largest: float = 0.0
    vanished: float = 0.0
    against: Distance | None = None
    layers: Sequence[Layer] = ()

    @property
    def error(self) -> float | None:
        """The relative error of the gradient, None for the reference."""
        return None if self.against is None else self.against.gradients


@dataclass(frozen=True, slots=True, kw_only=True)
class Formats:
    """All formats; `noise` is the relative difference between halves of the batch.

    `hardware` is what the device computes well, as `probe` tells it, `advised` the format to take,
    `chosen` the one that the run would take. `guess` is the loss of guessing evenly.
    """

    chosen: Format
    advised: Format
    reference: Format | None
    noise: float
    tried: Sequence[Tried]
    headroom: Headroom | None
    hardware: probe.Recommendation
    guess: float
    architecture: str
    exact: Pass | None = field(repr=False, default=None)

    def of(self, name: Format) -> Tried | None:
        """A format's result, None where it was not tried."""
        return next((each for each in self.tried if each.name == name), None)

    def safe(self, name: Format) -> bool:
        """Whether gradients in this format are as good as exact ones on these rows."""
        found = self.of(name)
        if found is None or not found.finite or found.problem is not None:
            return False
        if name == "fp16" and (self.headroom is None or self.headroom.least > self.headroom.most):
            return False
        return found.error is None or found.error <= self.harmless

    @property
    def harmless(self) -> float:
        """The error of a gradient that is lost in the chance of which labels a batch has."""
        return NOISY * self.noise

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "chosen": self.chosen,
            "advised": self.advised,
            "reference": self.reference,
            "noise": self.noise,
            "guess": self.guess,
            "headroom": None if self.headroom is None else asdict(self.headroom),
            "formats": [asdict(each) | {"safe": self.safe(each.name)} for each in self.tried],
            "hardware": {"dtype": SHORT[self.hardware.dtype], "reason": self.hardware.reason},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    name: Format
    seconds: float
    found: Pass
    layers: Mapping[str, Magnitudes]


def compare(trial: Trial) -> Formats:
    """Every format that fits; one that does not, or that the device refuses, is told of."""
    seen: list[_Seen] = []
    problems: dict[Format, str] = {}
    facts: dict[str, Any] = {"noise": math.nan, "guess": math.nan, "architecture": ""}
    exact_too = True
    for name in ("fp32", "fp64", "bf16", "fp16"):
        if name == "fp64" and not exact_too:
            continue
        try:
            with trial.made(name) as made:
                seen.append(_look(made, trial, _scale(made, seen)))
                if math.isnan(facts["noise"]) and seen[-1].found.finite:
                    facts["noise"] = _noise(made, trial)
                exact_too = exact_too and _can_widen(made)
                facts["guess"] = math.log(len(head_weight(made.learner.causal)))
                facts["architecture"] = type(made.learner.causal).__name__
        except (InputError, RuntimeError, MemoryError) as error:
            if not _may_go_on(error, first=not seen, own=name == trial.dtype):
                raise
            problems[name] = first_line(error)[:200]
            exact_too = False
    return _judged(trial, seen, problems, facts)


def _may_go_on(error: BaseException, *, first: bool, own: bool) -> bool:
    """Whether an error concerns one format alone: it does not fit, the device lacks an operation,
    or weights are too large for it."""
    if isinstance(error, InputError):
        return not first and not own
    return is_out_of_memory(error) or "not implemented" in str(error)


def _judged(
    trial: Trial,
    seen: Sequence[_Seen],
    problems: Mapping[Format, str],
    facts: Mapping[str, Any],
) -> Formats:
    by_name = {each.name: each for each in seen}
    sound = [by_name[name] for name in REFERENCES if name in by_name]
    reference = next((each for each in sound if each.found.finite), None)
    tried = [_tried(by_name[name], reference) for name in ORDER if name in by_name]
    tried += [Tried(name=name, problem=problem) for name, problem in problems.items()]
    hardware = probe.recommend(trial.place.device)
    first = trial.config.precision.initial_loss_scale
    found = Formats(
        chosen=trial.dtype,
        advised="fp32",
        reference=None if reference is None else reference.name,
        tried=tried,
        headroom=None if reference is None else headroom(_all(reference), first),
        hardware=hardware,
        exact=None if reference is None else reference.found,
        **facts,
    )
    return _advised(found)


def _advised(found: Formats) -> Formats:
    """The hardware's choice where that is safe here, else the next that is."""
    usable: list[Format] = [SHORT[found.hardware.dtype]]
    for check in (found.hardware.bf16, found.hardware.fp16):
        if check.state == "usable" and found.hardware.device != "cpu":
            usable.append(SHORT[check.dtype])
    return replace(found, advised=next((name for name in usable if found.safe(name)), "fp32"))


def _scale(made: Made, seen: Sequence[_Seen]) -> float:
    """The loss scale that a run would come to: fp16's first one, halved until nothing overflows."""
    scale = made.precision.loss_scale or 1.0
    exact = next((each for each in reversed(seen) if each.found.finite), None)
    if scale == 1.0 or exact is None:
        return scale
    return float(
        scale / 2 ** headroom(_all(exact), made.config.precision.initial_loss_scale).halvings
    )


def _look(made: Made, trial: Trial, scale: float) -> _Seen:
    inputs = trial.rows.together()
    with evaluating(made.strategy), watched(made.learner, scale) as layers:
        began = time.perf_counter()
        found = compute(made.strategy, [inputs], scale, each=False)
        seconds = time.perf_counter() - began
    return _Seen(name=made.name, seconds=seconds, found=found, layers=layers)


def _noise(made: Made, trial: Trial) -> float:
    """The standard error of the batch's gradient as a share of it, from two halves of the labels.

    inf where there are too few labels to tell.
    """
    one, other = trial.rows.halves()
    if not one.supervised or not other.supervised:
        return math.inf
    with evaluating(made.strategy):
        first, second = (compute(made.strategy, [half], each=False) for half in (one, other))
    apart = whole = 0.0
    for name, gradient in first.gradients.items():
        twin = second.gradients[name]
        if gradient is not None and twin is not None:
            apart += float((gradient - twin).square().sum())
            whole += float((gradient + twin).square().sum())
    return math.sqrt(apart / whole) if whole else math.inf


def _can_widen(made: Made) -> bool:
    return made.parameters <= EXACT_UP_TO and made.config.model.method != "qlora"


def _tried(each: _Seen, reference: _Seen | None) -> Tried:
    against = None
    if reference is not None and reference is not each:
        against = distance(each.found, reference.found)
    total = _all(each)
    layers = [_layer(each, reference, name) for name in each.layers]
    return Tried(
        name=each.name,
        finite=each.found.finite and not total.overflowed,
        loss=each.found.loss,
        seconds=each.seconds,
        overflowed=(total.overflowed + total.gradients_overflowed)
        / max(1, total.count + total.gradients),
        largest=total.largest,
        vanished=0.0 if reference is None else total.vanished(_all(reference)),
        against=against,
        layers=sorted(layers, key=lambda layer: _place(layer.name)),
    )


def _layer(each: _Seen, reference: _Seen | None, name: str) -> Layer:
    own = each.layers[name]
    weights = [w for w, gradient in each.found.gradients.items() if layer_of(w) == name]
    against = None
    if reference is not None and reference is not each and weights:
        against = distance(each.found, reference.found, weights)
    return Layer(
        name=name,
        overflowed=(own.overflowed + own.gradients_overflowed) / max(1, own.count + own.gradients),
        largest=own.largest,
        vanished=0.0 if reference is None else own.vanished(reference.layers[name]),
        error=None if against is None else against.gradients,
        cosine=None if against is None else against.cosine,
    )


def _all(each: _Seen) -> Magnitudes:
    return reduce(Magnitudes.merged, each.layers.values())


def _place(name: str) -> tuple[int, int]:
    """Layers in the order in which a text goes through them."""
    if name.isdecimal():
        return 1, int(name)
    return {"embeddings": 0, "others": 2, "head": 3}[name], 0
