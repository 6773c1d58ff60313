"""Proof that what is switched on takes effect, each seen in a step of the model itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

import torch
from glmtrain import layers, quantised
from glmtrain.batches import Inputs
from glmtrain.learner import Learner
from glmtrain.prefix_attention import PREFIX
from torch import Tensor, nn

from glmdiag.preflight.observing import Observed, observing
from glmdiag.preflight.passes import forget
from glmdiag.preflight.trial import Made, Trial

Name: TypeAlias = Literal[
    "format",
    "attention",
    "kernel",
    "checkpointing",
    "adapters",
    "prefix",
    "quantised",
    "noise",
    "dropout",
    "tokens",
    "frozen",
    "learning",
    "evaluation",
]
NAMED = 8
"""So many places without an effect are named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """One setting, what was asked of it, and in how many of so many places it was seen.

    `how` names what was seen: a kernel, a format, a number. `missing` are places without it.
    """

    name: Name
    setting: str
    asked: str
    seen: int
    of: int
    how: str = ""
    missing: tuple[str, ...] = ()

    @property
    def took(self) -> bool:
        """Whether it was seen wherever it should be, and anywhere at all."""
        return self.seen >= self.of > 0

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self) | {"took": self.took}


def of(made: Made, trial: Trial) -> list[Effect]:
    """All that is switched on, and that what must stand still does; gradients are dropped."""
    inputs = trial.rows.together()
    learner, strategy = made.learner, made.strategy
    learner.train()
    forget(strategy)
    with observing(learner) as seen:
        strategy.backward(strategy.model(inputs) / inputs.supervised)
    found = [
        *_computing(made, seen),
        *_adapting(made),
        *_regularising(made, seen, inputs),
        *_tokens(made, trial, inputs),
        _frozen(learner),
        _learning(learner, inputs),
    ]
    forget(strategy)
    learner.eval()
    with torch.no_grad(), observing(learner) as quiet:
        strategy.model(inputs, "each")
    learner.train()
    return [*found, _evaluation(learner, quiet)]


def _computing(made: Made, seen: Observed) -> Iterator[Effect]:
    """What computes: the format, attention, the loss, and layers once or twice."""
    causal, config, dtype = made.learner.causal, made.config, made.precision.dtype
    other = [name for name, found in seen.dtypes.items() if found != dtype]
    yield _effect(
        "format",
        "precision.dtype",
        made.name,
        places=seen.dtypes,
        missing=other,
        how=", ".join(
            sorted({str(found).removeprefix("torch.") for found in seen.dtypes.values()})
        ),
    )
    count = len(seen.layers)
    backends = [name for name in seen.backends if name != "scaled_dot_product_attention"]
    yield Effect(
        name="attention",
        setting="model.attention",
        asked=config.model.attention,
        seen=min(seen.attention, count) if _attention_as_asked(made) else 0,
        of=count,
        how=f"{causal.config._attn_implementation}: {', '.join(backends) or _unfused(seen)}",
    )
    kernel, asked = made.learner.objective.kernel, config.loss.kernel
    if asked in ("liger", "cce") or kernel.compute is not None:
        ran = seen.loss_calls > 0 and asked in ("auto", kernel.name)
        yield Effect(
            name="kernel", setting="loss.kernel", asked=asked, seen=int(ran), of=1, how=kernel.name
        )
    if config.model.gradient_checkpointing:
        once = [str(layer) for layer, times in seen.layers.items() if times < 2]
        yield _effect(
            "checkpointing",
            "model.gradient_checkpointing",
            "true",
            places=seen.layers,
            missing=once,
            how=str(max(seen.layers.values(), default=0)),
        )


def _unfused(seen: Observed) -> str:
    return "math" if seen.backends else "eager"


def _attention_as_asked(made: Made) -> bool:
    asked = made.config.model.attention
    kind: str = made.learner.causal.config._attn_implementation
    return asked == "auto" or kind == asked or kind.startswith(f"{asked}_behind_")


def _adapting(made: Made) -> Iterator[Effect]:
    """What of the model is adapted, and what the base is kept in."""
    learner, config = made.learner, made.config
    named = learner.learning()
    if config.model.method in ("lora", "qlora"):
        second = {name: w for name, w in named.items() if ".lora_B." in name}
        lost = [t for t in config.lora.target_modules if not any(_is_of(n, t) for n in second)]
        idle = [n for n, w in second.items() if not _moves(w) and layers.kind(n) != "experts"]
        yield _effect(
            "adapters",
            "lora.target_modules",
            ", ".join(config.lora.target_modules),
            places=[*second, *lost],
            missing=[*lost, *idle],
        )
    if config.model.method == "ptuning":
        prefixes = {name: w for name, w in named.items() if name.endswith(f".{PREFIX}")}
        still = [name for name, weight in prefixes.items() if not _moves(weight)]
        yield _effect(
            "prefix", "model.method", "ptuning", places=prefixes, missing=still, how="gradient"
        )
    if config.model.method == "qlora":
        yield _quantised(learner)


def _is_of(weight: str, target: str) -> bool:
    """Whether an adapter's weight is one on the target, a layer's name or `module.parameter`."""
    return f".{target.removesuffix('.weight')}." in f".{weight}" or (
        "." in target and f".{target.rpartition('.')[0]}." in f".{weight}"
    )


def _quantised(learner: Learner) -> Effect:
    """Linear layers that are held in four bits; those of adapters themselves are not meant."""
    sizes = quantised.sizes(learner.causal)
    wanted, missing = [], []
    for name, part in layers.linears(learner.causal).items():
        if ".lora_" in name:
            continue
        wanted.append(name)
        if id(part.weight) not in sizes or part.weight.element_size() != 1:
            missing.append(name)
    return _effect("quantised", "model.method", "qlora", places=wanted, missing=missing, how="nf4")


def _regularising(made: Made, seen: Observed, inputs: Inputs) -> Iterator[Effect]:
    """Noise and dropout, which are there in training alone."""
    causal, alpha = made.learner.causal, made.config.model.neftune_alpha
    if alpha:
        width = causal.get_input_embeddings().weight.shape[1]
        limit = alpha / (inputs.input_ids.shape[1] * width) ** 0.5
        # A uniform distribution comes near its end among so many numbers.
        yield Effect(
            name="noise",
            setting="model.neftune_alpha",
            asked=f"{alpha:g}",
            seen=int(limit / 2 < seen.noise <= limit * 1.01),
            of=1,
            how=f"{seen.noise:.2g}",
        )
    chances = {
        name: part.p
        for name, part in causal.named_modules()
        if isinstance(part, nn.Dropout) and part.p > 0
    }
    if chances or made.config.lora.dropout:
        idle = [name for name in chances if not seen.dropped.get(name, 0.0) > 0]
        shares = [seen.dropped[name] for name in chances if name in seen.dropped]
        yield _effect(
            "dropout",
            "lora.dropout",
            f"{made.config.lora.dropout or max(chances.values()):g}",
            places=chances,
            missing=idle,
            how=f"{sum(shares) / len(shares):.1%}" if shares else "",
        )


def _tokens(made: Made, trial: Trial, inputs: Inputs) -> Iterator[Effect]:
    """The rows of added tokens that this batch holds learn."""
    there = {token.id: token.text for token in trial.new_tokens}
    held = [token for token in there if bool((inputs.input_ids == token).any())]
    if not there or not held:
        return
    named = made.learner.learning()
    table = {n: w for n, w in named.items() if layers.kind(n) == "embeddings"}
    moved = {token for weight in table.values() for token in _moved(weight, sorted(there), held)}
    missing = [there[token] for token in held if token not in moved]
    yield _effect(
        "tokens", "added tokens", str(len(there)), places=held, missing=missing, how="gradient"
    )


def _moved(weight: nn.Parameter, known: Sequence[int], held: Sequence[int]) -> list[int]:
    """Which of the tokens have a gradient; a weight has rows of the known tokens, or of all."""
    if weight.grad is None:
        return []
    rows = weight.grad.abs().sum(dim=-1)
    places = {token: token if len(rows) > max(known) else known.index(token) for token in held}
    return [token for token, place in places.items() if float(rows[place]) > 0]


def _frozen(learner: Learner) -> Effect:
    """Weights that do not learn have no gradient, so that no optimiser can move them."""
    learning = {id(weight) for weight in learner.learning().values()}
    frozen = {n: w for n, w in learner.causal.named_parameters() if id(w) not in learning}
    touched = [name for name, weight in frozen.items() if weight.grad is not None]
    numbers = sum(weight.numel() for weight in learner.learning().values())
    return Effect(
        name="frozen",
        setting="model.method",
        asked="",
        seen=len(frozen) - len(touched) if frozen else 1,
        of=len(frozen) or 1,
        how=f"{numbers:,}",
        missing=tuple(touched[:NAMED]),
    )


def _learning(learner: Learner, inputs: Inputs) -> Effect:
    """Every weight that learns has a finite gradient that is not zero, save where it must be."""
    named = learner.learning()
    missing = [n for n, w in named.items() if not _moves(w) and not _may_rest(n, w, named, inputs)]
    return _effect("learning", "model.method", "", places=named, missing=missing, how="gradient")


def _may_rest(name: str, weight: Tensor, named: dict[str, nn.Parameter], inputs: Inputs) -> bool:
    """Whether a zero gradient is right: an adapter behind one of zeros, an expert not called, a
    token that is not in the batch."""
    if weight.grad is None or not bool(weight.grad.isfinite().all()):
        return False
    if ".lora_A." in name or ".lora_embedding_A." in name:
        other = named.get(name.replace("_A.", "_B."))
        return other is not None and not bool(other.any())
    return layers.kind(name) in ("experts", "router") or "trainable_tokens_delta" in name


def _evaluation(learner: Learner, quiet: Observed) -> Effect:
    """Nothing random is left in evaluation."""
    awake = [name for name, share in quiet.dropped.items() if share > 0]
    awake += ["attention"] if quiet.attention_dropout else []
    awake += ["embeddings"] if quiet.noise else []
    places = [*quiet.dropped, "attention", "embeddings"]
    return _effect("evaluation", "dropout", "", places=places, missing=awake)


def _moves(weight: Tensor) -> bool:
    """Whether a weight has a finite gradient that is not zero."""
    gradient = weight.grad
    return gradient is not None and bool(gradient.isfinite().all()) and bool(gradient.any())


def _effect(
    name: Name,
    setting: str,
    asked: str,
    *,
    places: Any,
    missing: Sequence[str],
    how: str = "",
) -> Effect:
    return Effect(
        name=name,
        setting=setting,
        asked=asked,
        seen=len(places) - len(missing),
        of=len(places),
        how=how,
        missing=tuple(missing[:NAMED]),
    )
