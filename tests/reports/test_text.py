from __future__ import annotations

import re

import pytest
from glmreport import Catalogue, CatalogueError, Literal, Text, check_catalogues, rule_text
from glmreport import text as text_module
from glmreport.numbers import show_number
from glmreport.text import fill, placeholders, read_catalogue, visible


def test_the_catalogues_have_the_same_keys_and_placeholders():
    assert check_catalogues() == []


@pytest.mark.parametrize("area", ["gx", "leaves", "show"])
def test_no_english_sentence_is_left_in_the_chinese_words_for(area):
    english, chinese = (Catalogue.load(language).entries for language in ("en", "zh"))
    keys = [key for key in english if key.startswith(f"{area}.")]
    assert keys
    for key in keys:
        words = re.sub(r"\{[^}]*\}|`[^`]*`", "", english[key])
        assert not re.search("[A-Za-z]{2}", words) or re.search("[\u4e00-\u9fff]", chinese[key])


@pytest.mark.parametrize(
    ("english", "chinese", "problem"),
    [
        ({"a.b": "{n} rows"}, {}, "zh: a.b: missing"),
        ({}, {"a.b": "{n} 行"}, "en: a.b: missing"),
        ({"a.b": "{n} rows"}, {"a.b": "{m} 行"}, "zh: a.b: placeholders differ from en"),
        ({"a.b": "`x"}, {"a.b": "x"}, "en: a.b: a backtick is not closed"),
        ({"a.b": "{n:nonsense}"}, {"a.b": "{n}"}, "en: a.b: "),
        ({"a.b": "{n:|one}"}, {"a.b": "{n}"}, "en: a.b: "),
        ({"a.b": "{n.real}"}, {"a.b": "{n}"}, "en: a.b: "),
    ],
)
def test_a_difference_between_the_catalogues_is_a_problem(monkeypatch, english, chinese, problem):
    catalogues = {"en": Catalogue("en", english), "zh": Catalogue("zh", chinese)}
    monkeypatch.setattr(text_module, "_load", catalogues.__getitem__)
    if problem.endswith(": "):
        catalogues["zh"] = Catalogue("zh", english)
    assert any(line.startswith(problem) for line in check_catalogues())


def test_rules_may_be_in_one_language_only(monkeypatch):
    catalogues = {
        "en": Catalogue("en", {}),
        "zh": Catalogue("zh", {"rule.DF103.title": "空的回复", "rule.DF103.fix": "删除该轮"}),
    }
    monkeypatch.setattr(text_module, "_load", catalogues.__getitem__)
    assert check_catalogues() == []
    assert rule_text("DF103", "zh") == {"title": "空的回复", "fix": "删除该轮"}
    assert rule_text("DF999", "zh") is None
    assert rule_text("DF103", "en") is None


def test_files_of_a_folder_are_merged_and_a_second_definition_is_an_error(tmp_path):
    (tmp_path / "one.toml").write_text('[a]\nb = "B"\n', encoding="utf-8")
    (tmp_path / "two.toml").write_text('[a.c]\nd = "D"\n', encoding="utf-8")
    assert read_catalogue("en", tmp_path).entries == {"a.b": "B", "a.c.d": "D"}
    (tmp_path / "three.toml").write_text('[a]\nb = "again"\n', encoding="utf-8")
    with pytest.raises(CatalogueError, match=r"two.toml|three.toml.*a\.b is defined twice"):
        read_catalogue("en", tmp_path)


@pytest.mark.parametrize("content", ["[a", "[a]\nb = 3", "[a]\nb = ' '"])
def test_a_broken_file_or_an_entry_without_words_is_an_error(tmp_path, content):
    (tmp_path / "one.toml").write_text(content, encoding="utf-8")
    with pytest.raises(CatalogueError):
        read_catalogue("en", tmp_path)


def test_a_text_speaks_each_language_with_the_same_numbers():
    text = Text("page.findings.shown", shown=2, count=12022)
    assert Catalogue.load("en").say(text) == "showing 2 of 12,022"
    assert Catalogue.load("zh").say(text) == "显示 12,022 处中的 2 处"


def test_a_parameter_may_be_a_text_or_a_literal():
    inner = Text("page.severity.error")
    text = Text("page.findings.shown", shown=inner, count=Literal("{n}"))
    assert Catalogue.load("zh").say(text) == "显示 {n} 处中的 错误 处"


@pytest.mark.parametrize("text", [Text("no.such.key"), Text("page.findings.shown", shown=1)])
def test_a_missing_key_or_parameter_is_an_error(text):
    with pytest.raises(CatalogueError):
        Catalogue.load("en").say(text)


def test_there_is_no_third_language():
    with pytest.raises(CatalogueError):
        Catalogue.load("../en")


def test_templates_take_plain_names_only_and_keep_doubled_braces():
    assert fill('{{"role": "{role}"}}', {"role": "user"}, lambda value, _: str(value)) == (
        '{"role": "user"}'
    )
    assert placeholders("{a} {b:percent} {{c}}") == {"a", "b"}
    for template in ("{a.b}", "{0}", "{}", "{a!r}", "{a[0]}", "{"):
        with pytest.raises(CatalogueError):
            placeholders(template)


@pytest.mark.parametrize(
    ("value", "spec", "shown"),
    [
        (12022, "", "12,022"),
        (-3, "", "-3"),
        (0.0, "", "0"),
        (2.3456, "", "2.35"),
        (0.0005, "", "0.0005"),
        (12345.6, "", "12,346"),
        (1e-7, "", "1.00e-07"),
        (float("nan"), "", "NaN"),
        (float("-inf"), "percent", "-∞"),
        (0, "percent", "0%"),
        (1, "percent", "100%"),
        (0.4134, "percent", "41.3%"),
        (0.99999, "percent", "> 99.9%"),
        (0.00001, "percent", "< 0.1%"),
        (17, "bytes", "17 B"),
        (1536, "bytes", "1.5 KiB"),
        (80 * 2**30, "bytes", "80.0 GiB"),
        (3 * 2**40, "bytes", "3.0 TiB"),
        (0.25, "duration", "0.2 s"),
        (59.7, "duration", "1 min 00 s"),
        (125, "duration", "2 min 05 s"),
        (3661, "duration", "1 h 01 min"),
        (9999, "compact", "9,999"),
        (8_941_207, "compact", "8.94M"),
        (1, "|row|rows", "row"),
        (2, "|row|rows", "rows"),
        (0, "|row|rows", "rows"),
        (0.25, ".0%", "25%"),
    ],
)
def test_numbers_are_written_one_way(value, spec, shown):
    assert show_number(value, spec) == shown


@pytest.mark.parametrize(
    ("hidden", "shown"),
    [
        ("a\x00b", "a␀b"),
        ("\x1b[31m", "␛[31m"),
        ("\r\n", "␍\n"),
        ("\x7f", "␡"),
        ("\x85", "⟨U+0085⟩"),
        ("txt\u202egnp", "txt⟨U+202E⟩gnp"),
        ("\u2066a\u2069", "⟨U+2066⟩a⟨U+2069⟩"),
        ("\u200b\ufeff\u00ad", "⟨U+200B⟩⟨U+FEFF⟩⟨U+00AD⟩"),
        ("\u2028", "⟨U+2028⟩"),
        ("\ud800", "⟨U+D800⟩"),
        ("\ufffe\U0001ffff", "⟨U+FFFE⟩⟨U+1FFFF⟩"),
        ("\U000e0041", "⟨U+E0041⟩"),
    ],
)
def test_characters_that_hide_or_reorder_become_visible(hidden, shown):
    assert visible(hidden) == shown


@pytest.mark.parametrize("text", ["plain", "你好，世界", "tab\tand\nline", "👩‍👩‍👧", "می‌خواهم"])
def test_ordinary_text_stays_as_it_is(text):
    assert visible(text) == text
