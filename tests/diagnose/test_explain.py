from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import click
import pytest
from glmdiag.explain import RULE_MODULES, TEXTS, all_rules, describe
from glmreport import rule_text
from glmreport.text import placeholders

PACKAGES = ("glmprep", "glmtrain", "glmdiag")
RULES = all_rules()
OWN = [rule for rule in RULES if re.match(r"LG|HW|CF|DL1", rule.id)]


def sources() -> list[tuple[str, str]]:
    """All modules of the suite with their text."""
    found = []
    for package in PACKAGES:
        root = Path(find_spec(package).origin).parent
        for path in root.rglob("*.py"):
            name = ".".join([package, *path.relative_to(root).with_suffix("").parts])
            found.append((name, path.read_text("utf-8")))
    return found


def commands() -> dict[str, set[str]]:
    """Every command of the suite with its options."""
    from glmdiag.cli import glmdiag
    from glmprep.cli import glmprep
    from glmtrain.cli import glmtrain

    return {
        f"{group.name} {name}": {option for each in command.params for option in each.opts}
        for group in (glmprep, glmtrain, glmdiag)
        for name, command in group.commands.items()
        if isinstance(command, click.Command)
    }


def test_every_rule_of_the_suite_is_listed():
    decorated = {
        name for name, text in sources() if re.search(r"^@(rule|cause)\(", text, re.MULTILINE)
    }
    assert decorated == set(RULE_MODULES)


@pytest.mark.parametrize("rule", OWN, ids=lambda rule: rule.id)
def test_chinese_texts_want_what_the_english_ones_give(rule):
    chinese = rule_text(rule.id, "zh")
    assert set(chinese) == set(TEXTS)
    for name in TEXTS:
        assert placeholders(chinese[name]) == placeholders(getattr(rule, name)), name


@pytest.mark.parametrize("rule", OWN, ids=lambda rule: rule.id)
def test_a_fix_names_only_commands_and_options_that_exist(rule):
    known = commands()
    options = {option for each in known.values() for option in each}
    text = f"{rule.why} {rule.fix}"
    assert set(re.findall(r"\bglm(?:prep|train|diag) [a-z]+", text)) <= set(known)
    assert set(re.findall(r"--[a-z][a-z-]+", text)) <= options


def test_the_list_is_a_json_list_of_objects(glmdiag):
    status, out, _ = glmdiag("explain", "--list", "--json", "-")
    listed = json.loads(out)
    assert status == 0
    assert [each["id"] for each in listed] == [rule.id for rule in RULES]
    assert all(set(each) == {"id", "severity", *TEXTS} for each in listed)


def test_a_rule_is_explained_in_either_language(glmdiag):
    _, english, _ = glmdiag("explain", "LG003")
    _, chinese, _ = glmdiag("explain", "lg003", "--lang", "zh")
    assert "A NaN loss is shown as 0.0." in english
    assert "NaN 的 loss 被显示成 0.0" in chinese


def test_a_text_that_a_language_lacks_is_given_in_english(monkeypatch):
    from glmdiag import explain

    monkeypatch.setattr(explain, "rule_text", lambda *_: {"title": "标题"})
    described = describe(OWN[0], "zh")
    assert (described["title"], described["fix"]) == ("标题", OWN[0].fix)


def test_all_rules_are_listed_without_torch():
    code = (
        "import sys; sys.modules['torch'] = None; sys.argv[1:] = ['explain', '--list'];"
        "from glmdiag.cli import main; main()"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert [line.split()[0] for line in ended.stdout.splitlines()] == [rule.id for rule in RULES]
    assert ended.stderr == ""


def test_one_rule_can_be_written_to_a_file(glmdiag, tmp_path):
    status, out, _ = glmdiag("explain", "HW001", "--json", tmp_path / "rule.json")
    assert (status, out) == (0, "")
    assert json.loads((tmp_path / "rule.json").read_text())["id"] == "HW001"


@pytest.mark.parametrize("arguments", [[], ["LG001", "--list"], ["XX999"]])
def test_explain_without_one_known_rule_is_wrong_usage(glmdiag, arguments):
    status, out, err = glmdiag("explain", *arguments)
    assert (status, out) == (2, "")
    assert "Traceback" not in err


def test_the_commands_import_nothing_heavy_until_they_run():
    heavy = ("torch", "numpy", "polars", "tokenizers", "matplotlib", "pyarrow")
    code = f"import glmdiag.cli, sys; sys.exit(sum(m in sys.modules for m in {heavy!r}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
