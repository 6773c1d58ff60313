"""Whose rules chat data is labelled by, as a trainer's configuration says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from glmprep.errors import UsageError

from glmdiag import configs
from glmdiag.configs import TrainerConfig
from glmdiag.labels.simulated import OURS


def by_config(paths: Sequence[Path], max_length: int | None) -> tuple[str, int | None]:
    """The trainer to follow and its limit; a limit that is given holds.

    Raises UsageError for a trainer whose labels are not known, and errors of `configs.read`.
    """
    config = configs.read(paths)
    return _trainer(config), max_length or _limit(config)


def _trainer(config: TrainerConfig) -> str:
    if config.trainer == "official":
        return "official_combine" if config.last_answer_only else "official"
    if config.trainer == "transformers":
        return "trl" if config.train_on_prompt is not False else "trl_answers"
    known = {"glmtrain": OURS, "llamafactory": "llamafactory"}
    if config.trainer not in known:
        raise UsageError(
            f"--config: how {config.trainer} labels data is not known; tokenize with it and give "
            "the dataset that it wrote, or choose with --as"
        )
    return known[config.trainer]


def _limit(config: TrainerConfig) -> int | None:
    if config.max_length is not None:
        return config.max_length
    if config.max_input_length is not None and config.max_output_length is not None:
        return config.max_input_length + config.max_output_length
    return None
