"""The differences between what a trainer trains and what this suite trains, by name."""

from __future__ import annotations

import numpy as np

from glmprep.peers.fate import IGNORED
from glmprep.peers.overlay import Overlay
from glmprep.peers.rows import Bool, Int32, Int64, Rows

DIFFERENCES = (
    "row_left_out",
    "turn_vanished",
    "answer_untrained",
    "answer_cut",
    "stop_after_cut",
    "first_unlabelled",
    "stop_missing",
    "other_stop",
    "prompt_cut",
    "other_words",
    "others_trained",
)
"""Names of differences: the first is of rows, the last of tokens, the others of answers."""


def count_differences(rows: Rows, overlay: Overlay) -> dict[str, Int64]:
    """How often each row shows each difference: an array over the rows for each name."""
    answers, ids = rows.answers, rows.tokens.ids
    refused = overlay.refused[answers.row]
    there = _within(overlay.present, answers.begin, answers.end)
    said = _within(overlay.labelled & (overlay.labels == ids), answers.begin, answers.end)
    alive = said > 0
    whole = overlay.present[answers.end - 1]
    stops = _stop_labels(rows, overlay)
    has_stop = answers.stop >= 0
    wanted = ids[answers.stop]
    missing = _within(~overlay.present, answers.prompt, answers.begin) > 0
    marks = {
        "turn_vanished": ~refused & (there == 0),
        "answer_untrained": (there > 0) & ~alive,
        "answer_cut": alive & ~whole,
        "stop_after_cut": alive & ~whole & (stops != IGNORED),
        "first_unlabelled": alive & ~overlay.labelled[answers.begin],
        "stop_missing": alive & whole & has_stop & (stops == IGNORED),
        "other_stop": alive & whole & has_stop & (stops != IGNORED) & (stops != wanted),
        "prompt_cut": alive & missing,
        "other_words": alive & (_within(overlay.reworded, answers.prompt, answers.end) > 0),
    }
    size = len(rows)
    extra = overlay.labelled & ~rows.trained
    return {
        "row_left_out": overlay.refused.astype(np.int64),
        **{n: np.bincount(answers.row[mark], minlength=size) for n, mark in marks.items()},
        "others_trained": np.bincount(rows.row[extra], minlength=size),
    }


def _stop_labels(rows: Rows, overlay: Overlay) -> Int32:
    """For each answer, the label at the token after its last one that is there."""
    answers, offsets = rows.answers, rows.tokens.offsets
    row_end = offsets[answers.row + 1]
    follows = np.minimum(answers.end, row_end - 1)
    inside = (answers.end < row_end) & overlay.present[follows] & overlay.present[answers.end - 1]
    last = overlay.last[answers.row]
    at_end = (answers.begin <= last) & (last < answers.end)
    tail = np.where(at_end, overlay.tail_label[answers.row], IGNORED)
    return np.where(inside, overlay.labels[follows], tail).astype(np.int32)


def _within(marks: Bool, begin: Int64, end: Int64) -> Int64:
    """How many marks are in each range."""
    sums = np.concatenate(([0], np.cumsum(marks)))
    return np.asarray(sums[end] - sums[begin])
