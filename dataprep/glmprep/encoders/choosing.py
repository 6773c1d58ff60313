"""Which library encodes: the one asked for, or the one that is quickest for so much text."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from glmprep.encoders import Encoder, Flat, Vocabulary
from glmprep.encoders.fastokens import Fastokens
from glmprep.encoders.growing import ENOUGH, Growing
from glmprep.encoders.memo import Memo
from glmprep.errors import UsageError

ENGINES = ("auto", "tokenizers", "fastokens")


def choose(
    name: str,
    engine: str,
    reference: Callable[[], Vocabulary],
    *,
    small: Callable[[], Encoder] | None = None,
    data: Callable[[], str],
    answers: Callable[[], Flat],
    expected: int,
) -> Encoder:
    """An encoder of the byte-pair vocabulary called `name`, by the engine that is asked for.

    `reference` is the vocabulary by `tokenizers`, `small` one that is there at once, `data` its
    tokenizer.json as `fastokens.plain` gives it, `answers` the reference's ids of the known texts,
    and `expected` the characters to come, as far as that is known. Raises UsageError for an engine
    that cannot take the vocabulary.
    """
    remembered = cache(lambda: Memo(reference()))
    if engine == "tokenizers":
        return remembered()
    growing = Growing(
        small,
        remembered,
        lambda: Fastokens(data()),
        answers,
        expected=expected,
        enough=ENOUGH if engine == "auto" else 0,
    )
    if engine != "auto":
        growing.grow()
        if growing.refused:
            raise UsageError(
                f"{name}: the tokenizer engine {engine} cannot take it: {growing.refused}; "
                "take auto or tokenizers"
            )
    return growing
