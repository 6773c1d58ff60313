"""How like a reference a text is, by the measures that papers report.

Chinese is cut into words by jieba; any other language by the rules of WMT's mteval-v13a.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Any

from glmprep.errors import UsageError

LIBRARIES = ("sacrebleu", "rouge_score", "jieba")
HAN = ("chinese", "mixed")
"""Languages (see `glmprep.languages`) that are cut by jieba."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """How like their references the answers of a language are, from 0 to 100.

    ROUGE-L is the mean F1 of the longest common subsequence of words (Lin 2004); BLEU (Papineni et
    al. 2002) and chrF (Popović 2015) are those of all answers together.
    """

    language: str
    answers: int
    rouge_l: float
    bleu: float
    chrf: float


def require() -> None:
    """Raise UsageError where the libraries that compare texts are not installed."""
    missing = [name for name in LIBRARIES if find_spec(name) is None]
    if missing:
        raise UsageError(
            f"comparing answers needs {', '.join(missing)}: "
            "pip install 'glm-finetune-suite[eval]', or leave out --data"
        )


def compare(language: str, pairs: Sequence[tuple[str, str]]) -> Scores:
    """The scores of answers, each beside its reference."""
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics import BLEU, CHRF

    rouge = RougeScorer(["rougeL"], tokenizer=_Words(language))
    said, wanted = map(list, zip(*pairs, strict=True))
    cut, cut_wanted = (
        [" ".join(words(text, language)) for text in each] for each in (said, wanted)
    )
    return Scores(
        language=language,
        answers=len(pairs),
        rouge_l=100
        * mean(
            rouge.score(reference, text)["rougeL"].fmeasure
            for text, reference in zip(said, wanted, strict=True)
        ),
        bleu=BLEU(tokenize="none", force=True).corpus_score(cut, [cut_wanted]).score,
        chrf=CHRF().corpus_score(said, [wanted]).score,
    )


def words(text: str, language: str) -> list[str]:
    """The words of a text, in lower case."""
    if language in HAN:
        return [word for word in _jieba().lcut(text.lower()) if word.strip()]
    from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

    cut: list[str] = Tokenizer13a()(text.lower()).split()
    return cut


class _Words:
    """What rouge-score asks for words."""

    def __init__(self, language: str) -> None:
        self._language = language

    def tokenize(self, text: str) -> list[str]:
        """The words of a text."""
        return words(text, self._language)


@cache
def _jieba() -> Any:
    """jieba with its dictionary; its cache, which it would trust wherever it lies, is not kept."""
    import jieba

    jieba.setLogLevel(logging.WARNING)
    cutter = jieba.Tokenizer()
    with TemporaryDirectory() as folder:
        cutter.tmp_dir = folder
        cutter.initialize()
    return cutter
