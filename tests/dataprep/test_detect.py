"""`--family auto`: the family that writes as the template in the tokenizer's folder does."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import pytest
from glmprep import families
from glmprep.errors import InputError, UsageError
from glmprep.families import FAMILIES, Thinking
from glmprep.tokenizer import load

from .vocabularies import GLM4, GLM45, write_folder

SHIPPED = {
    "glm4": ("glm4", GLM4),
    "glm4-0414": ("glm4-0414", GLM4),
    "glm-z1": ("glm-z1", GLM4),
    "glm4.6": ("glm4.6", GLM45),
    "glm4.7": ("glm4.7", GLM45),
}


def shipped(name: str) -> str:
    return resources.files("glmprep").joinpath(f"assets/{name}.jinja").read_text("utf-8")


@pytest.mark.parametrize("thinking", ["on", "off", "auto"])
@pytest.mark.parametrize("asset", SHIPPED)
def test_the_template_in_the_folder_decides(asset: str, thinking: Thinking, tmp_path: Path) -> None:
    name, added = SHIPPED[asset]
    tokenizer = load(write_folder(tmp_path, added, shipped(asset)))
    family = families.load("auto", tokenizer, thinking=thinking)
    assert family.name == name
    assert isinstance(family, FAMILIES[name])  # type: ignore[arg-type]
    assert name in families.detect(tokenizer).how


@pytest.mark.parametrize("asset", SHIPPED)
def test_a_version_that_is_written_differently_is_known_by_what_it_writes(
    asset: str, tmp_path: Path
) -> None:
    name, added = SHIPPED[asset]
    source = "{# a copy #}" + shipped(asset).replace("messages", "messages | list", 1)
    tokenizer = load(write_folder(tmp_path, added, source))
    assert families.load("auto", tokenizer).name == name


@pytest.mark.parametrize(
    "value",
    [
        shipped("glm4-0414"),
        [{"name": "tools", "template": "x"}, {"name": "default", "template": shipped("glm4-0414")}],
        {"default": shipped("glm4-0414")},
    ],
)
@pytest.mark.parametrize("file", ["tokenizer_config.json", "chat_template.json"])
def test_the_template_is_found_in_all_its_places(value: object, file: str, tmp_path: Path) -> None:
    path = write_folder(tmp_path, GLM4)
    (tmp_path / file).write_text(json.dumps({"chat_template": value}), encoding="utf-8")
    assert families.load("auto", load(path)).name == "glm4-0414"
    assert families.load("auto", load(f"{path}/tokenizer.json")).name == "glm4-0414"


def test_a_jinja_file_comes_before_the_config(tmp_path: Path) -> None:
    tokenizer = load(write_folder(tmp_path, GLM4, shipped("glm-z1"), chat_template=shipped("glm4")))
    assert families.load("auto", tokenizer).name == "glm-z1"


def test_an_unknown_template_is_taken_as_it_is(tmp_path: Path) -> None:
    source = shipped("glm4").replace("<sop>", "<sop><eop>", 1)
    detected = families.detect(load(write_folder(tmp_path, GLM4, source)))
    assert detected.family.name.startswith("template-")
    assert detected.how == "the template of chat_template.jinja is taken as it is"


def test_an_unknown_template_that_changes_earlier_turns_is_refused(tmp_path: Path) -> None:
    source = shipped("glm4.7").replace("<sop>", "<sop><eop>", 1)
    tokenizer = load(write_folder(tmp_path, GLM45, source))
    with pytest.raises(UsageError, match=r"none of the built-in ones.*changes earlier turns"):
        families.load("auto", tokenizer)


def test_no_template_is_taken_for_glm4s(tmp_path: Path) -> None:
    assert families.load("auto", load(write_folder(tmp_path, GLM4))).name == "glm4"


def test_no_template_beside_a_newer_vocabulary_asks_for_a_family(tmp_path: Path) -> None:
    tokenizer = load(write_folder(tmp_path, GLM45))
    with pytest.raises(UsageError, match="--family"):
        families.load("auto", tokenizer)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_vocabulary_without_a_role_token_is_refused(name: str, tmp_path: Path) -> None:
    tokenizer = load(write_folder(tmp_path, tuple(t for t in GLM45 if t != "<|user|>")))
    with pytest.raises(InputError, match="has no token"):
        families.load(name, tokenizer)


@pytest.mark.parametrize("damaged", ["{", "[]", '"text"', "\x00", ""])
def test_an_unreadable_config_is_said_in_one_line(damaged: str, tmp_path: Path) -> None:
    path = write_folder(tmp_path, GLM4)
    (tmp_path / "tokenizer_config.json").write_text(damaged, encoding="utf-8")
    with pytest.raises(InputError, match=r"tokenizer_config\.json: ") as raised:
        families.load("auto", load(path))
    assert "\n" not in str(raised.value)


def test_a_template_that_is_not_utf8_is_said_in_one_line(tmp_path: Path) -> None:
    path = write_folder(tmp_path, GLM4, "")
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="not UTF-8"):
        families.load("auto", load(path))


def test_real_folders_are_known(assets: Path) -> None:
    assert families.load("auto", load(str(assets / "tokenizer/glm-4-9b-chat"))).name == "glm4"
    pytest.importorskip("sentencepiece", reason="needs the extra 'chatglm3'")
    assert families.load("auto", load(str(assets / "tokenizer/chatglm2-3-6b"))).name == "chatglm3"
