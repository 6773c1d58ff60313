from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from glmprep.errors import IncompleteShards, InputError, UsageError
from glmtrain import data


@pytest.fixture
def write(tools, tmp_path):
    """Writes three conversations into a folder, each changed as asked for."""

    def write(name="s", change=lambda ids, mask: (ids, mask), **manifest):
        random = np.random.default_rng(0)
        made = [change(*tools.conversation(random, 2)) for _ in range(3)]
        rows = tools.to_rows([[one] for one in made], [64] * 3)
        return str(tools.write_shards(tmp_path / name, rows, **manifest))

    return write


def test_folders_are_joined_in_order(write):
    loaded = data.load([write("one"), write("two")])
    assert len(loaded.rows) == 6
    assert [shard["first_row"] for shard in loaded.fingerprints()] == [0, 3]


def test_no_folder_is_refused():
    with pytest.raises(UsageError, match="pass --shards DIR"):
        data.load([])


def test_an_unfinished_folder_is_refused(write):
    folder = write()
    (Path(folder) / "manifest.json").unlink()
    with pytest.raises(IncompleteShards, match="run glmprep bucket again"):
        data.load([folder])


def test_rows_that_the_manifest_does_not_promise_are_refused(write):
    folder = write()
    path = Path(folder) / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"][0]["supervised"] += 1
    path.write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="supervised, but its manifest says"):
        data.load([folder])


@pytest.mark.parametrize(
    "other", [{"tokenizer": {"name": "x", "sha256": "1" * 64}}, {"family": "glm-z1"}]
)
def test_shards_of_two_tokenizers_or_templates_are_refused(write, other):
    with pytest.raises(UsageError, match="another tokenizer or template"):
        data.load([write("one"), write("two", **other)])


def test_shards_without_labels_are_refused(write):
    folder = write(change=lambda ids, mask: (ids, [0] * len(mask)))
    with pytest.raises(UsageError, match="no token in it is a training target"):
        data.load([folder])


def test_a_target_that_nothing_predicts_is_refused(write):
    folder = write(change=lambda ids, mask: (ids, [1, *mask[1:]]))
    with pytest.raises(InputError, match="row 0: the first token of a segment"):
        data.load([folder])


def test_a_model_with_too_small_a_vocabulary_or_window_is_refused(write):
    loaded = data.load([write()])
    data.check_against_model(loaded, vocabulary=304, positions=None)
    with pytest.raises(UsageError, match="token id 303, but the model knows 303 tokens"):
        data.check_against_model(loaded, vocabulary=303, positions=None)
    with pytest.raises(UsageError, match="glmprep segment --max-length 8"):
        data.check_against_model(loaded, vocabulary=304, positions=8)


def test_the_token_that_opens_an_answer_is_no_end_of_one(write):
    """302 ends turns and 303 opens answers; between two answers in a row 303 is trained as well."""

    def again(ids, mask):
        return [*ids[:-1], 303, 10, 7, 302], [*mask[:-1], 1, 0, 1, 1]

    loaded = data.load([write(change=again, stop_ids=[302, 303])])
    assert loaded.ends == {302}
    ((answers, stopping),) = loaded.stops()
    assert 0 < stopping < answers
