"""Leafing through conversations: with a script one at a time, without one below the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from glmreport import (
    Chapter,
    FindingView,
    Leaf,
    Leaves,
    Literal,
    Page,
    Provenance,
    RuleTitle,
    Section,
    Text,
    TokenSpan,
    Turn,
    Verdict,
    render,
    write,
)

from .browser import Browser
from .test_document import HOSTILE, Structure


def leaf(name: str, text: str = "hello") -> Leaf:
    """A conversation of a question, something left out, and a marked answer."""
    asked = Turn(label=Literal("user"), parts=[TokenSpan(f"{name} asks", "context")])
    gap = Literal("… 7 characters left out …")
    parts = [TokenSpan(text, "trained"), gap, TokenSpan("<|user|>", "stop")]
    answer = Turn(label=Literal("assistant"), parts=parts, notes=[Literal("DF103")], marked=True)
    turns = [asked, Literal("… 3 turns left out …"), answer]
    return Leaf(title=f"{name}.jsonl:1", intro=Literal(f"sums of {name}"), turns=turns)


def about(rule: str) -> FindingView:
    return FindingView(
        rule=rule,
        severity="error",
        title=f"Title of {rule}",
        evidence="Something.",
        why="Because.",
        fix="Mend it.",
    )


def page_of(leaves: Leaves) -> Page:
    nothing = Literal("nothing")
    return Page(
        kind="glmprep show",
        title=Literal("Leaves"),
        subject="chats.jsonl",
        verdict=Verdict(level="good", headline=nothing, detail=nothing),
        sections=[Section(title=Literal("Look"), blocks=[leaves])],
        provenance=Provenance(version="1", command="glmprep show chats.jsonl"),
    )


def two_rules() -> Leaves:
    chapters = [
        Chapter(
            title=RuleTitle(rule, f"Title of {rule}"),
            leaves=[leaf(f"{rule}-{number}") for number in range(count)],
            intro=Literal(f"{count} are shown"),
            about=about(rule),
        )
        for rule, count in (("EX103", 3), ("EX104", 2))
    ]
    return Leaves(chapters)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@pytest.fixture
def shown(tmp_path: Path) -> Path:
    path = tmp_path / "page.html"
    write(page_of(two_rules()), path)
    return path


def test_each_leaf_says_what_is_marked_left_out_and_how_far_one_is() -> None:
    text = Structure(render(page_of(two_rules()))).text
    for words in ("EX103-2.jsonl:1", "sums of EX103-2", "3 turns left out", "7 characters left"):
        assert words in text
    assert "3 of 3" in text
    assert "第 3 段，共 3 段" in text
    assert text.count("DF103") == 5


def test_rules_link_to_their_first_leaf_and_everything_is_named_for_a_screen_reader() -> None:
    page = Structure(render(page_of(two_rules())))
    links = [value for tag, name, value in page.attributes if (tag, name) == ("a", "href")]
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert links == ["#block-1-1-1", "#block-1-1-2"]
    assert set(links) <= {f"#{value}" for value in ids}
    labelled = [value for _, name, value in page.attributes if name == "aria-labelledby"]
    assert len(labelled) == 1 + 2 + 5
    assert set(labelled) <= set(ids)
    assert ("p", "aria-live", "polite") in page.attributes


def test_a_single_chapter_has_no_list_of_chapters() -> None:
    one = Leaves([Chapter(title=Text("leaves.next"), leaves=[leaf("a")])])
    assert "nav" not in [tag for tag, _ in Structure(render(page_of(one))).tags]


@pytest.mark.parametrize("data", HOSTILE)
def test_hostile_text_stays_text_in_a_leaf(data: str) -> None:
    def tags(text: str) -> list[tuple[str, tuple[str, ...]]]:
        chapter = Chapter(title=Literal(text), leaves=[leaf(text, text)], about=about(text))
        return Structure(render(page_of(Leaves([chapter, chapter])))).tags

    assert tags(data) == tags("data")


def test_a_rule_s_title_is_chinese_where_the_catalogue_has_one() -> None:
    chapter = Chapter(title=RuleTitle("DF103", "A message has no text"), leaves=[leaf("a")])
    page = render(page_of(Leaves([chapter])))
    assert '<span class="en" lang="en">A message has no text</span>' in page
    assert '<span class="zh" lang="zh-CN">消息没有文本</span>' in page
    unknown = replace(chapter, title=RuleTitle("EX999", "Only in English"))
    assert '<h3 id="block-1-1-1-name">Only in English</h3>' in render(page_of(Leaves([unknown])))


def test_without_a_script_all_leaves_stand_one_below_the_other(
    browser: Browser, shown: Path
) -> None:
    browser.open(shown, script=False)
    assert len(browser.texts(".leaf")) == 5
    places = [f"EX103 {place} of 3" for place in (1, 2, 3)]
    assert browser.texts(".leaf .position") == [*places, "EX104 1 of 2", "EX104 2 of 2"]
    assert browser.texts(".turner") == []


def test_with_a_script_buttons_and_arrow_keys_turn_one_leaf_at_a_time(
    browser: Browser, shown: Path
) -> None:
    def place() -> tuple[list[str], list[str]]:
        return browser.texts(".leaf h4"), browser.texts(".turner .position")

    browser.open(shown)
    assert place() == (["EX103-0.jsonl:1"], ["EX103 1 of 3"])
    browser.press("ArrowLeft")
    assert place() == (["EX103-0.jsonl:1"], ["EX103 1 of 3"])
    browser.press("ArrowRight")
    browser.ask("document.querySelectorAll('.turner button')[1].click()")
    assert place() == (["EX103-2.jsonl:1"], ["EX103 3 of 3"])
    browser.press("ArrowRight")
    assert place() == (["EX104-0.jsonl:1"], ["EX104 1 of 2"])
    assert browser.ask("location.hash") == "#block-1-1-2-1"
    assert browser.texts(".about h3") == ["Error EX104 Title of EX104"]
    assert browser.texts(".contents [aria-current]") == ["Error EX104 Title of EX104 2"]
    browser.ask("document.querySelectorAll('.turner button')[0].click()")
    browser.press("ArrowRight")
    browser.press("ArrowRight")
    browser.press("ArrowRight")
    assert place() == (["EX104-1.jsonl:1"], ["EX104 2 of 2"])
    assert browser.ask("document.querySelectorAll('.turner button')[1].ariaDisabled") == "true"


def test_a_link_and_an_address_with_a_place_open_that_leaf(browser: Browser, shown: Path) -> None:
    browser.open(shown, "#block-1-1-1-2")
    assert browser.texts(".leaf h4") == ["EX103-1.jsonl:1"]
    browser.ask("document.querySelectorAll('.contents a')[1].click()")
    while browser.texts(".leaf h4") != ["EX104-0.jsonl:1"]:  # the event comes a little later
        pass
    assert browser.texts(".turner .position") == ["EX104 1 of 2"]


def test_arrow_keys_that_choose_the_language_turn_no_leaf(browser: Browser, shown: Path) -> None:
    browser.open(shown)
    browser.ask("document.querySelector('input[value=en]').focus()")
    browser.press("ArrowRight")
    assert browser.ask("document.querySelector('.leaf.current').id") == "block-1-1-1-1"


def test_a_narrow_screen_shows_the_rule_above_its_leaf_and_nothing_sticks_out(
    browser: Browser, shown: Path
) -> None:
    browser.open(shown, width=390)
    assert browser.ask("document.documentElement.scrollWidth") <= 390
    assert browser.ask("document.querySelector('.contents').open") is False
    top = "document.querySelector('{}').getBoundingClientRect().top"
    assert browser.ask(top.format(".about")) < browser.ask(top.format(".leaf.current"))


def test_on_paper_all_leaves_are_there(browser: Browser, shown: Path) -> None:
    browser.open(shown)
    browser.print_like(True)
    assert len(browser.texts(".leaf")) == 5
    browser.print_like(False)
