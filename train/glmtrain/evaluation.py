"""All that `glmtrain eval` measures of a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from glmprep.errors import InputError, UsageError
from glmprep.findings import Finding, Rule
from glmprep.tokenizer import Tokenizer

from glmtrain import (
    answers,
    data,
    eval_rules,
    forgetting,
    likeness,
    model,
    probes,
    trained,
)
from glmtrain.answers import Answer, CallScores, Turns
from glmtrain.batches import Batch
from glmtrain.data import TrainingData
from glmtrain.evaluate import Groups, Marks, Sums, drawn, losses
from glmtrain.forgetting import GENERAL, Divergence, Pair
from glmtrain.inference import Asked, Inference, prepare
from glmtrain.learner import Learner
from glmtrain.likeness import Scores
from glmtrain.loss import Objective
from glmtrain.probes import QUESTIONS, Endings, Probe, Probed

NO_BASE = "none"
Progress = Callable[[str], Callable[[int, int], None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be measured, and on what.

    `tokens` labelled tokens of the shards, `count` answers to conversations of `paths`. `base` is
    the model to compare with, None for the one that the run began with.
    """

    shards: Sequence[str] = ()
    paths: Sequence[str] = ()
    general: Sequence[str] = GENERAL
    probes: Path | None = None
    base: str | None = None
    tokens: int = 65536
    tokens_per_batch: int | None = None
    count: int = 20
    turns: Turns = "last"
    seed: int = 42

    def __post_init__(self) -> None:
        if not self.shards and not self.paths:
            raise UsageError("nothing to evaluate on; pass --shards DIR, --data FILE, or both")

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {**asdict(self), "probes": None if self.probes is None else str(self.probes)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """Loss on shards, and the longest conversations (tokens) that count as short and medium."""

    sums: Sums
    edges: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """Generated answers, and how they compare; `left_out` had prompts longer than the window."""

    answers: Sequence[Answer]
    left_out: int
    most: int
    endings: Endings
    scores: Sequence[Scores]
    calls: Sequence[CallScores]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What was measured; None where it was not asked for, or there is no base to compare with."""

    settings: dict[str, Any]
    remarks: Sequence[str]
    loss: Loss | None
    answers: Answers | None
    probed: Sequence[Probed]
    divergence: Divergence | None

    def findings(self) -> list[Finding]:
        """What stands out."""
        where = str(self.settings["adapter"] or self.settings["model"])
        found: list[tuple[Rule[Any], tuple[Any, ...]]] = []
        if self.answers is not None:
            endings = self.answers.endings
            found += [
                (eval_rules.endless_answers, (endings, self.answers.most)),
                (eval_rules.looping_answers, (endings,)),
                (eval_rules.wrong_calls, (self.answers.calls,)),
            ]
        if self.loss is not None:
            found.append((eval_rules.worse_on_long, (self.loss.sums,)))
        if self.divergence is not None:
            found.append((eval_rules.moved_far, (self.divergence,)))
        judged = [(rule, rule(*facts)) for rule, facts in found]
        return [rule.finding(where, **facts) for rule, facts in judged if facts is not None]

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        loss, made = self.loss, self.answers
        return {
            "settings": self.settings,
            "remarks": list(self.remarks),
            "loss": loss and {**loss.sums.as_json(), "gap": loss.sums.gap, "edges": loss.edges},
            "answers": made
            and {
                "endings": asdict(made.endings),
                "scores": [asdict(each) for each in made.scores],
                "calls": [asdict(each) for each in made.calls],
                "left_out": made.left_out,
                "answers": [answer.as_json() for answer in made.answers],
            },
            "probes": [{**asdict(each), "changed": each.changed} for each in self.probed],
            "forgetting": self.divergence and self.divergence.as_json(),
        }


def evaluate(asked: Asked, wanted: Wanted, progress: Progress) -> Evaluation:
    """Measure a model; raises SuiteError (and its kinds) for what does not go together."""
    if wanted.paths:
        likeness.require()
    asking = [Probe(question=text) for text in QUESTIONS]
    if wanted.probes is not None:
        asking = probes.read_probes(wanted.probes)
    shards = data.load(wanted.shards) if wanted.shards else None
    conversations = answers.read(wanted.paths) if wanted.paths else []
    made = prepare(asked)
    speaker, prompter = made.speaker, made.prompter
    pair = _pair(asked, wanted, made)
    loss = None if shards is None else _loss(shards, made, wanted, progress("batches"))
    said = None
    if conversations:
        found = answers.tasks(conversations, prompter.family, prompter.tokenizer, wanted.turns)
        said = _answers(answers.draw(found, wanted.count, wanted.seed), made, progress("answers"))
    moved = None
    if pair is not None:
        texts = forgetting.general(wanted.general, prompter.family, prompter.tokenizer)
        moved = forgetting.divergence(pair, texts)
    return Evaluation(
        settings={**made.settings, **wanted.as_json()},
        remarks=made.remarks,
        loss=loss,
        answers=said,
        probed=probes.ask(pair, speaker, prompter, asking, made.window.max_new_tokens),
        divergence=moved,
    )


def _loss(
    shards: TrainingData, made: Inference, wanted: Wanted, progress: Callable[[int, int], None]
) -> Loss:
    tokenizer, causal = made.prompter.tokenizer, made.speaker.causal
    _require_plain(shards, tokenizer)
    data.check_against_model(
        shards,
        vocabulary=model.head_weight(causal).shape[0],
        positions=getattr(causal.config, "max_position_embeddings", None),
    )
    budget = wanted.tokens_per_batch or shards.tokens_per_batch
    places = drawn(shards, wanted.tokens, tokens_per_batch=budget, seed=wanted.seed)
    learner = Learner(causal, objective=Objective(dtype=made.speaker.precision.dtype))
    batches = _watched([batch for (batch,) in places], progress)
    found = losses(learner, shards, batches, made.speaker.precision)
    if not np.isfinite(found.loss).all():
        row = int(found.row[~np.isfinite(found.loss)][0])
        raise InputError(
            f"the loss of row {row} is not a number; the weights are damaged, "
            "or too large for the number format: try --dtype fp32"
        )
    stops = {stop for manifest in shards.manifests for stop in manifest.stop_ids}
    groups = Groups(shards, Marks.of(stops, tokenizer))
    return Loss(sums=groups.sums(found), edges=groups.edges)


def _watched(batches: Sequence[Batch], progress: Callable[[int, int], None]) -> Iterator[Batch]:
    for done, batch in enumerate(batches):
        progress(done, len(batches))
        yield batch
    progress(len(batches), len(batches))


def _require_plain(shards: TrainingData, tokenizer: Tokenizer) -> None:
    """Raise UsageError for folders with weights, and for ids of another vocabulary."""
    if any(source.weight is not None for source in shards.sources):
        raise UsageError("--shards DIR:WEIGHT: every row counts alike here, so leave out weights")
    made_with = shards.manifests[0].tokenizer
    if made_with["sha256"] != tokenizer.fingerprint:
        raise UsageError(
            f"{shards.sources[0].folder}: made with another tokenizer than the model's, of the "
            f"name {made_with['name']!r}; make shards again: glmprep bucket --tokenizer FOLDER"
        )


def _answers(
    found: Sequence[answers.Task], made: Inference, progress: Callable[[int, int], None]
) -> Answers:
    said = list(answers.generate(found, made.speaker, made.prompter, made.window, progress))
    if not said:
        raise UsageError(
            "--data: no conversation with an answer whose prompt fits in the window; "
            "raise --max-length"
        )
    return Answers(
        answers=said,
        left_out=len(found) - len(said),
        most=made.window.max_new_tokens,
        endings=Endings.of([answer.ending for answer in said]),
        scores=answers.scores(said),
        calls=answers.call_scores(said),
    )


def _pair(asked: Asked, wanted: Wanted, made: Inference) -> Pair | None:
    """The model and its base, None without one; that is loaded only where it is another model."""
    causal, precision = made.speaker.causal, made.speaker.precision
    if wanted.base == NO_BASE:
        return None
    path = wanted.base or _begun_with(asked)
    if path is None:
        adapter = made.adapter
        return (
            None if adapter is None else Pair(causal=causal, precision=precision, adapter=adapter)
        )
    other = model.load(path, precision.dtype).to(precision.device).eval()
    sizes = [model.head_weight(each).shape[0] for each in (causal, other)]
    if sizes[0] != sizes[1]:
        raise UsageError(f"--base {path}: {sizes[1]} tokens, and the model has {sizes[0]}")
    return Pair(causal=causal, precision=precision, other=other)


def _begun_with(asked: Asked) -> str | None:
    """Where the model lies that a run began with, if the run trained all of its weights."""
    run = None if asked.adapter is None else trained.read(asked.adapter)
    return run.config.model.path if run is not None and run.whole else None
