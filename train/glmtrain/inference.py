"""What answers are made with: model, tokenizer, template and context, as a run was trained.

Whatever is not asked for is as in the run; what is asked for and differs from it is named.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glmprep import families
from glmprep import tokenizer as tokenizers
from glmprep.contexts import loading as contexts
from glmprep.contexts.before import Before
from glmprep.cutting import plain
from glmprep.errors import UsageError
from glmprep.families import Family
from glmprep.semantics import loading as semantics
from glmprep.sized import require_room
from glmprep.tokenizer import EMBEDDED, Tokenizer

from glmtrain import model, preparation, settings, trained, vocabulary
from glmtrain.conversation import Window
from glmtrain.generate import Speaker
from glmtrain.model import TINY, CausalModel
from glmtrain.preparation import Preparation
from glmtrain.prompt import Prompter
from glmtrain.trained import Trained

ANSWER_SHARE, MAX_NEW_TOKENS = 4, 512
"""An answer takes such a part of the window at most, or so many tokens, where nothing is asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What was asked for: None is left to the run, or to a default where there is none.

    `prepared` holds options by name (see `preparation.wanted`).
    """

    model: str | None = None
    adapter: Path | None = None
    tokenizer: str | None = None
    template: Path | None = None
    max_new_tokens: int | None = None
    dtype: settings.DType = "auto"
    prepared: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Inference:
    """All that a conversation needs; `remarks` say in a line each what differs from training.

    `adapter` is that of the speaker's model, see `trained.Loaded`.
    """

    speaker: Speaker
    adapter: Any | None
    prompter: Prompter
    before: Before
    window: Window
    settings: Mapping[str, Any]
    remarks: tuple[str, ...]


def prepare(asked: Asked) -> Inference:
    """Load everything; raises SuiteError (and its kinds) for what does not go together."""
    run = None if asked.adapter is None else trained.read(asked.adapter)
    path = _path(asked.model, run)
    then = Preparation(cutting=plain()) if run is None else run.prepared
    now = preparation.wanted(then, asked.prepared)
    tokenizer = tokenizer_of(asked.tokenizer, path, run)
    family = _family(asked, now, tokenizer, run)
    cutting = now.cutting
    require_room(cutting.max_length, family)
    most = asked.max_new_tokens
    if most is None:
        most = min(MAX_NEW_TOKENS, cutting.max_length // ANSWER_SHARE)
    window = Window(max_length=cutting.max_length, max_new_tokens=most)
    # An encoder that only chose where the training data was cut is not needed here.
    embedder = semantics.load(cutting.encoder if cutting.recalls else "none")
    before = contexts.load(cutting, family, tokenizer, embedder)
    with model.quiet_libraries():
        loaded = trained.load(path, run, asked.dtype)
    causal, precision = loaded.causal, loaded.precision
    _require_places(causal, tokenizer, window)
    prompter = Prompter(family, tokenizer, thinks=now.thinking != "off")
    remarks = [] if run is None else list(now.differences(then))
    if prompter.thinks and family.reasoning == "optional" and "thinking" not in asked.prepared:
        remarks.append("the model is asked to think; --thinking off asks it not to")
    return Inference(
        speaker=Speaker(causal=causal, precision=precision, vocabulary=tokenizer.vocab_size),
        adapter=loaded.adapter,
        prompter=prompter,
        before=before,
        window=window,
        settings={
            "model": path,
            "adapter": None if run is None else str(run.folder),
            "dtype": precision.name,
            "tokenizer": tokenizers.describe(tokenizer),
            "family": family.name,
            "thinks": prompter.thinks,
            "max_new_tokens": most,
            "cutting": cutting.as_json(),
        },
        remarks=tuple(remarks),
    )


def _path(asked: str | None, run: Trained | None) -> str:
    """Where the model lies."""
    if run is None:
        if asked is None:
            raise UsageError("no model; pass --model tiny, --model PATH or --adapter RUN_DIR")
        return asked
    if not run.whole:
        return asked or run.config.model.path
    if asked is not None:
        raise UsageError(f"{run.folder}: its run trained the whole model, so leave out --model")
    return str(run.folder)


def tokenizer_of(asked: str | None, path: str, run: Trained | None) -> Tokenizer:
    """The tokenizer that was asked for, or the model's own.

    Raises UsageError where it is not that of the run, or where there is none.
    """
    if run is None:
        place = asked or vocabulary.at_hand(path)[0]
        if asked is None and place == EMBEDDED and path != TINY:
            raise UsageError(f"{path}: no tokenizer there; name its folder with --tokenizer PATH")
        return vocabulary.load(place, vocabulary.trained_with(path))
    places = vocabulary.at_hand(path, run.config.model.path) if asked is None else [asked]
    found = vocabulary.find(places, run.tokenizer["sha256"], run.added_tokens)
    if found is not None:
        return found
    raise UsageError(
        f"{run.folder}: its data was made with another tokenizer, of the name "
        f"{run.tokenizer['name']!r}; pass that one as --tokenizer PATH"
    )


def _family(asked: Asked, now: Preparation, tokenizer: Tokenizer, run: Trained | None) -> Family:
    """The template that was asked for, or that of the run."""
    built_in = now.family in families.FAMILIES
    if "family" not in asked.prepared:
        built_in = built_in and asked.template is None
    family = families.load(
        now.family if built_in else "auto",
        tokenizer,
        template=asked.template,
        thinking=now.thinking,
    )
    if run is not None and family.name != run.family and "family" not in asked.prepared:
        raise UsageError(
            f"{run.folder}: its data was made with the template {run.family}, not {family.name}; "
            "pass that one as --template FILE"
        )
    return family


def _require_places(causal: CausalModel, tokenizer: Tokenizer, window: Window) -> None:
    """Raise UsageError where the model has no room for the vocabulary or the window."""
    known = model.head_weight(causal).shape[0]
    if tokenizer.vocab_size > known:
        raise UsageError(
            f"the tokenizer has {tokenizer.vocab_size} tokens, but the model knows {known}; "
            "name the model's own with --tokenizer PATH"
        )
    positions = getattr(causal.config, "max_position_embeddings", None)
    if positions is not None and window.max_length > positions:
        raise UsageError(f"--max-length {window.max_length}: the model reads {positions} tokens")
