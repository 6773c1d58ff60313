"""Logs as sound runs write them: all methods, lengths and kinds of noise."""

from __future__ import annotations

import math

import numpy as np
from glmtrain.detectors import Step
from hypothesis import settings

METHODS = {
    "lora": (2e-4, 1.6, 1.0, 0.7),
    "qlora": (1e-4, 1.8, 1.1, 0.5),
    "full": (1e-5, 1.5, 0.9, 4.0),
    "prefix": (5e-3, 2.4, 1.3, 0.3),
    "random weights": (1e-3, 6.0, 3.0, 2.0),
}
"""Learning rate, first loss, last loss, gradient norm."""
GIB = 1 << 30
EXAMPLES = 200 if settings.get_current_profile_name() == "fuzz" else 12
"""Of sound runs in a test: `make fuzz` tries many more, each time others."""
MOST = 400  # of the curves that chance draws, one in some thousands does have a spike


def healthy_run(seed: int) -> tuple[str, list[Step]]:
    """One run and what kind it is."""
    random = np.random.default_rng(seed)
    method = list(METHODS)[seed % len(METHODS)]
    rate, first, last, norm = METHODS[method]
    n = int(random.choice([12, 20, 35, 60, 100, 150, 400, 900]))
    t = np.arange(n)
    epochs = float(random.choice([1, 2, 3]))
    base = last + (first - last) * np.exp(-t / n * random.uniform(2, 8))
    stairs = random.choice([0.0, 0.05, 0.1]) * np.floor(t / n * epochs)
    # Near guessing all batches cost about the same.
    sigma = random.choice([0.03, 0.1] if method == "random weights" else [0.03, 0.1, 0.25, 0.35])
    tails = random.standard_t(8, n) if random.random() < 0.3 else random.normal(0, 1, n)
    tails = np.clip(tails, -6, 6)  # a batch of ten times the loss is a spike, by chance or not
    buckets = random.choice([256, 512, 1024, 2048, 4096], n).astype(float)
    order = random.choice(["one", "mixed", "sorted", "none"])
    if order == "one":
        buckets[:] = 1024
    elif order == "sorted":
        buckets.sort()
    lengths = np.log2(buckets / 1024) * random.uniform(-0.08, 0.08)
    loss = base * np.exp(sigma * tails + lengths - stairs)
    norms = norm * np.exp(random.normal(0, 0.3, n)) * (1 + 2 * np.exp(-t / 4))
    memory = (6 + 2 * (buckets / 1024) ** 0.7) * GIB * random.uniform(0.98, 1.02, n)
    speed = 4000 * (buckets / 1024) ** -0.15 * random.uniform(0.85, 1.1, n)
    speed[0] *= 0.3
    rates = rate * _schedule(t, n, str(random.choice(["cosine", "linear", "constant", "wsd"])))
    fp16 = random.random() < 0.3
    steps = []
    for i in range(n):
        overflow = fp16 and (i < int(random.integers(1, 5)) or random.random() < 0.003)
        steps.append(
            Step(
                step=i + 1,
                loss=float(loss[i]),
                grad_norm=math.inf if overflow else float(norms[i]),
                learning_rate=float(rates[i]),
                event="overflow" if overflow else None,
                epoch=epochs * (i + 1) / n,
                eval_loss=float(base[i] * random.normal(1.02, 0.005)) if i % 25 == 24 else None,
                tokens_per_second=float(speed[i]),
                memory=float(memory[i]),
                loss_scale=65536.0 / 2 ** min(i, 3) if fp16 else None,
                bucket=None if order == "none" else float(buckets[i]),
                planned=n,
                max_grad_norm=1.0,
            )
        )
    return f"{method}, {n} steps, sigma {sigma}, buckets {order}", steps


def _schedule(t: np.ndarray, n: int, kind: str) -> np.ndarray:
    warm = max(1, n // 20)
    done = np.clip((t - warm) / max(n - warm, 1), 0, 1)
    fall = {
        "cosine": (1 + np.cos(np.pi * done)) / 2,
        "linear": 1 - done,
        "constant": np.ones(n),
        "wsd": np.minimum(1, (1 - done) / 0.2),
    }[kind]
    return np.minimum((t + 1) / (warm + 1), 1) * fall
