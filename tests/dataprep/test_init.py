"""`glmprep init`: a recipe whose settings follow from data and machine, with figures measured."""

from __future__ import annotations

import json
import shlex
import sys
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from glmprep import families, glimpse, init, machine, model, read
from glmprep import tokenizer as tokenizers
from glmprep.cli import glmprep
from glmprep.console import run
from glmprep.lengths import covering
from glmprep.machine import Card, Machine
from glmprep.memory import lora_bytes
from glmprep.proposal import RANK, STEP, USABLE, propose, room
from glmprep.recipe import load
from glmprep.shape import GLM4_9B
from glmprep.source import Source
from glmprep.survey import Survey, survey
from glmprep.tokenizer import Tokenizer
from glmprep.written import recipe_toml, toml
from glmreport import Catalogue, render
from hypothesis import given
from hypothesis import strategies as st

GIB = 1 << 30
CPU = Machine(cores=4, memory=16 * GIB)
REPOSITORY = Path(__file__).parents[2]
Command = Callable[..., tuple[int, str, str]]


def with_card(gibibytes: float, *, bf16: bool = True) -> Machine:
    card = Card(name="Card", memory=int(gibibytes * GIB), bf16=bf16)
    return Machine(cores=8, memory=64 * GIB, cards=[card])


def chat(answer: str, user: str = "user", assistant: str = "assistant") -> dict[str, Any]:
    return {"messages": [{"role": user, "content": "q"}, {"role": assistant, "content": answer}]}


def write(path: Path, *rows: Any) -> str:
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return str(path)


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    tokenizer: Tokenizer,
) -> Command:
    """Run glmprep in a folder of its own, on a machine without a card."""
    monkeypatch.setattr(tokenizers, "load", lambda spec="glm4": tokenizer)
    monkeypatch.setattr(machine, "look", lambda: CPU)
    monkeypatch.chdir(tmp_path)

    def ran(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["glmprep", *arguments])
        with pytest.raises(SystemExit) as end:
            run(glmprep)
        out, err = capfd.readouterr()
        assert "Traceback" not in out + err
        return int(end.value.code or 0), out, err

    return ran


def written(folder: Path, name: str = "recipe.toml") -> dict[str, Any]:
    """The recipe, which `glmprep build` reads too."""
    load(folder / name)
    return tomllib.loads((folder / name).read_text("utf-8"))


def surveyed(tokenizer: Tokenizer, *paths: str, **source: Any) -> Survey:
    family = families.load("auto", tokenizer)
    return survey(Source(paths=list(paths), **source), family, tokenizer)


# The recipe


def test_the_recipe_is_toml_and_the_limit_covers_what_was_read(
    command: Command, tmp_path: Path
) -> None:
    write(tmp_path / "chats.jsonl", *(chat("word " * n) for n in range(1, 400)))
    assert command("init", "chats.jsonl")[0] == 0
    recipe = written(tmp_path)
    assert recipe["data"]["paths"] == ["chats.jsonl"]
    assert recipe["shards"]["max_length"] == 512
    assert recipe["shards"]["layout"] == "buckets"
    assert recipe["train"]["model"] == {"path": "tiny", "method": "lora"}
    assert recipe["train"]["precision"] == {"dtype": "fp32"}
    assert "merge" not in recipe


def test_every_setting_has_a_reason_or_stands_beside_one(command: Command, tmp_path: Path) -> None:
    write(tmp_path / "chats.jsonl", chat("hello"))
    command("init", "chats.jsonl")
    lines = (tmp_path / "recipe.toml").read_text("utf-8").splitlines()
    for place, line in enumerate(lines):
        if line.startswith("["):
            assert lines[place - 1].startswith("# ")
    assert any("All 1 rows" in line or "1 rows" in line for line in lines)


def test_the_commands_that_are_printed_can_be_run(command: Command, tmp_path: Path) -> None:
    from glmtrain.cli import glmtrain

    write(tmp_path / "chats.jsonl", chat("hello"))
    _, out, _ = command("init", "chats.jsonl", "-o", "sub/my recipe.toml")
    lines = [line.partition("next")[2].strip() for line in out.splitlines() if "next  " in line]
    dry, build, train = (shlex.split(line) for line in lines)
    assert dry == ["glmprep", "build", "sub/my recipe.toml", "--dry-run"]
    assert build == dry[:-1]
    assert train[train.index("--config") + 1] == "sub/my recipe.toml"
    glmtrain.commands["run"].make_context("run", train[2:])
    assert written(tmp_path, "sub/my recipe.toml")["data"]["paths"] == ["../chats.jsonl"]


def test_a_recipe_is_replaced_only_when_told(command: Command, tmp_path: Path) -> None:
    write(tmp_path / "chats.jsonl", chat("hello"))
    (tmp_path / "recipe.toml").write_text("mine")
    status, _, err = command("init", "chats.jsonl")
    assert (status, (tmp_path / "recipe.toml").read_text()) == (2, "mine")
    assert "--force" in err
    assert command("init", "chats.jsonl", "--force")[0] == 0
    assert written(tmp_path)["data"]["paths"] == ["chats.jsonl"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-",), "a recipe names files"),
        (("absent.jsonl",), "no such file"),
        (("bad.jsonl",), "no row can be trained on"),
        (("bad.jsonl", "--model", "org/name"), "no folder with a config.json"),
    ],
)
def test_bad_input_ends_with_status_2_and_writes_nothing(
    arguments: tuple[str, ...], words: str, command: Command, tmp_path: Path
) -> None:
    write(tmp_path / "bad.jsonl", {"a": 1})
    status, _, err = command("init", *arguments)
    assert status == 2
    assert words in err
    assert not (tmp_path / "recipe.toml").exists()


def test_comments_come_in_chinese_too(command: Command, tmp_path: Path) -> None:
    write(tmp_path / "chats.jsonl", chat("hello"))
    assert command("init", "chats.jsonl", "--lang", "zh")[0] == 0
    assert "没有 GPU" in (tmp_path / "recipe.toml").read_text("utf-8")
    written(tmp_path)


VALUES = st.text() | st.booleans() | st.integers() | st.lists(st.text())


@given(st.dictionaries(st.text(), st.text()) | VALUES)
def test_values_come_back_from_toml_as_they_were(value: Any) -> None:
    assert tomllib.loads(f"a = {toml(value)}")["a"] == value


@pytest.fixture(scope="module")
def meetings(tokenizer: Tokenizer) -> Survey:
    return surveyed(tokenizer, "sample:meetings")


@given(st.text(min_size=1))
def test_a_role_of_any_name_leaves_the_recipe_readable(meetings: Survey, name: str) -> None:
    source = replace(meetings.source, roles={name: "user"})
    found = replace(meetings, source=source, unknown=[name])
    recipe = tomllib.loads(recipe_toml(propose(found, CPU, model.ASSUMED), [], "en"))
    assert recipe["data"]["roles"] == {name: "user"}


# What is found in the data


def test_roles_of_published_data_are_known_and_others_told_by_who_begins(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    smile = write(tmp_path / "a.jsonl", chat("hi", "client", "counselor"))
    found = surveyed(tokenizer, smile)
    assert found.source.roles == {"client": "user", "counselor": "assistant"}
    assert not found.guessed
    odd = write(tmp_path / "b.jsonl", chat("hi", "alpha", "beta"), chat("ho", "alpha", "beta"))
    found = surveyed(tokenizer, odd)
    assert found.source.roles == {"alpha": "user", "beta": "assistant"}
    assert found.guessed == {"alpha", "beta"}


def test_roles_that_cannot_be_told_are_named_not_guessed(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    row = chat("hi")
    row["messages"].append({"role": "narrator", "content": "meanwhile"})
    found = surveyed(tokenizer, write(tmp_path / "a.jsonl", row, chat("sound")))
    assert found.unknown == ["narrator"]
    assert found.source.roles == {}
    why = propose(found, CPU, model.ASSUMED).of("data")[1].why
    assert "narrator" in Catalogue.load("en").say(why)


def test_what_a_person_says_of_roles_stays(tokenizer: Tokenizer, tmp_path: Path) -> None:
    data = write(tmp_path / "a.jsonl", chat("hi", "client", "counselor"))
    roles = {"client": "assistant", "counselor": "user"}
    with pytest.raises(Exception, match="no row can be trained on"):
        surveyed(tokenizer, data, roles=roles)


def test_repair_and_the_chosen_side_are_on_where_they_help(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    double = chat("hi")
    double["messages"].insert(0, {"role": "user", "content": "first"})
    pair = {"prompt": "q", "chosen": "good", "rejected": "bad"}
    sound = surveyed(tokenizer, write(tmp_path / "a.jsonl", chat("hi")))
    found = surveyed(tokenizer, write(tmp_path / "b.jsonl", double, pair))
    assert (sound.source.repair, sound.source.take) == (False, None)
    assert (found.source.repair, found.source.take) == (True, "chosen")
    assert (found.mended, found.preferred) == (1, 1)


def test_a_large_file_is_looked_at_all_over(tmp_path: Path) -> None:
    path = tmp_path / "large.jsonl"
    rows = 40_000
    write(path, *({"n": n, "text": "x" * 80} for n in range(rows)))
    seen = glimpse.glimpse(read.files([str(path)]))
    numbers = [row.value["n"] for row in seen.rows]
    assert len(numbers) == len(set(numbers)) == pytest.approx(glimpse.ROWS, abs=glimpse.PLACES)
    assert numbers == sorted(numbers)
    assert numbers[0] == 0
    assert max(numbers) > rows * 0.9
    assert not seen.whole
    assert seen.total == pytest.approx(rows, rel=0.02)


def test_files_of_other_kinds_tell_how_many_rows_they_have(tmp_path: Path) -> None:
    rows = [{"n": n} for n in range(glimpse.ROWS + 5)]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    seen = glimpse.glimpse(read.files([str(tmp_path / "a.json")]))
    assert (len(seen.rows), seen.total, seen.whole) == (glimpse.ROWS, len(rows), False)
    seen = glimpse.glimpse(read.files(["sample:meetings"]))
    assert (len(seen.rows), seen.total, seen.whole) == (10, 10, True)


# What follows from model and machine


def test_the_limit_covers_the_data_unless_window_or_memory_forbid(meetings: Survey) -> None:
    found = meetings
    wanted = covering(found.lengths, 0.99, STEP)
    large = propose(found, with_card(80), model.ASSUMED)
    assert (large.limit.tokens, large.limit.bound) == (wanted, "data")
    small = propose(found, with_card(24), model.ASSUMED)
    assert small.limit.bound == "memory"
    need = lora_bytes(GLM4_9B, small.limit.tokens, RANK)
    more = lora_bytes(GLM4_9B, small.limit.tokens + STEP, RANK)
    assert need <= 24 * GIB * USABLE < more
    window = propose(found, with_card(80), replace(model.ASSUMED, window=8192))
    assert (window.limit.tokens, window.limit.bound) == (8192, "window")


@pytest.mark.parametrize(
    ("seen", "precision", "layout", "room_for_it"),
    [
        (CPU, "fp32", "buckets", False),
        (with_card(15, bf16=False), "fp16", "packed", False),
        (with_card(24), "bf16", "packed", True),
    ],
)
def test_number_format_and_layout_follow_the_hardware(
    meetings: Survey, seen: Machine, precision: str, layout: str, room_for_it: bool
) -> None:
    made = propose(meetings, seen, model.ASSUMED)
    assert made.value("train", "precision.dtype") == precision
    assert made.value("shards", "layout") == layout
    assert bool(made.limit.room) is room_for_it
    budget, limit = made.value("shards", "tokens_per_batch"), made.limit.tokens
    assert isinstance(budget, int)
    assert budget % limit == 0
    assert not room_for_it or budget <= (made.limit.room or 0)


def test_a_batch_of_several_rows_still_fits(tokenizer: Tokenizer) -> None:
    made = propose(surveyed(tokenizer, "sample:toolcalls"), with_card(80), model.ASSUMED)
    budget = made.value("shards", "tokens_per_batch")
    assert isinstance(budget, int)
    assert budget > made.limit.tokens
    assert lora_bytes(GLM4_9B, budget, RANK) <= 80 * GIB * USABLE


def test_room_is_zero_where_the_weights_alone_do_not_fit() -> None:
    assert room(GLM4_9B, 2 * GLM4_9B.parameters, 2) == 0
    assert room(None, 80 * GIB, 2) is None


def test_splitting_is_left_out_where_all_was_read_and_all_fits(meetings: Survey) -> None:
    found = meetings
    assert all(c.off for c in propose(found, with_card(80), model.ASSUMED).of("segment"))
    assert not any(c.off for c in propose(found, with_card(24), model.ASSUMED).of("segment"))


@pytest.mark.parametrize(
    "config",
    [
        {
            "hidden_size": 4096,
            "num_hidden_layers": 40,
            "num_attention_heads": 32,
            "num_key_value_heads": 2,
            "head_dim": 128,
            "intermediate_size": 13696,
            "vocab_size": 151552,
            "max_position_embeddings": 131072,
        },
        {
            "hidden_size": 4096,
            "num_layers": 40,
            "num_attention_heads": 32,
            "multi_query_group_num": 2,
            "kv_channels": 128,
            "ffn_hidden_size": 13696,
            "padded_vocab_size": 151552,
            "seq_length": 131072,
        },
    ],
    ids=["transformers", "first"],
)
def test_a_shape_is_read_from_either_kind_of_config(config: dict[str, int], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    made = model.read(str(tmp_path))
    assert made.shape is not None
    assert made.shape.parameters == GLM4_9B.parameters
    assert made.shape.kv == GLM4_9B.kv
    assert (made.window, made.tokenizer) == (131_072, "glm4")


def test_a_mixture_of_experts_is_not_reckoned(tokenizer: Tokenizer, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"n_routed_experts": 128, "seq_length": 4096}')
    made = propose(
        surveyed(tokenizer, "sample:toolcalls"), with_card(80), model.read(str(tmp_path))
    )
    assert made.limit.room is None
    assert made.limit.tokens <= 4096


def test_the_tiny_model_has_the_shape_that_the_trainer_gives_it() -> None:
    config = json.loads((REPOSITORY / "train/glmtrain/assets/tiny.json").read_text())
    shape = model.SMALL.shape
    assert shape is not None
    assert shape.hidden == config["hidden_size"]
    assert shape.layers == config["num_hidden_layers"]
    assert shape.kv == config["num_key_value_heads"] * config["head_dim"]
    assert shape.feed_forward == config["intermediate_size"]
    assert model.SMALL.window == config["max_position_embeddings"]


# The machine


def test_cards_are_read_from_nvidia_smi_where_the_library_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    command = tmp_path / "nvidia-smi"
    lines = "NVIDIA A10, 23028, 8.6\nTesla T4, 15360, 7.5\nbroken\n"
    command.write_text(f"#!/bin/sh\nprintf '{lines}'\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setitem(sys.modules, "pynvml", None)
    seen = machine.look()
    assert [(card.name, card.bf16) for card in seen.cards] == [
        ("NVIDIA A10", True),
        ("Tesla T4", False),
    ]
    assert seen.cards[0].memory == 23028 << 20


def test_a_machine_without_cards_has_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "pynvml", None)
    seen = machine.look()
    assert seen.cards == []
    assert seen.cores >= 1
    assert seen.memory > 0


# The page


@pytest.mark.parametrize("seen", [CPU, with_card(24), with_card(15, bf16=False)])
def test_the_page_and_the_comments_can_be_read_in_both_languages(
    tokenizer: Tokenizer, seen: Machine, tmp_path: Path
) -> None:
    from glmprep.views.init import page

    found = surveyed(tokenizer, "sample:toolcalls")
    made = propose(found, seen, model.ASSUMED)
    result = init.Result(survey=found, machine=seen, model=model.ASSUMED, proposal=made)
    shown = page(result, tmp_path / "r.toml", "glmprep init sample:toolcalls", ["sample:toolcalls"])
    text = render(shown)
    for language in ("en", "zh"):
        assert Catalogue.load(language).say(shown.verdict.headline) in text
        tomllib.loads(recipe_toml(made, [], language))
