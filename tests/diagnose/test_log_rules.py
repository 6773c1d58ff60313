"""Each rule of the log fires on its fault, dated, and is silent on what looks like it."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from glmtrain.detectors import LOG_RULES, Step, Watch, detect
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.diagnose.healthy_runs import EXAMPLES, MOST, healthy_run

GIB = 1 << 30
Run = list[Step]


def run(n: int = 120, seed: int = 1, **fields: Callable[[int], object]) -> Run:
    """A sound run of `n` steps; a field is a function of the step."""
    random = np.random.default_rng(seed)
    steps = []
    for i in range(1, n + 1):
        step = Step(
            step=i,
            loss=float((1 + 1.2 * math.exp(-i / 30)) * math.exp(random.normal(0, 0.05))),
            grad_norm=float(math.exp(random.normal(0, 0.2))),
            learning_rate=2e-4 * min(i / 6, 1) * (1 - (i - 1) / (1.2 * n)),
        )
        steps.append(step._replace(**{name: value(i) for name, value in fields.items()}))
    return steps


def wave(random_seed: int, every: int, low: float, high: float) -> Callable[[int], float]:
    random = np.random.default_rng(random_seed)
    return lambda i: (high if i % every == 0 else low) * float(random.uniform(0.98, 1.02))


def exploding(warm: bool) -> Run:
    def burst(i: int) -> float:
        return 9.0 if 4 <= i <= 15 else 1.0

    rate = (lambda i: 1e-4 * min(i / 10, 1)) if warm else (lambda i: 1e-4 * (1 - i / 400))
    return run(40, loss=lambda i: burst(i) / 4 + 1, grad_norm=burst, learning_rate=rate)


def resumed(*, rate: float = 1.0, jump: float = 0.0) -> Run:
    """Goes back from step 90 to 61."""
    first = run(90)
    again = [
        s._replace(loss=s.loss + jump, learning_rate=s.learning_rate * rate)
        for s in run(150, seed=2)[60:]
    ]
    return [*first, *again]


def passes(shape: Callable[[float], float], stair: float = 0.0, bucket: bool = False) -> Run:
    random = np.random.default_rng(4)

    def loss(i: int) -> float:
        epoch = (i - 0.5) / 40
        return float(1.5 * math.exp(shape(epoch % 1) - stair * int(epoch) + random.normal(0, 0.03)))

    return run(
        160,
        loss=loss,
        epoch=lambda i: i / 40,
        bucket=lambda i: float(256 << (i // 10) % 4) if bucket else 512.0,
    )


def ending(event: str, detail: str, after: int = 0, during: str | None = None) -> Run:
    end = Step(step=60, event=event, detail=detail, during=during)
    return [*run(60), end, *run(60 + after)[60:]]


def sunk(norm: Callable[[int], float], epoch: Callable[[int], float]) -> Run:
    return run(
        200, loss=lambda i: 3 * math.exp(-i / 20) + 1e-5 * (i % 3), grad_norm=norm, epoch=epoch
    )


def overfit(rise: float) -> Run:
    evals = {20: 1.5, 40: 1.3, 60: 1.2, 80: 1.2 + rise / 2, 100: 1.2 + 0.8 * rise, 120: 1.2 + rise}
    return run(eval_loss=evals.get)


def standing(moved: float = 0.0) -> Run:
    """Four passes over the same sixteen losses, in another order each time."""
    random = np.random.default_rng(6)
    costs = [random.permutation(np.linspace(1.5, 5, 16)) for _ in range(4)]

    def loss(i: int) -> float:
        return float(costs[(i - 1) // 16][(i - 1) % 16]) * (1 - moved * ((i - 1) // 16))

    return run(64, loss=loss, grad_norm=loss, epoch=lambda i: i / 16)


def thrown(back: bool) -> Run:
    """Leaps from 3 to 8 at the fourth step."""

    def loss(i: int) -> float:
        fall = 6 * math.exp(-i / 12) if back else 3.0
        return (3.0 if i < 4 else 2.5 + fall + 2.5 * (not back)) + i % 4 / 5

    return run(60, loss=loss)


def shaking(grown: float) -> Run:
    return run(
        100,
        loss=lambda i: 4 + 2 * math.sin(i * i),
        grad_norm=lambda i: (1 if i < 8 else grown) + i % 3 / 5,
        learning_rate=lambda _: 2e-2,
    )


def poisoned(every_pass: bool) -> Run:
    """A row that costs more than all others, in each pass or in the first one only."""
    random = np.random.default_rng(8)
    places = [5, 20 + 12, 40 + 3, 60 + 17]

    def odd(i: int) -> bool:
        return i in (places if every_pass else places[:1])

    return run(
        80,
        loss=lambda i: float(3 * math.exp(random.normal(0, 0.05)) + odd(i)),
        grad_norm=lambda i: float(math.exp(random.normal(0, 0.2)) + 2 * odd(i)),
        epoch=lambda i: i / 20,
    )


def repeated(i: int) -> float:
    return [1.21573, 1.30431, 1.19872, 1.25119][i % 4]


def buckets(i: int) -> float:
    return float(512 << (i * 7 % 5) % 4)


FAULTS: dict[str, tuple[str, str, int, Run]] = {
    "sank with a gradient that stays": (
        "LG009",
        "error",
        161,
        sunk(lambda i: 1 + i % 3 / 10, lambda i: i / 50),
    ),
    "sank within the first pass": (
        "LG009",
        "warning",
        161,
        sunk(lambda i: math.exp(-i / 20), lambda i: i / 400),
    ),
    "a few NaN gradients": (
        "LG010",
        "warning",
        50,
        run(grad_norm=lambda i: math.nan if i in (50, 77) else 1.0 + i % 5 / 10),
    ),
    "zeros without a gradient": (
        "LG011",
        "error",
        81,
        run(loss=lambda i: 0.0 if i > 80 else 1.5 + i % 7 / 20, grad_norm=lambda _: None),
    ),
    "single zeros": (
        "LG012",
        "warning",
        30,
        run(loss=lambda i: 0.0 if i in (30, 63) else 1.5 + i % 7 / 20),
    ),
    "rises from the start": (
        "LG013",
        "error",
        1,
        run(24, loss=lambda i: 2 + 0.3 * i, learning_rate=lambda _: 1e-2),
    ),
    "plateau far above": (
        "LG014",
        "warning",
        9,
        run(loss=lambda i: 6.2 + 4 * math.exp(-i / 5) + i % 5 / 50),
    ),
    "overfits": ("LG015", "warning", 60, overfit(0.4)),
    "overfits a little": ("LG015", "info", 60, overfit(0.08)),
    "tiny rate": ("LG016", "warning", 1, run(learning_rate=lambda i: 1e-9 * min(i, 5))),
    "small rate, and no fall": (
        "LG016",
        "warning",
        1,
        run(80, loss=lambda i: 2 + i % 5 / 20, learning_rate=lambda _: 1e-6),
    ),
    "no warm-up": ("LG017", "warning", 1, exploding(warm=False)),
    "rate jumps and the loss rises": (
        "LG018",
        "warning",
        60,
        run(
            75,
            learning_rate=lambda i: 2e-4 * (1 - i / 65) if i < 60 else 2e-4,
            loss=lambda i: (1.2 if i < 60 else 1.6) + i % 5 / 30,
        ),
    ),
    "schedule ends early": (
        "LG019",
        "warning",
        91,
        run(learning_rate=lambda i: 1e-4 if i <= 90 else 1e-8),
    ),
    "ends before its planned step": ("LG020", "info", 1, run(planned=lambda _: 500)),
    "high rate and spikes": (
        "LG021",
        "warning",
        1,
        run(
            loss=lambda i: 7.0 if i in (50, 51, 80, 81) else 1.2 + i % 5 / 30,
            learning_rate=lambda _: 5e-3,
        ),
    ),
    "growing gradient": (
        "LG022",
        "warning",
        1,
        run(grad_norm=lambda i: math.exp(i / 30) * (1 + i % 3 / 10)),
    ),
    "always clipped": (
        "LG023",
        "info",
        1,
        run(grad_norm=lambda i: 40 + i % 3, max_grad_norm=lambda _: 1.0),
    ),
    "vanishing gradient": (
        "LG024",
        "warning",
        41,
        run(grad_norm=lambda i: 1.0 if i <= 40 else 1e-6),
    ),
    "loss scale used up": (
        "LG025",
        "error",
        21,
        run(
            60,
            loss_scale=lambda i: 65536 / 2 ** max(0, min(i - 20, 14)),
            event=lambda i: "overflow" if 20 < i <= 34 else None,
        ),
    ),
    "overflows too often": (
        "LG025",
        "warning",
        24,
        run(event=lambda i: "overflow" if i % 6 == 0 else None),
    ),
    "the same batches": ("LG026", "warning", 5, run(40, loss=repeated)),
    "memory in a rhythm": (
        "LG027",
        "warning",
        1,
        run(memory=wave(3, 12, 9 * GIB, 14 * GIB)),
    ),
    "memory by length": (
        "LG028",
        "info",
        1,
        run(memory=lambda i: (4 + buckets(i) / 512) * GIB, bucket=buckets),
    ),
    "memory at evaluations": (
        "LG029",
        "info",
        1,
        run(
            memory=wave(3, 10, 9 * GIB, 14 * GIB),
            eval_loss=lambda i: 1.0 if i % 10 == 0 else None,
        ),
    ),
    "leak": (
        "LG030",
        "warning",
        3,
        run(memory=lambda i: (8 + i / 40 + i % 3 / 50) * GIB),
    ),
    "slower and slower": (
        "LG031",
        "warning",
        3,
        run(tokens_per_second=lambda i: 4000 / (1 + i / 120) + i % 3 * 20),
    ),
    "speed in a rhythm": (
        "LG032",
        "info",
        1,
        run(tokens_per_second=wave(5, 10, 4000.0, 700.0)),
    ),
    "out of memory": ("LG033", "error", 60, ending("oom", "CUDA out of memory.")),
    "crash": ("LG034", "error", 60, ending("crash", "ValueError: x")),
    "stairs": ("LG035", "info", 41, passes(lambda _: 0.0, stair=0.4)),
    "sorted in every pass": (
        "LG036",
        "warning",
        41,
        passes(lambda x: 0.35 * math.sin(2 * math.pi * x)),
    ),
    "weights that stand still": ("LG040", "warning", 1, standing()),
    "thrown up for good": ("LG041", "error", 1, thrown(back=False)),
    "never as low as at first": (
        "LG048",
        "warning",
        1,
        run(loss=lambda i: 2.4 if i == 1 else 6.5 + i % 5 / 5),
    ),
    "thrown above word frequencies": (
        "LG049",
        "warning",
        5,
        run(loss=lambda i: {4: 10.5, 5: 12.0}.get(i, 4.0)),
    ),
    "gradients that grow in vain": ("LG042", "warning", 1, shaking(6.0)),
    "the same row each pass": ("LG043", "warning", 5, poisoned(every_pass=True)),
    "long rows among short ones": (
        "LG044",
        "warning",
        12,
        run(padding=lambda i: 0.7 if i % 12 == 0 else 0.05),
    ),
    "a tenth after many passes": (
        "LG045",
        "info",
        1,
        run(loss=lambda i: 0.1 + 4 * math.exp(-i / 20), epoch=lambda i: i / 12),
    ),
    "a tenth within the first pass": (
        "LG045",
        "warning",
        1,
        run(loss=lambda i: 0.1 + 4 * math.exp(-i / 20), epoch=lambda i: i / 200),
    ),
    "out of memory in an evaluation": (
        "LG046",
        "error",
        60,
        ending("oom", "CUDA out of memory.", during="evaluation"),
    ),
    "another vocabulary": ("LG047", "warning", 1, run(loss=lambda i: 6 + 3 * math.exp(-i / 40))),
    "a schedule that begins again": (
        "LG018",
        "warning",
        61,
        run(
            learning_rate=lambda i: (
                2e-4 * (min(i / 6, 1) if i < 60 else min((i - 60) / 6, 1)) * (1 - i / 200)
            )
        ),
    ),
    "overflows before the first step": (
        "LG025",
        "warning",
        1,
        run(grad_norm=lambda i: math.inf if i <= 7 else 1.0 + i % 3 / 5),
    ),
    "resume with a jump": ("LG037", "error", 61, resumed(jump=1.8)),
    "resume with another schedule": ("LG037", "warning", 61, resumed(rate=0.2)),
    "first loss above guessing": (
        "LG038",
        "warning",
        1,
        run(loss=lambda i: 15 - 2 * math.log(i) + i % 3 / 10),
    ),
    "first loss of guessing": (
        "LG038",
        "info",
        1,
        run(loss=lambda i: 2 + 9.9 * math.exp(-i / 50) + i % 3 / 10),
    ),
    "low from the first step": (
        "LG039",
        "warning",
        1,
        run(loss=lambda i: 0.01 * math.exp(-i / 100) + 0.002 * (i % 5)),
    ),
}

SILENT: dict[str, tuple[str, Run]] = {
    "a batch at zero for a moment": (
        "LG009",
        run(loss=lambda i: 5e-4 if 60 <= i < 65 else 0.05 + i % 5 / 100),
    ),
    "NaN norms of declared overflows": (
        "LG010",
        run(
            grad_norm=lambda i: math.nan if i in (50, 77) else 1.0,
            event=lambda i: "overflow" if i in (50, 77) else None,
        ),
    ),
    "zeros with a gradient": ("LG011", run(loss=lambda i: 0.0 if i > 80 else 1.5 + i % 7 / 20)),
    "zeros of a model that knows the rows": (
        "LG012",
        run(loss=lambda i: 0.0 if i > 90 and i % 9 == 0 else max(2 - i / 30, 0.01 * (i % 4 + 1))),
    ),
    "rises a little with harder rows": (
        "LG013",
        run(40, loss=lambda i: 0.9 + 0.25 * i / 40 + i % 5 / 50),
    ),
    "plateau where text lies": ("LG014", run(loss=lambda i: 1.6 + 4 * math.exp(-i / 5))),
    "still falling from far above": ("LG014", run(loss=lambda i: 5 + 6 * math.exp(-i / 60))),
    "evaluations that waver": (
        "LG015",
        run(eval_loss=lambda i: 1.2 + (i % 3) * 0.01 if i % 10 == 0 else None),
    ),
    "a long warm-up from nothing": ("LG016", run(40, learning_rate=lambda i: 1e-9 * i)),
    "small rate, but the loss falls": ("LG016", run(learning_rate=lambda _: 1e-6)),
    "the same burst after a warm-up": ("LG017", exploding(warm=True)),
    "no warm-up and no burst": ("LG017", run(learning_rate=lambda _: 1e-4)),
    "warm-up in large logging steps": (
        "LG018",
        run(learning_rate=lambda i: 2e-4 * min(1, i * i / 36)),
    ),
    "a cosine's tail": (
        "LG019",
        run(learning_rate=lambda i: 1e-4 * (1 + math.cos(math.pi * i / 120)) / 2),
    ),
    "at its planned step": ("LG020", run(planned=lambda _: 120)),
    "high rate of a calm run": ("LG021", run(learning_rate=lambda _: 5e-3)),
    "a gradient that doubles": ("LG022", run(grad_norm=lambda i: 1 + i / 120 + i % 3 / 10)),
    "clipped a little": (
        "LG023",
        run(grad_norm=lambda i: 3 + i % 3, max_grad_norm=lambda _: 1.0),
    ),
    "clipping switched off": (
        "LG023",
        run(grad_norm=lambda i: 40 + i % 3, max_grad_norm=lambda _: 0.0),
    ),
    "a small gradient of a small loss": (
        "LG024",
        run(loss=lambda i: math.exp(-i / 20), grad_norm=lambda i: math.exp(-i / 8)),
    ),
    "a loss scale that finds its place": (
        "LG025",
        run(
            loss_scale=lambda i: 65536 / 2 ** min(i, 5),
            event=lambda i: "overflow" if i <= 5 or i == 90 else None,
        ),
    ),
    "small losses of four digits": (
        "LG026",
        run(loss=lambda i: round(0.012 + i * 7 % 13 / 10_000, 4)),
    ),
    "memory without a rhythm": (
        "LG027",
        run(memory=lambda i: (8 + 4 * math.sin(i * i) ** 2) * GIB),
    ),
    "a small wave of memory": ("LG027", run(memory=wave(3, 12, 9 * GIB, 9.5 * GIB))),
    "lengths that memory does not follow": (
        "LG028",
        run(memory=lambda i: (8 + 4 * math.sin(i * i) ** 2) * GIB, bucket=buckets),
    ),
    "evaluations in another rhythm": (
        "LG029",
        run(
            memory=wave(3, 12, 9 * GIB, 14 * GIB), eval_loss=lambda i: 1.0 if i % 20 == 0 else None
        ),
    ),
    "memory that settles": (
        "LG030",
        run(memory=lambda i: (8 - 4 * math.exp(-i / 10) + i % 3 / 50) * GIB),
    ),
    "rows sorted by length": (
        "LG030",
        run(
            memory=lambda i: (4 + 4 * (i // 24) + i % 3 / 50) * GIB,
            bucket=lambda i: float(512 << i // 24),
        ),
    ),
    "speed that wavers": (
        "LG031",
        run(tokens_per_second=lambda i: 4000 + 900 * math.sin(i * i)),
    ),
    "longer rows are slower": (
        "LG031",
        run(
            tokens_per_second=lambda i: 4000 / (1 + i // 24) + i % 3 * 20,
            bucket=lambda i: float(512 << i // 24),
        ),
    ),
    "speed without a rhythm": (
        "LG032",
        run(tokens_per_second=lambda i: 4000 + 3000 * math.sin(i * i)),
    ),
    "memory ran out and it went on": ("LG033", ending("oom", "CUDA out of memory.", after=20)),
    "an error that was caught": ("LG034", ending("crash", "ValueError: x", after=20)),
    "a steady fall over passes": ("LG035", passes(lambda x: -0.4 * x, stair=0.4)),
    "a course explained by length": (
        "LG036",
        passes(lambda x: 0.35 * math.sin(2 * math.pi * x), bucket=True),
    ),
    "passes without a course": ("LG036", passes(lambda _: 0.0)),
    "weights that move a little": ("LG040", standing(moved=0.05)),
    "thrown up and back again": ("LG041", thrown(back=True)),
    "lower than at first in the end": ("LG048", run(loss=lambda i: 2.4 + (60 - i) / 30)),
    "one loss above word frequencies": ("LG049", run(loss=lambda i: 10.5 if i == 4 else 4.0)),
    "gradients that double": ("LG042", shaking(2.0)),
    "one odd row": ("LG043", poisoned(every_pass=False)),
    "rows that are always padded": ("LG044", run(padding=lambda i: 0.6 if i % 2 else 0.4)),
    "a fifth": ("LG045", run(loss=lambda i: 0.8 + 3.2 * math.exp(-i / 20))),
    "out of memory in training": ("LG046", ending("oom", "CUDA out of memory.")),
    "random weights": ("LG047", run(loss=lambda i: 10.4 - i / 100)),
    "a resume without a seam": ("LG037", resumed()),
    "first loss of a pretrained model": ("LG038", run()),
    "low loss in the middle of a run": (
        "LG039",
        [s._replace(step=s.step + 500, loss=0.01 + s.step % 5 / 500) for s in run()],
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found_and_dated(name):
    rule, severity, began, steps = FAULTS[name]
    found = {finding.rule: finding for finding in detect(steps)}
    assert rule in found, sorted(found)
    assert (found[rule].severity, found[rule].data["step"]) == (severity, began)


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_has_no_wrong_error_beside_it(name):
    rule, _, _, steps = FAULTS[name]
    others = {f.rule for f in detect(steps) if f.severity == "error"} - {rule}
    assert others <= ALLOWED.get(name, set())


ALLOWED = {
    "no warm-up": {"LG013"},
    "high rate and spikes": {"LG006"},
    "rises from the start": {"LG006"},
    "thrown up for good": {"LG013"},
}


@pytest.mark.parametrize("name", SILENT)
def test_what_looks_like_a_fault_is_none(name):
    rule, steps = SILENT[name]
    assert rule not in {finding.rule for finding in detect(steps)}


def test_every_later_rule_has_a_firing_and_a_silent_run():
    later = {rule.id for rule in LOG_RULES if rule.id >= "LG009"}
    assert {rule for rule, *_ in FAULTS.values()} == later
    assert {rule for rule, _ in SILENT.values()} == later


@settings(max_examples=3 * EXAMPLES)
@given(seed=st.integers(0, MOST - 1))
def test_sound_runs_of_every_method_give_no_error_and_no_warning(seed):
    kind, steps = healthy_run(seed)
    assert [f.evidence for f in detect(steps) if f.severity != "info"] == [], kind


def test_learned_by_heart_over_many_passes_is_worth_knowing_only():
    steps = sunk(lambda i: math.exp(-i / 20), lambda i: i / 20)
    assert [(f.rule, f.severity) for f in detect(steps)] == [("LG009", "info")]


def test_random_weights_that_stay_near_guessing_are_worth_knowing_only():
    steps = run(loss=lambda i: 10.2 + 5 * math.exp(-i / 4) + i % 5 / 50)
    assert {f.rule: f.severity for f in detect(steps)}.get("LG014") == "info"


def test_a_rate_that_restarts_while_the_loss_is_calm_is_worth_knowing_only():
    steps = run(learning_rate=lambda i: 2e-4 * (1 - i % 60 / 60))
    assert [(f.rule, f.severity) for f in detect(steps)] == [("LG018", "info")]


def test_a_rhythm_is_told_with_its_period():
    steps = run(memory=wave(3, 12, 9 * GIB, 14 * GIB))
    (found,) = (f for f in detect(steps) if f.rule == "LG027")
    assert found.data["period"] == 12


def test_a_resume_is_told_with_what_was_before_and_after():
    (found,) = (f for f in detect(resumed(rate=0.2, jump=1.8)) if f.rule == "LG037")
    assert found.data["repeated"] == 30
    assert found.data["rate_after"] < 0.3 * found.data["rate_before"]
    assert found.data["after"] > found.data["before"] + 1.5


def test_a_resume_that_the_trainer_names_is_judged_without_going_back():
    steps = run()
    steps[80:] = [s._replace(loss=s.loss + 1.8) for s in steps[80:]]
    steps[80] = steps[80]._replace(event="resumed")
    assert "LG037" in {f.rule for f in detect(steps)}


def test_what_needs_the_end_is_not_told_before_it():
    watch = Watch()
    steps = ending("oom", "CUDA out of memory.")
    assert [f.rule for s in steps for f in watch.feed(s)] == []
    assert [f.rule for f in watch.close()] == ["LG033"]
