from __future__ import annotations

import pytest
from glmprep.errors import UsageError
from glmtrain.sources import Source, parse, quotas


def test_a_weight_stands_behind_the_last_colon():
    one, other = parse(["a:b/shards:0.3", "C:2"])
    assert (str(one.folder), one.weight) == ("a:b/shards", 0.3)
    assert (str(other.folder), other.weight) == ("C", 2.0)


def test_a_name_that_only_looks_like_a_weight_is_a_name():
    assert parse(["data:new/shards"])[0].weight is None


@pytest.mark.parametrize(
    ("shards", "replay", "reason"),
    [
        ([], [], "pass --shards DIR"),
        (["a:1", "b"], [], "give all folders a weight"),
        (["a:0"], [], "a weight is above 0"),
        (["a:nan"], [], "a weight is above 0"),
        (["a"], ["b"], "say what share"),
        (["a"], ["b:0.6", "c:0.5"], "below 1 together"),
        (["a"], ["b:-1"], "above 0"),
    ],
)
def test_folders_that_say_too_little_or_too_much_are_refused(shards, replay, reason):
    with pytest.raises(UsageError, match=reason):
        parse(shards, replay)


def test_rows_follow_from_the_weights_and_the_tokens_a_row_holds():
    sources = parse(["a:1", "b:3"], ["c:0.5"])
    # 400 tokens are to be learned: 100 of a (10 a row), 300 of b (30 a row); replay doubles them.
    assert quotas(sources, rows=[10, 10, 4], tokens=[100, 300, 80]) == [10, 10, 20]


def test_a_folder_of_little_weight_has_a_row_at_least():
    sources = [Source(folder=f, weight=w) for f, w in zip("ab", (1e-9, 1.0), strict=True)]
    assert quotas(sources, rows=[5, 5], tokens=[50, 50]) == [1, 10]
