"""TRL's SFTTrainer: the first tokens of a row, and by default all of them trained.

huggingface/trl, trl/trainer/sft_trainer.py (`_prepare_dataset`) and sft_config.py, version 1.9.0
at commit f2cd5771 of 2026-07-24; `max_length` is 1,024 and `truncation_mode` "keep_start".
"""

from __future__ import annotations

import numpy as np

from glmprep.peers.fate import IGNORED, Kept, Labelled, keep_whole, label
from glmprep.peers.rows import Rows, spans


def keep(rows: Rows, length: int) -> Kept:
    """The first tokens; a row in which none of these is trained is left out."""
    present = rows.place < length
    trains = np.zeros(len(rows), np.bool_)
    trains[rows.row[present & rows.trained]] = True
    return keep_whole(rows, present & trains[rows.row], ~trains)


def label_all(rows: Rows, length: int) -> Labelled:
    """The default on `messages`: every token has a label, and no stop is put behind the last."""
    return label(rows, rows.body & (rows.place < length), rows.tokens.ids)


def label_answers(rows: Rows, length: int) -> Labelled:
    """`assistant_only_loss`, with the assistant's text marked in the template: text, no stops.

    TRL has no such template for GLM-4-9B-chat and asks for one. A row without labels is left out.
    """
    begin = (rows.tokens.start + rows.opens)[rows.spoken]
    said = spans(begin, rows.tokens.end[rows.spoken] - begin, len(rows.row))
    present = rows.body & (rows.place < length)
    trained = present & said
    trains = np.zeros(len(rows), np.bool_)
    trains[rows.row[trained]] = True
    return label(rows, present, np.where(trained, rows.tokens.ids, IGNORED), refused=~trains)
