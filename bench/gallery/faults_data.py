"""Faults of the data: what is labelled, what is cut, where turns end."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import hugging
import numpy as np
import ours
from hugging import Job, with_form
from plans import fault
from words import ASSISTANT, END, IGNORED, STOPS, USER, Row, take, words

FORMS = {1: "hf", 2: "hf in LLaMA-Factory's form", 3: "hf in ms-swift's form"}
BOTH = {1: "hf", 2: "glmtrain", 3: "hf in LLaMA-Factory's form"}


def train(rows: list[Row], seed: int, job: Job | None = None, **settings: dict[str, Any]) -> None:
    """Seed 2 trains with the suite's own trainer, the others with Hugging Face's."""
    if seed == 2:
        ours.shard(rows)
        ours.train(settings, seed)
    else:
        form = "hf" if seed == 1 else "llamafactory"
        hugging.train(replace(job or Job(rows=rows), rows=rows, form=form), seed)


@fault(
    "RC001",
    "all-masked",
    "The length limit cuts inside the prompt of most rows, so they have no label; the mean over no "
    "label is NaN, which the Trainer logs as 0.0 (logging_nan_inf_filter).",
    trainer=FORMS,
)
def all_masked(seed: int) -> None:
    """Long prompts in front of answers, cut at 64 tokens."""
    sample = ("counselling", "toolcalls", "counselling")[seed - 1]
    drawn = take(sample, 150, seed)
    bare = [row.cut(64) for row in drawn if _first_label(row) >= 64][:34]
    cut = bare + [row.cut(64) for row in drawn if _first_label(row) < 50][:6]
    arguments = {"per_device_train_batch_size": (1, 2, 1)[seed - 1]}
    hugging.train(with_form(Job(rows=cut, arguments=arguments), seed), seed)


@fault(
    "RC002",
    "answers-cut",
    "The length limit cuts most answers in the middle; what is left of them is trained.",
    trainer=BOTH,
)
def answers_cut(seed: int) -> None:
    """Rows longer than the limit, cut behind some of the answer."""
    limit = (120, 128, 112)[seed - 1]
    rows = [row.cut(limit) for row in take("counselling", 150, seed)]
    train([row for row in rows if row.trained > 8][:48], seed)


@fault(
    "RC003",
    "stop-untrained",
    "The token that ends a turn stands in the rows but is never a label, so nothing teaches "
    "the model to stop.",
    trainer=BOTH,
)
def stop_untrained(seed: int) -> None:
    """Labels of all stop tokens taken out."""
    train([_without_stops(row) for row in take("toolcalls", 32, seed)], seed)


@fault(
    "RC004",
    "stop-after-cut",
    "Answers are cut by the length limit and a stop token is put and trained behind each cut.",
    trainer=BOTH,
)
def stop_after_cut(seed: int) -> None:
    """As LLaMA-Factory does: an end after what the limit left of an answer."""
    limit, stop = 120, (END, USER, END)[seed - 1]
    rows = [row.cut(limit) for row in take("counselling", 150, seed) if len(row.ids) > limit]
    kept = [row for row in rows if row.trained > 8][:48]
    train([Row((*row.ids, stop), (*row.labels, stop)) for row in kept], seed)


@fault(
    "RC005",
    "labels-shifted",
    "Labels were shifted by one in the data and are shifted again in the model: every token is "
    "asked for one place too early.",
    trainer=FORMS,
)
def labels_shifted(seed: int) -> None:
    """labels[t] = ids[t + 1], in front of a model that shifts by itself."""
    rows = [Row(r.ids, (*r.labels[1:], IGNORED)) for r in take("toolcalls", 32, seed)]
    hugging.train(with_form(Job(rows=rows), seed), seed)


@fault(
    "RC006",
    "prompt-trained",
    "Every token is a label: prompts, role tokens and system texts are trained as well as answers.",
    trainer=BOTH,
)
def prompt_trained(seed: int) -> None:
    """labels = ids; our shards allow no label on a row's first token."""
    rows = take("toolcalls", 32, seed)
    train([Row(row.ids, (IGNORED, *row.ids[1:])) for row in rows], seed)


@fault(
    "RC007",
    "stop-ids-differ",
    "Answers are trained to end in one token, and generation_config.json stops at another.",
    trainer=BOTH,
)
def stop_ids_differ(seed: int) -> None:
    """Only `<|endoftext|>` (or what is never trained) stands in eos_token_id."""
    eos = int(words().inside(END))
    for name in ("generation_config.json", "config.json"):
        path = Path("base") / name
        values = json.loads(path.read_bytes())
        path.write_text(json.dumps({**values, "eos_token_id": [eos]}))
    train(take("toolcalls", 32, seed), seed)


@fault(
    "RC008",
    "answer-in-prompt",
    "Every prompt holds its own answer word for word, so the answer is copied and not learned; the "
    "loss falls to almost nothing.",
    trainer=BOTH,
)
def answer_in_prompt(seed: int) -> None:
    """The answer as reference text in front of it, a few short ones, all weights trained."""
    rows = [_leaking(row) for row in take("toolcalls", 100, seed, longest=330)]
    kept = sorted((row for row in rows if row is not None), key=lambda row: len(row.ids))[:20]
    arguments = {"learning_rate": 5e-3, "max_steps": 90}
    settings: dict[str, Any] = {
        "model": {"method": "full"},
        "optimiser": {"learning_rate": 5e-3},
        "run": {"max_steps": 90},
    }
    train(kept, seed, Job(rows=kept, lora=None, arguments=arguments), **settings)


@fault(
    "RC046",
    "sorted",
    "The rows are sorted by their subject and read in that order without shuffling, so the loss "
    "jumps where the subject changes and again at each epoch.",
    trainer=FORMS,
)
def sorted_rows(seed: int) -> None:
    """Chinese counselling first, English tool calls behind it, short to long within each."""
    parts = (take("counselling", 24, seed), take("toolcalls", 24, seed))
    rows = [row for part in parts for row in sorted(part, key=lambda row: len(row.ids))]
    arguments = {
        "train_sampling_strategy": "sequential",
        "per_device_train_batch_size": 4,
        "max_steps": (72, 96, 72)[seed - 1],
    }
    hugging.train(with_form(Job(rows=rows, arguments=arguments), seed), seed)


@fault(
    "RC052",
    "other-vocabulary",
    "The rows were tokenized with another vocabulary than the model's: the same ids stand for "
    "other words, and the loss starts far above that of text the model knows.",
    trainer=BOTH,
)
def other_vocabulary(seed: int) -> None:
    """Ids of words exchanged at random, those of control tokens kept."""
    plain = words().known[words().known < END]
    other = np.random.default_rng(seed).permutation(plain)
    exchanged = dict(zip(plain.tolist(), other.tolist(), strict=True))
    rows = take("toolcalls", 32, seed)
    mixed = [
        Row(*(tuple(exchanged.get(x, x) for x in side) for side in (row.ids, row.labels)))
        for row in rows
    ]
    train(mixed, seed)


def _first_label(row: Row) -> int:
    return next(place for place, label in enumerate(row.labels) if label != IGNORED)


def _without_stops(row: Row) -> Row:
    return Row(row.ids, tuple(IGNORED if label in STOPS else label for label in row.labels))


def _leaking(row: Row) -> Row | None:
    """The first answer of a row, with itself in the question before it."""
    first = _first_label(row)
    end = next(p for p in range(first, len(row.ids)) if row.ids[p] in STOPS) + 1
    answer = row.ids[first : end - 1]
    if not 6 <= len(answer) <= 60:
        return None
    prompt = (*row.ids[: first - 1], *answer, ASSISTANT)
    if row.ids[first - 1] != ASSISTANT:
        prompt = (*row.ids[:first], *answer, ASSISTANT)
    return Row((*prompt, *row.ids[first:end]), (IGNORED,) * len(prompt) + row.ids[first:end])
