from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest
from glmreport import Literal, Text
from glmreport.charts import Line, Marker, Series, bars, cumulative, edges, histogram, lines
from glmreport.figure import shorten
from glmreport.page import Chart

NAMES = {"caption": Literal("c"), "x_label": Literal("x"), "y_label": Literal("y")}


def texts(chart: Chart, language: str) -> list[str]:
    """What a reader of a language sees in the wide drawing."""
    root = ElementTree.fromstring(chart.wide)
    return [t.text or "" for t in root.iter("text") if t.get("class") in (None, language)]


def example_histogram(**more) -> Chart:
    return histogram([Series(Literal("rows"), [3, 9, 1])], [1, 10, 100, 1000], **NAMES, **more)


def test_words_are_in_each_language_and_numbers_once():
    markers = [Marker(50, Text("page.severity.error"))]
    chart = example_histogram(markers=markers)
    assert "Error" in texts(chart, "en")
    assert "错误" not in texts(chart, "en")
    assert "错误" in texts(chart, "zh")
    assert "512" in texts(chart, "en")
    assert "512" in texts(chart, "zh")


def test_colours_are_the_page_s_variables():
    chart = example_histogram()
    assert "var(--series-1)" in chart.wide
    assert not re.search(r"#[0-9a-fA-F]{3,6}\b", chart.wide + chart.narrow)


def test_a_drawing_has_no_ids_dates_or_addresses():
    chart = example_histogram(markers=[Marker(50, Literal("p50"), "bad", 4)])
    for svg in (chart.wide, chart.narrow):
        assert not re.search(r"\bid=|href|url\(|https?:|<metadata|<defs", svg)


def test_the_same_data_give_the_same_drawing():
    assert example_histogram() == example_histogram()


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", "a $x^2$ & \"b\" 'c'", "@0@", "中文"]
)
def test_labels_are_data_and_are_neither_parsed_nor_lost(text):
    chart = bars([Literal(text)], [Series(Literal("s"), [1.0])], caption=Literal("c"))
    assert text in texts(chart, "en")


def test_a_label_s_hidden_characters_are_visible():
    chart = bars([Literal("a\x00\u202eb")], [Series(Literal("s"), [1])], caption=Literal("c"))
    assert "a␀⟨U+202E⟩b" in texts(chart, "en")


def test_a_long_label_is_cut_with_an_ellipsis_by_its_width():
    assert shorten("short", 100) == "short"
    assert shorten("中文" * 30, 100) == "中文中文中文中…"
    assert shorten("x" * 80, 100).endswith("x…")


def test_marker_labels_never_cover_one_another():
    markers = [Marker(at, Literal(f"mark at {at}")) for at in (90, 100, 110, 900, 950, 1000)]
    chart = example_histogram(markers=markers)
    places = []
    for label in ElementTree.fromstring(chart.wide).iter("text"):
        if (label.text or "").startswith("mark at"):
            x, width = float(label.get("x", 0)), 6.0 * len(label.text or "")
            end = "end" in label.get("style", "")
            places.append((x - width if end else x, x if end else x + width, label.get("y")))
    assert len(places) == len(markers)
    for i, (low, high, row) in enumerate(places):
        assert not any(low < h and high > b and row == r for b, h, r in places[i + 1 :])


def test_values_that_are_no_number_are_shown_as_such():
    whole = Line(Literal("loss"), [1, 2, 3], [3.0, 2.0, 1.0])
    broken = Line(Literal("loss"), [1, 2, 3], [3.0, math.nan, math.inf])
    assert not lines([whole], **NAMES).legend
    chart = lines([broken], **NAMES)
    assert [item.ink for item in chart.legend] == ["series-1", "hole"]
    assert "var(--hole)" in chart.wide


def test_a_logarithmic_axis_shows_zero_as_a_hole():
    line = Line(Literal("norm"), [1, 2, 3], [1.0, 0.0, 0.01])
    assert "hole" in [item.ink for item in lines([line], log_y=True, **NAMES).legend]
    assert not lines([line], **NAMES).legend


def test_a_smooth_line_is_drawn_over_the_pale_values():
    line = Line(Literal("loss"), range(50), [float(v % 7) for v in range(50)], smooth=True)
    assert lines([line], **NAMES).wide.count("var(--series-1)") == 2


@pytest.mark.parametrize("log_y", [False, True])
@pytest.mark.parametrize(
    ("x", "y"),
    [
        ([], []),
        ([5], [0.5]),
        ([1, 2], [math.nan] * 2),
        ([1, 2], [3.0, 3.0]),
        ([1, 2], [1e-12, 1e9]),
    ],
)
def test_lines_of_few_odd_values_can_be_drawn(x, y, log_y):
    chart = lines([Line(Literal("loss"), x, y, smooth=True)], log_y=log_y, **NAMES)
    assert "NaN" not in chart.wide
    assert "nan" not in chart.wide.replace("NaN", "")


def test_a_hundred_thousand_points_stay_small_enough_for_a_page():
    steps = range(100_000)
    noise = [((step * 2654435761) % 1000) / 1000 for step in steps]
    chart = lines([Line(Literal("loss"), steps, noise, smooth=True)], **NAMES)
    assert len(chart.wide) + len(chart.narrow) < 300_000


def test_counts_have_no_ticks_between_whole_numbers():
    drawn = texts(histogram([Series(Literal("rows"), [1, 0, 2])], [1, 2, 3, 4], **NAMES), "en")
    assert {"0", "1", "2"} <= set(drawn)
    assert not [text for text in drawn if "." in text]


def test_six_series_have_a_colour_each():
    chart = bars(
        [Literal("a")], [Series(Literal(str(n)), [n]) for n in range(1, 7)], caption=Literal("c")
    )
    assert all(f"var(--series-{n})" in chart.wide for n in range(1, 7))


def test_empty_bins_and_single_limits_can_be_drawn():
    histogram([Series(Literal("none"), [0, 0])], [1, 2, 4], **NAMES)
    cumulative([4096], [Series(Literal("rows"), [0.5])], **NAMES)
    bars([Literal("none")], [Series(Literal("s"), [0])], caption=Literal("c"))


def test_edges_are_even_on_a_logarithmic_axis():
    found = edges(1, 1000, 3)
    assert found == pytest.approx([1, 10, 100, 1000])
    assert found[-1] == 1000


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: histogram([Series(Literal("s"), [1, 2])], [1, 2], **NAMES),
        lambda: histogram([Series(Literal("s"), [1])], [0, 2], **NAMES),
        lambda: bars([], [Series(Literal("s"), [])], caption=Literal("c")),
        lambda: bars([Literal("a")], [Series(Literal("s"), [-1])], caption=Literal("c")),
        lambda: cumulative([1, 2], [], **NAMES),
        lambda: edges(0, 10),
    ],
)
def test_data_that_cannot_be_drawn_are_refused(wrong):
    with pytest.raises(ValueError, match=r"need|axis"):
        wrong()
