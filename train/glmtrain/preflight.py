"""What is tried before the first step: is the run worth starting?

The loss must be the model's own, and segments packed into one row must not see each other:
transformers keeps them apart by position ids alone, and drops that silently when an attention mask
or a cache is passed, so it is measured rather than trusted. Then the batch that needs the most
memory goes forward and backward once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from glmprep.findings import Finding, Rule, Severity
from torch import Tensor

from glmtrain import rules
from glmtrain.batches import Inputs, collate
from glmtrain.course import Course
from glmtrain.data import TrainingData
from glmtrain.devices import Place
from glmtrain.loss import IGNORED
from glmtrain.measuring import Call, measuring
from glmtrain.outofmemory import is_out_of_memory
from glmtrain.precision import Precision
from glmtrain.strategies import Strategy

TOKENS = 24


def check(
    place: Place, strategy: Strategy, data: TrainingData, course: Course, precision: Precision
) -> list[Finding]:
    """What speaks against the run; a joint act of all processes."""
    found = look(strategy, data, precision)
    if not errors(found):
        found += _of_memory(place, strategy, data, course)
    return found


def look(strategy: Strategy, data: TrainingData, precision: Precision) -> list[Finding]:
    """What of it shows without a batch; a joint act of all processes."""
    found = [*_of_settings(data, strategy, precision)]
    tokens = torch.from_numpy(data.rows.input_ids[:TOKENS].astype(np.int64)).to(precision.device)
    with measuring(strategy) as call:
        found += _of_loss(call, tokens, type(strategy.learner.causal).__name__)
        if data.packed.any():
            found += _of_packing(call, tokens)
    return found


def errors(findings: list[Finding]) -> list[Finding]:
    """Those that keep a run from starting."""
    return [finding for finding in findings if finding.severity is Severity.ERROR]


def _of_settings(data: TrainingData, strategy: Strategy, precision: Precision) -> Iterator[Finding]:
    accelerator = precision.device.type != "cpu"
    yield from _found(
        rules.format_not_usable, "precision.dtype", precision.check, accelerator=accelerator
    )
    for source, (answers, stopping) in zip(data.sources, data.stops(), strict=True):
        yield from _found(rules.stop_not_trained, str(source.folder), answers, stopping=stopping)
    told = getattr(strategy.learner.causal.generation_config, "eos_token_id", None)
    told = [told] if isinstance(told, int) else told or []
    yield from _found(rules.model_stops_elsewhere, "generation_config.json", told, data.ends)


def _of_loss(call: Call, tokens: Tensor, architecture: str) -> Iterator[Finding]:
    inputs = _row(tokens, torch.arange(len(tokens), device=tokens.device))
    ours, own = float(call(inputs, "each").mean()), float(call(inputs, "own").mean())
    yield from _found(rules.loss_not_the_models, "model", architecture, own=own, ours=ours)


def _of_packing(call: Call, tokens: Tensor) -> Iterator[Finding]:
    """The second half of a row, packed, must be as it is alone, and not as it is in one text."""
    half = len(tokens) // 2
    rest = len(tokens) - half
    places = torch.arange(len(tokens), device=tokens.device)
    restarting = torch.cat((places[:half], places[:rest]))
    alone = call(_row(tokens[half:], places[:rest]), "each")
    packed = call(_row(tokens, restarting), "each")[1 - rest :]
    joined = call(_row(tokens, places), "each")[1 - rest :]
    leak, most = float((packed - alone).norm()), float((joined - alone).norm())
    yield from _found(rules.packing_leaks, "model", leak=leak, most=most)


def _of_memory(
    place: Place, strategy: Strategy, data: TrainingData, course: Course
) -> Iterator[Finding]:
    batch = course.longest()
    inputs = collate(data.rows, batch, data.pad_id, place.device)
    rows, length = inputs.input_ids.shape
    try:
        with strategy.accumulating(last=True):
            strategy.backward(strategy.model(inputs) / inputs.supervised)
        fits = True
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        fits = False
    strategy.clip_and_step(0.0, sound=False)  # takes no step, and forgets the gradients
    fits = not place.any(not fits)
    yield from _found(rules.longest_batch_too_large, "data", fits=fits, rows=rows, length=length)


def _found(each: Rule[Any], where: str, *facts: Any, **more: Any) -> Iterator[Finding]:
    data = each(*facts, **more)
    if data is not None:
        yield each.finding(where, **data)


def _row(tokens: Tensor, positions: Tensor) -> Inputs:
    return Inputs(
        input_ids=tokens[None],
        position_ids=positions[None],
        attention_mask=None,
        labels=torch.cat((torch.full_like(tokens[:1], IGNORED), tokens[1:]))[None],
        tokens=len(tokens),
        supervised=len(tokens) - 1,
    )
