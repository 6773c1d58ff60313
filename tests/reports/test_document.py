from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import sys
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser

import pytest
from glmreport import (
    Block,
    Catalogue,
    CatalogueError,
    Chapter,
    Code,
    Column,
    Example,
    Fact,
    FindingView,
    Leaf,
    Leaves,
    Literal,
    Page,
    Paragraph,
    Provenance,
    RuleTitle,
    Section,
    Step,
    Table,
    Text,
    TokenSpan,
    TokenView,
    Turn,
    Verdict,
    render,
    rule_text,
    write,
)
from glmreport import text as text_module
from glmreport.charts import Series, bars
from hypothesis import given, settings
from hypothesis import strategies as st

HOSTILE = [
    "</script><script>alert(1)</script>",
    '" onmouseover="alert(1)',
    "' autofocus onfocus='alert(1)",
    "<img src=x onerror=alert(1)>",
    "{{ 7 * 7 }}{% raw %}",
    "]]></svg><style>@import 'http://evil.example/x.css'</style>",
    "&lt;b&gt;&#x202e;",
    "\x00\x1b[31m\x7f\u202e\u2066\u200b\ufeff\ud800\uffff",
]


class Structure(HTMLParser):
    """The tags of a page and the names of their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, tuple(name for name, _ in attrs)))
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data):
        self.text += data


def page_of(data: str, *, chart: bool = False) -> Page:
    """A page in which everything that can be data is this data."""
    literal, spans = Literal(data), [TokenSpan(data, "trained"), TokenSpan(data, "cut")]
    table = Table(
        columns=[Column(label=literal), Column(label=literal, numeric=True, bar=True)],
        rows=[[data, 3], [literal, None]],
        caption=literal,
        highlight=1,
    )
    blocks: list[Block] = [table, TokenView(spans, literal), Code(data), Paragraph(literal)]
    turn = Turn(label=literal, parts=[*spans, literal], notes=[literal], marked=True)
    leaf = Leaf(title=data, intro=literal, turns=[turn, literal, turn])
    if chart:
        series = [Series(literal, [1]), Series(literal, [2])]
        blocks.append(bars([literal], series, caption=literal))
    finding = FindingView(
        rule=data,
        severity="warning",
        title=data,
        evidence=data,
        why=data,
        fix=data,
        data={"x": data},
        examples=[Example(where=data, excerpt=data), Example(where=data, tokens=spans)],
        count=3,
    )
    chapter = Chapter(
        title=RuleTitle(data, data), intro=literal, leaves=[leaf, leaf], about=finding
    )
    blocks.append(Leaves([chapter, Chapter(title=literal, leaves=[leaf])]))
    return Page(
        kind=data,
        title=literal,
        subject=data,
        verdict=Verdict(
            level="warn", headline=literal, detail=Text("page.findings.shown", shown=data, count=2)
        ),
        steps=[Step(text=literal, command=data)],
        facts=[Fact(label=literal, value=data, note=literal)],
        sections=[Section(title=literal, intro=literal, blocks=blocks)],
        findings=[finding],
        provenance=Provenance(version=data, command=data, inputs=[data], created=data),
    )


@pytest.mark.parametrize("data", HOSTILE)
def test_hostile_data_stay_text(data):
    hostile = Structure(render(page_of(data, chart=True)))
    harmless = Structure(render(page_of("data", chart=True)))
    assert hostile.tags == harmless.tags


@cache
def harmless_tags() -> list[tuple[str, tuple[str, ...]]]:
    return Structure(render(page_of("data"))).tags


@settings(max_examples=60, deadline=None)
@given(
    st.text(st.characters(exclude_characters="\n`"), min_size=1)
    .filter(str.strip)
    # The id of a real rule would bring that rule's Chinese texts.
    .filter(lambda text: rule_text(text, "zh") is None)
)
def test_no_data_change_the_page_s_structure_or_hide_in_it(data):
    page = render(page_of(data))
    assert Structure(page).tags == harmless_tags()
    assert not re.search(
        "[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", page
    )


def test_every_kind_of_block_and_both_languages_are_on_the_page(example_page):
    page = Structure(render(example_page))
    tags = [tag for tag, _ in page.tags]
    assert {"table", "figure", "svg", "pre", "details", "dl", "ol"} <= set(tags)
    for words in ("What to do next", "下一步做什么", "How to fix it", "如何修复", "NaN 或无穷大"):
        assert words in page.text
    radios = [names for tag, names in page.tags if tag == "input"]
    assert len(radios) == 2
    assert page.attributes.count(("input", "value", "zh")) == 1


def test_nothing_is_loaded_from_anywhere(example_page):
    page = Structure(render(example_page))
    loading = {"src", "srcset", "href", "xlink:href", "action", "data", "poster", "background"}
    assert all(value.startswith("#") for _, name, value in page.attributes if name in loading)
    assert not {"link", "iframe", "object", "embed", "base", "img"} & {tag for tag, _ in page.tags}
    assert not re.search(r"https?:|url\(|@import", render(example_page))


def test_the_policy_allows_this_script_and_no_other(example_page):
    page = render(example_page)
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert len(scripts) == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    policies = [value for _, name, value in Structure(page).attributes if name == "content"]
    assert policies[0].startswith("default-src 'none'; style-src 'unsafe-inline';")
    assert f"script-src 'sha256-{digest}';" in policies[0]
    assert not any(name.startswith("on") for _, name, _ in Structure(page).attributes)


def test_ids_are_unique_and_every_reference_has_its_target(example_page):
    attributes = Structure(render(example_page)).attributes
    ids = [value for _, name, value in attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert {value for _, name, value in attributes if name == "aria-labelledby"} <= set(ids)
    assert {value[1:] for _, name, value in attributes if name == "href"} <= set(ids)


def test_the_same_page_renders_to_the_same_bytes(example_page):
    assert render(example_page) == render(example_page)


def test_findings_stand_by_severity_and_tell_how_many_examples_are_shown(example_page):
    text = Structure(render(example_page)).text
    places = [text.rindex(rule) for rule in ("EX101", "EX102", "EX103")]
    assert places == sorted(places)
    assert "showing 2 of 202" in text


def test_a_page_that_found_nothing_says_so_and_one_that_looks_for_nothing_is_silent(example_page):
    nothing = "No rule found anything."
    assert nothing in render(replace(example_page, findings=[]))
    assert nothing not in render(replace(example_page, findings=None))


def test_a_finding_speaks_chinese_where_there_is_a_template_and_else_english(monkeypatch):
    rules = {"rule.DF103.title": "空的回复", "rule.DF103.evidence": "有 {count} 段，见 `{where}`。"}
    chinese = Catalogue.load("zh")
    catalogues = {
        "en": Catalogue.load("en"),
        "zh": Catalogue("zh", {**chinese.entries, **rules}),
    }
    monkeypatch.setattr(text_module, "_load", catalogues.__getitem__)
    found = FindingView(
        rule="DF103",
        severity="error",
        title="An empty turn",
        evidence="12,022 conversations, see `<b>`.",
        why="Because.",
        fix="Pass `--repair`.",
        data={"count": 12022, "where": "<b>"},
    )
    page = render(replace(page_of("data"), findings=[found]))
    assert '<span class="zh" lang="zh-CN">空的回复</span>' in page
    assert "有 12,022 段，见 <code>&lt;b&gt;</code>。" in page
    assert "12,022 conversations, see <code>&lt;b&gt;</code>." in page
    assert page.count("Pass <code>--repair</code>.") == 1


def test_a_page_is_written_whole_and_replaces_the_old_one(tmp_path):
    path = tmp_path / "new" / "report.html"
    write(page_of("one"), path)
    write(page_of("two"), path)
    assert path.read_text(encoding="utf-8") == render(page_of("two"))
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]


def test_a_page_that_cannot_be_rendered_leaves_the_old_one(tmp_path):
    path = tmp_path / "report.html"
    write(page_of("one"), path)
    with pytest.raises(CatalogueError, match=r"no\.such\.key"):
        write(replace(page_of("two"), title=Text("no.such.key")), path)
    assert path.read_text(encoding="utf-8") == render(page_of("one"))
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Verdict(level="fine", headline=Literal(""), detail=Literal("")),
        lambda: TokenSpan("text", "bold"),
        lambda: Table(columns=[Column(label=Literal("a"))], rows=[[1, 2]]),
        lambda: Table(columns=[Column(label=Literal("a"))], rows=[[1]], highlight=1),
        lambda: Chapter(title=Literal("a"), leaves=[]),
        lambda: FindingView(rule="", severity="fatal", title="", evidence="", why="", fix=""),
    ],
)
def test_records_refuse_what_a_page_cannot_show(wrong):
    with pytest.raises(ValueError, match=r"none of|values|highlight|leaves"):
        wrong()


def test_importing_the_package_loads_no_drawing_or_template_library():
    heavy = "{'matplotlib', 'jinja2', 'numpy'} & sys.modules.keys()"
    code = f"import sys, glmreport, glmreport.charts; sys.exit(bool({heavy}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
