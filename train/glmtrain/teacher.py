"""The model that a student learns from: loaded, frozen, and sure to have the same vocabulary."""

from __future__ import annotations

from pathlib import Path

from glmprep.errors import UsageError
from glmprep.tokenizer import EMBEDDED, Tokenizer

from glmtrain import output, trained, vocabulary
from glmtrain.data import TrainingData
from glmtrain.devices import SLICING, Place
from glmtrain.learner import Learner
from glmtrain.loss import Objective
from glmtrain.model import CausalModel, head_weight
from glmtrain.precision import Precision
from glmtrain.settings import Config
from glmtrain.student import Student
from glmtrain.trained import Trained


def taught(
    learner: Learner, config: Config, data: TrainingData, precision: Precision, place: Place
) -> Learner:
    """The learner as a student of `distill.teacher`; as it is where none is named.

    Each process keeps the whole teacher on its device, in the format that the run computes in.
    Raises UsageError where it may not or cannot be compared, InputError where it cannot be loaded.
    """
    path = config.distill.teacher
    if path is None:
        return learner
    if place.strategy in SLICING:
        raise UsageError(
            f"distill.teacher: {place.strategy} slices weights, and a teacher stays whole on every "
            "device; take devices.strategy = ddp, with --method lora or qlora if memory is short"
        )
    run = trained.read(Path(path)) if (Path(path) / output.RECORD).is_file() else None
    base = path if run is None or run.whole else run.config.model.path
    _check_tokenizer(path, run, config, data)
    causal = trained.load(base, run, precision.name).causal
    for name, each in ((path, causal), (config.model.path, learner.causal)):
        _check_rows(name, each, data)
    causal.to(place.device).requires_grad_(False)
    teacher = Learner(causal, objective=Objective(dtype=precision.dtype))
    return Student(learner, teacher=teacher, chosen=config.distill, seed=config.run.seed)


def _check_tokenizer(path: str, run: Trained | None, config: Config, data: TrainingData) -> None:
    """Raise UsageError where the teacher's tokens are not those of the shards.

    A model without a tokenizer beside it is taken at its word.
    """
    made = data.manifests[0]
    known, wanted = (None if run is None else run.tokenizer["sha256"]), made.tokenizer["sha256"]
    alone = run is None and vocabulary.at_hand(path) == [EMBEDDED]
    if alone or known == wanted:
        return
    theirs = _tokenizer(path, run)
    ours = vocabulary.find(vocabulary.at_hand(config.model.path), wanted, made.added_ids)
    if theirs is None or ours is None or not _same_tokens(theirs, ours):
        raise UsageError(
            f"{path}: its tokenizer is not the one that the shards were made with "
            f"({made.tokenizer['name']!r}), so its distributions are over other tokens; take a "
            f"teacher of the same family, or make the shards with glmprep bucket --tokenizer {path}"
            " for a student that has this vocabulary, too"
        )


def _tokenizer(path: str, run: Trained | None) -> Tokenizer | None:
    if run is None:
        return vocabulary.load(vocabulary.at_hand(path)[0], vocabulary.trained_with(path))
    places = vocabulary.at_hand(path, run.config.model.path)
    return vocabulary.find(places, run.tokenizer["sha256"], run.added_tokens)


def _same_tokens(one: Tokenizer, other: Tokenizer) -> bool:
    """Whether every id means the same; the files may differ."""
    if one.fingerprint == other.fingerprint:
        return True
    ids = range(one.vocab_size)
    same_size = one.vocab_size == other.vocab_size
    return same_size and all(one.decode([token]) == other.decode([token]) for token in ids)


def _check_rows(name: str, causal: CausalModel, data: TrainingData) -> None:
    """Raise UsageError for a model that lacks tokens; rows beyond the tokenizer are padding."""
    rows, tokens = head_weight(causal).shape[0], data.manifests[0].vocab_size
    if rows < tokens:
        raise UsageError(
            f"{name}: knows {rows} tokens, but the tokenizer of the shards has {tokens}; student "
            "and teacher must share their vocabulary, so take models of the same family"
        )
