from __future__ import annotations

import tomllib

import pytest
from glmprep.errors import InputError, UsageError
from glmtrain.config import as_dict, build, from_file, read_toml, to_toml
from glmtrain.settings import Config


def test_later_layers_override_single_settings():
    config = build([("a", {"lora": {"rank": 4, "dropout": 0.1}}), ("b", {"lora": {"rank": 8}})])
    assert (config.lora.rank, config.lora.dropout) == (8, 0.1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimiser": {"learnig_rate": 1.0}}, "f: .*did you mean learning_rate"),
        ({"optimizer": {}}, r"f: no section \[optimizer\]; did you mean optimiser"),
        ({"lora": {"rank": 0.5}}, "f: lora.rank is of type int, not 0.5"),
        ({"lora": {"rank": True}}, "lora.rank is of type int"),
        ({"run": {"seed": "x"}}, "run.seed is of type int"),
        ({"run": 3}, r"run is a section; write \[run\]"),
        ({"data": {"shards": "a"}}, "data.shards is a list of strings"),
        ({"precision": {"dtype": "bf15"}}, "precision.dtype is one of auto, bf16, fp16, fp32"),
        ({"optimiser": {"learning_rate": 0.0}}, "optimiser.learning_rate > 0"),
        ({"model": {"method": "lra"}}, "model.method is one of lora, qlora, ptuning, full"),
    ],
)
def test_wrong_settings_are_refused_with_their_place(settings, message):
    with pytest.raises(UsageError, match=message):
        build([("f", settings)])


def test_written_settings_are_read_back_to_the_same():
    config = build(
        [
            (
                "f",
                {
                    "data": {"shards": ['a "quoted" 数据\t', "b\\c\x7f"]},
                    "optimiser": {"learning_rate": 1e-05, "epsilon": 1},
                    "model": {"gradient_checkpointing": True},
                },
            )
        ]
    )
    assert build([("again", tomllib.loads(to_toml(config, ["a note"])))]) == config


def test_settings_left_open_are_not_written():
    assert as_dict(Config())["run"]["max_steps"] is None
    assert "max_steps" not in to_toml(Config())


def test_unreadable_files_name_themselves(tmp_path):
    with pytest.raises(InputError, match=r"none\.toml: No such file"):
        read_toml(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"bad\.toml: not TOML"):
        read_toml(tmp_path / "bad.toml")


def recipe(folder, *lines):
    path = folder / "recipe.toml"
    path.write_text("\n".join(('[data]\npaths = ["chats.jsonl"]', "[shards]", *lines)))
    return path


def test_a_recipe_says_where_its_shards_are_and_how_to_train(tmp_path):
    path = recipe(
        tmp_path, "[output]", 'folder = "made"', "[split]", "[train]", 'model.method = "full"'
    )
    made = build([("recipe", from_file(path))])
    assert made.data.shards == (str(tmp_path / "made/shards"),)
    assert made.data.validation == str(tmp_path / "made/validation")
    assert made.model.method == "full"


def test_a_recipe_that_holds_nothing_out_names_no_validation_data(tmp_path):
    made = build([("recipe", from_file(recipe(tmp_path, "[train]", "data.accumulate = 4")))])
    assert (made.data.validation, made.data.accumulate) == (None, 4)


def test_settings_alone_are_no_recipe(tmp_path):
    path = tmp_path / "settings.toml"
    path.write_text('[data]\nshards = ["s"]\n[run]\nseed = 3\n')
    made = build([("file", from_file(path))])
    assert (made.data.shards, made.run.seed) == (("s",), 3)
