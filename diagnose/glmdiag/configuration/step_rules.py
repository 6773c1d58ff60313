"""Rules on the steps of a run: rate, rows, warm-up, clipping, and LoRA's scale."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from glmprep import shapes
from glmprep.errors import SuiteError
from glmprep.findings import Finding, Severity, rule

from glmdiag.configs import FORMATS
from glmdiag.configs.record import TrainerConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Learning rates of AdamW for a method: the usual ones, and a good one."""

    low: float
    usual: float
    high: float

    def at(self, factor: float) -> Rates:
        """So many times these rates."""
        low, usual, high = (factor * rate for rate in (self.low, self.usual, self.high))
        return Rates(low=low, usual=usual, high=high)


RATES: Mapping[str, Rates] = {
    "full": Rates(low=1e-6, usual=2e-5, high=5e-5),
    "lora": Rates(low=2e-5, usual=2e-4, high=1e-3),
    "qlora": Rates(low=2e-5, usual=2e-4, high=1e-3),
    # ChatGLM's own P-tuning took 2e-2: a prefix starts from nothing and is far from the loss.
    "ptuning": Rates(low=1e-3, usual=1e-2, high=3e-2),
}
USUAL_WIDTH = 4096
"""The hidden size of the models that these rates were found for."""
RANDOM = "tiny"
"""A model of random weights, which bears far higher rates."""
WARMUP = 0.05
LONGEST_WARMUP = 0.5
LONGER = 1.1
FEW_ROWS = 4
LEAST_CLIP = 0.05
LEAST_ALPHA, MOST_ALPHA = 0.5, 8.0
GOOD_ROWS = 16
"""Rows of a step that a proposal comes to."""


def rates(config: TrainerConfig, width: int | None) -> Rates | None:
    """The rates that suit the method, in a model of this hidden size.

    What suits one width suits another by their inverse (Yang et al. 2022, Tensor Programs V). None
    for another optimiser, or a model of random weights.
    """
    name = str(config.effective("optimizer") or "adamw").lower()
    found = RATES.get(config.method or "")
    if "adam" not in name or config.model == RANDOM or found is None:
        return None
    return found.at(USUAL_WIDTH / (width or USUAL_WIDTH))


def width_of(model: str | None) -> int | None:
    """The hidden size of a model at hand, or known by name; None for others."""
    try:
        return None if model is None else shapes.read(model).hidden
    except (SuiteError, OSError, ValueError):  # also a name that no file can have
        return None


@rule("CF231", Severity.WARNING)
def rate_out_of_range(config: TrainerConfig, range_: Rates | None) -> Iterator[Finding]:
    """The learning rate is out of the method's range.

    Evidence: {said} = {rate}; for {method} {low} to {high} is usual.
    Why: above that range the loss jumps, or becomes NaN; below it the run ends before it has
    learned anything, and the model answers as before.
    Fix: take {usual}.
    """
    rate = config.effective("learning_rate")
    if range_ is None or rate is None or range_.low <= rate <= range_.high:
        return
    yield rate_out_of_range.finding(
        config.where("learning_rate"),
        said=config.key("learning_rate"),
        rate=f"{rate:g}",
        method=str(config.method),
        low=f"{range_.low:g}",
        high=f"{range_.high:g}",
        usual=f"{range_.usual:g}",
    )


@rule("CF232", Severity.WARNING)
def no_warmup(config: TrainerConfig, range_: Rates | None) -> Iterator[Finding]:
    """There is no warm-up.

    Evidence: neither warm-up steps nor a share of warm-up is set; the first step already has the
    full rate of {rate}.
    Why: AdamW's second moments are not yet known at the first steps, so these move weights the
    furthest; the loss jumps at the beginning, and full training may never come back.
    Fix: warm up over 5 % of the steps.
    """
    if config.trainer == "deepspeed" or config.warmup > 0:
        return
    if config.deepspeed is not None and "warmup" in (config.deepspeed.scheduler or "").lower():
        return
    rate = config.effective("learning_rate")
    bold = range_ is None or rate is None or rate >= range_.usual
    few = (config.rows_per_step or FEW_ROWS) < FEW_ROWS
    yield no_warmup.finding(
        config.where("warmup_ratio", "warmup_steps"),
        severity=Severity.WARNING if bold or few else Severity.INFO,
        rate="?" if rate is None else f"{rate:g}",
    )


@rule("CF233", Severity.WARNING)
def one_row_a_step(config: TrainerConfig, range_: Rates | None) -> Iterator[Finding]:
    """A step has one row.

    Evidence: {said} = 1 and there is no accumulation, so each step on a device follows one row.
    Why: the gradient of one conversation is mostly noise; the loss jumps, and the model follows
    whatever came last.
    Fix: accumulate {needed} batches a step ({key}); it costs no memory.
    """
    rate = config.effective("learning_rate")
    if config.rows_per_step == 1 and not config.packing and not _bold(range_, rate):
        yield one_row_a_step.finding(
            config.where("batch_size"),
            said=config.key("batch_size"),
            key=_accumulation(config),
            needed=GOOD_ROWS,
        )


@rule("CF234", Severity.WARNING)
def one_row_at_high_rate(config: TrainerConfig, range_: Rates | None) -> Iterator[Finding]:
    """A step has hardly a row, and the rate is high.

    Evidence: {rows} {rows:|row|rows} a step on a device at a learning rate of {rate}.
    Why: a high rate follows the noise of so few conversations; the loss jumps or diverges, and what
    is learned is what came last.
    Fix: accumulate {needed} batches a step ({key}), or take a rate of {usual}.
    """
    rate, rows = config.effective("learning_rate"), config.rows_per_step
    if rows is None or rows > 2 or config.packing or not _bold(range_, rate):
        return
    assert range_ is not None
    yield one_row_at_high_rate.finding(
        config.where("learning_rate", "batch_size"),
        rows=rows,
        rate=f"{rate:g}",
        needed=GOOD_ROWS // rows,
        key=_accumulation(config),
        usual=f"{range_.usual:g}",
    )


@rule("CF235", Severity.WARNING)
def clip_unusual(config: TrainerConfig) -> Iterator[Finding]:
    """Gradients are not clipped, or to almost nothing.

    Evidence: {said} = {clip}.
    Why: without clipping one bad row can throw the weights far off, and fp16 diverges; at a tiny
    limit every gradient is cut to the same length, and the learning rate means something else.
    Fix: clip at 1.0.
    """
    clip = config.max_grad_norm
    plan = config.deepspeed
    if plan is not None and isinstance(plan.clip, (int, float)):
        clip = plan.clip
    if clip is not None and clip < LEAST_CLIP:
        own = clip == config.max_grad_norm
        said = config.key("max_grad_norm") if own else "gradient_clipping"
        yield clip_unusual.finding(config.where("max_grad_norm"), said=said, clip=f"{clip:g}")


@rule("CF239", Severity.WARNING)
def alpha_unusual(config: TrainerConfig) -> Iterator[Finding]:
    """LoRA's alpha does not fit its rank.

    Evidence: alpha {alpha} over rank {rank} scales the adapter by {scale:.3g}.
    Why: this factor acts like the learning rate: far above 4 adapters overshoot, far below 1 they
    hardly move the model.
    Fix: take an alpha of twice the rank ({usual}).
    """
    alpha, rank = config.effective("alpha"), config.effective("rank")
    if not alpha or not rank or config.method not in ("lora", "qlora"):
        return
    scale = alpha / (rank**0.5 if config.rslora else rank)
    if not LEAST_ALPHA <= scale <= MOST_ALPHA:
        yield alpha_unusual.finding(
            config.where("alpha", "rank"),
            alpha=f"{alpha:g}",
            rank=rank,
            scale=scale,
            usual=2 * rank,
        )


@rule("CF240", Severity.WARNING)
def warmup_too_long(config: TrainerConfig) -> Iterator[Finding]:
    """The schedule does not fit the length of the run.

    Evidence: {what} = {count} in a run of {steps} steps.
    Why: a warm-up that takes most of the run never comes to the learning rate that was asked for;
    a schedule that is longer than the run never decays.
    Fix: warm up over 5 % of the steps, and let the schedule end with the run.
    """
    warm, steps = config.warmup, config.max_steps
    name = config.key("warmup_ratio" if config.warmup_ratio else "warmup_steps")
    if LONGEST_WARMUP < warm < 1:
        yield warmup_too_long.finding(
            config.where("warmup_ratio", "warmup_steps"),
            what=name,
            count=f"{warm:.0%}",
            steps="?" if steps is None else str(steps),
        )
    if steps is None:
        return
    if warm >= max(1, LONGEST_WARMUP * steps):
        yield warmup_too_long.finding(
            config.where("warmup_steps"), what=name, count=f"{warm:g}", steps=str(steps)
        )
    plan = config.deepspeed
    planned = None if plan is None else plan.schedule_steps
    if plan is not None and isinstance(planned, (int, float)) and planned > LONGER * steps:
        yield warmup_too_long.finding(
            plan.name, what="total_num_steps", count=f"{planned:g}", steps=str(steps)
        )


def judge(config: TrainerConfig, width: int | None = None) -> list[Finding]:
    """All findings on the steps of a run; `width` is the model's hidden size."""
    by_rate = (rate_out_of_range, no_warmup, one_row_a_step, one_row_at_high_rate)
    others = (clip_unusual, alpha_unusual, warmup_too_long)
    range_ = rates(config, width)
    return [
        *(finding for each in by_rate for finding in each(config, range_)),
        *(finding for each in others for finding in each(config)),
    ]


def _bold(range_: Rates | None, rate: float | None) -> bool:
    return range_ is not None and rate is not None and rate > range_.usual


def _accumulation(config: TrainerConfig) -> str:
    return FORMATS[config.trainer].keys["accumulation"][0]
