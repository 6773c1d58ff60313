"""`glmprep sample`: a small set that stands for all, the same for the same seed."""

from __future__ import annotations

import io
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from glmprep import canonical, draw
from glmprep.cli import glmprep
from glmprep.console import run
from glmprep.draw import Drawing
from glmprep.parse import parse
from glmprep.read import read
from glmprep.sample import Result, Stratum, sample
from glmprep.source import Source
from glmreport import Catalogue, render
from hypothesis import given
from hypothesis import strategies as st

TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}
Command = Callable[..., tuple[int, str, str]]


def chat(answer: str, *, tools: bool = False) -> dict[str, Any]:
    turns = [{"role": "user", "content": answer[:3]}, {"role": "assistant", "content": answer}]
    return {"messages": turns, **({"tools": [TOOL]} if tools else {})}


def write(path: Path, *rows: Any) -> str:
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return str(path)


def mixed(path: Path, many: int = 300) -> str:
    """Mostly short Chinese, some English of all lengths, one with tools."""
    chinese = [chat(f"第{i}个回答很短") for i in range(many)]
    english = [chat(f"word {i} " * (1 + i * 7)) for i in range(many // 10)]
    return write(path, *chinese, *english, chat("use it", tools=True))


def drawn(data: str, out: Path, rows: int = 40, seed: int = 0) -> tuple[Result, list[bytes]]:
    result = sample(Source(paths=[data]), out, rows=rows, seed=seed)
    return result, out.read_bytes().splitlines(keepends=True)


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Command:
    """Run glmprep in a folder of its own, as a shell would."""

    def ran(*arguments: str, stdin: bytes = b"") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["glmprep", *arguments])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(stdin))))
        with pytest.raises(SystemExit) as end:
            run(glmprep)
        out, err = capfd.readouterr()
        assert "Traceback" not in out + err
        return int(end.value.code or 0), out, err

    monkeypatch.chdir(tmp_path)
    return ran


# Parting rows among strata

COUNTS = st.dictionaries(st.tuples(st.integers(0, 9)), st.integers(2, 2000), min_size=1)


@given(COUNTS, st.integers(1, 3000))
def test_shares_add_up_and_no_stratum_is_missing_where_there_is_room(counts, rows) -> None:
    shares = draw.allot(counts, rows, {})
    assert sum(shares.values()) == min(rows, sum(counts.values()))
    assert all(0 <= shares[stratum] <= counts[stratum] for stratum in counts)
    if rows >= len(counts):
        assert min(shares.values()) >= 1


@given(COUNTS, st.integers(200, 3000))
def test_a_share_is_within_two_rows_of_the_proportion_where_no_least_binds(counts, rows) -> None:
    total = sum(counts.values())
    fair = {stratum: rows * n / total for stratum, n in counts.items()}
    if rows < total and min(fair.values()) >= 2:
        shares = draw.allot(counts, rows, {})
        assert all(abs(shares[s] - fair[s]) < 2 for s in counts)


def test_the_larger_strata_come_first_where_rows_are_scarce() -> None:
    counts = {(0,): 5, (1,): 50, (2,): 500}
    assert draw.allot(counts, 2, {}) == {(0,): 0, (1,): 1, (2,): 1}


def test_what_must_be_there_comes_before_larger_strata() -> None:
    counts = {(0,): 5, (1,): 50, (2,): 500}
    assert draw.allot(counts, 2, {(0,): 1, (1,): 1}) == {(0,): 1, (1,): 1, (2,): 0}


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=9), st.integers(0, 3))), st.integers(1, 9))
def test_a_drawing_gives_lines_in_order_with_both_extremes(lines, rows) -> None:
    drawing: Drawing[tuple[int]] = Drawing(rows, 7, io.BytesIO())
    for line, stratum in lines:
        drawing.add(line, (stratum,), "here")
    found = list(drawing.drawn())
    assert [line for _, line in found] == [lines[order][0] for order, _ in found]
    assert [order for order, _ in found] == sorted({order for order, _ in found})
    assert len(found) == min(rows, len(lines))
    sizes = [len(line) for line, _ in lines]
    kept = [len(line) for _, line in found]
    if rows > 1 and lines:
        assert (min(kept), max(kept)) == (min(sizes), max(sizes))


def test_each_row_of_a_stratum_is_as_likely_as_any_other() -> None:
    hits = [0] * 20
    for seed in range(600):
        drawing: Drawing[tuple[int]] = Drawing(6, seed, io.BytesIO())
        for place in range(20):
            drawing.add(bytes([place]) * (1 if place == 0 else 3 if place == 1 else 2), (0,), "")
        for order, _ in drawing.drawn():
            hits[order] += 1
    assert hits[:2] == [600, 600]
    assert all(90 < count < 180 for count in hits[2:])  # 133 expected, sd 10


# Samples


def test_rows_are_written_as_they_were_read_in_canonical_form(tmp_path) -> None:
    data = mixed(tmp_path / "chats.jsonl")
    _, lines = drawn(data, tmp_path / "out.jsonl")
    everything = [canonical.line(one) for one in parse(read([data]))]
    assert [line for line in everything if line in set(lines)] == lines


def test_each_kind_is_there_and_large_kinds_have_their_share(tmp_path) -> None:
    result, lines = drawn(mixed(tmp_path / "chats.jsonl"), tmp_path / "out.jsonl")
    assert len(lines) == result.drawn == 40
    assert all(taken >= 1 for _, taken in result.strata.values())
    assert result.strata[Stratum(0, 0, False)][1] == pytest.approx(
        40 * 300 / 331, abs=len(lines) / 8
    )
    assert any(stratum.tools for stratum in result.strata)
    sizes = [len(line) for line in lines]
    assert (min(sizes), max(sizes)) == (result.shortest.row.size, result.longest.row.size)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path) -> None:
    data = mixed(tmp_path / "chats.jsonl")
    first, again = (drawn(data, tmp_path / name)[1] for name in ("a.jsonl", "b.jsonl"))
    assert first == again
    assert drawn(data, tmp_path / "c.jsonl", seed=1)[1] != first


def test_a_kind_is_bounded_by_its_bytes(tmp_path) -> None:
    result, lines = drawn(mixed(tmp_path / "chats.jsonl"), tmp_path / "out.jsonl", rows=1000)
    assert len(lines) == result.conversations
    for stratum, (there, _) in result.strata.items():
        low, high = stratum.bounds
        assert sum(low < len(line) <= high for line in lines) >= there


def test_memory_does_not_grow_with_the_number_of_rows() -> None:
    def peak(lines: int) -> int:
        tracemalloc.start()
        drawing: Drawing[tuple[int]] = Drawing(50, 0, io.BytesIO())
        for place in range(lines):
            drawing.add(b"x" * 20, (place % 4,), "")
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    assert peak(20_000) < 2 * peak(2_000)


# The command


def test_more_rows_than_there_are_take_all_and_say_so(command: Command, tmp_path: Path) -> None:
    write(tmp_path / "two.jsonl", chat("one"), chat("two"))
    status, out, _ = command("sample", "two.jsonl", "-o", "out.jsonl", "--json", "out.json")
    assert status == 0
    assert "fewer than 1,000, so all were taken" in out
    assert orjson.loads((tmp_path / "out.json").read_bytes())["drawn"] == 2


def test_kinds_that_are_missing_are_named(command: Command, tmp_path: Path) -> None:
    mixed(tmp_path / "chats.jsonl")
    status, out, _ = command("sample", "chats.jsonl", "-o", "out.jsonl", "--rows", "2")
    assert status == 0
    assert "draw more rows" in out


def test_standard_input_gives_the_same_sample_as_the_file(command: Command, tmp_path: Path) -> None:
    data = write(tmp_path / "in.jsonl", *({"id": str(i), **chat("w" * i)} for i in range(1, 90)))
    assert command("sample", "in.jsonl", "-o", "a.jsonl", "--rows", "9")[0] == 0
    piped = Path(data).read_bytes()
    assert command("sample", "-", "-o", "b.jsonl", "--rows", "9", stdin=piped)[0] == 0
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("good.jsonl", "-o", "good.jsonl"), "is also an input"),
        (("bad.jsonl", "-o", "out.jsonl"), "no row holds a conversation"),
        (("absent.jsonl", "-o", "out.jsonl"), "no such file"),
        (("good.jsonl", "-o", "out.jsonl", "--rows", "0"), "0 is not in the range"),
        (("good.jsonl", "-o", "."), "is a folder"),
    ],
)
def test_bad_input_ends_with_status_2_and_nothing_written(
    arguments: tuple[str, ...], words: str, command: Command, tmp_path: Path
):
    write(tmp_path / "good.jsonl", chat("one"))
    write(tmp_path / "bad.jsonl", {"a": 1})
    before = sorted(path.name for path in tmp_path.iterdir())
    status, _, err = command("sample", *arguments)
    assert status == 2
    assert words in err
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_rejected_rows_are_listed_and_too_many_fail(command: Command, tmp_path: Path) -> None:
    write(tmp_path / "in.jsonl", chat("one"), {"a": 1})
    assert command("sample", "in.jsonl", "-o", "out.jsonl")[0] == 1
    listed = (tmp_path / "out.jsonl.rejects.jsonl").read_bytes().splitlines()
    assert [orjson.loads(line)["rule"] for line in listed] == ["DF010"]


def test_repairs_can_be_taken_back_from_the_sample(command: Command, tmp_path: Path) -> None:
    double = {"messages": [chat("a")["messages"][0], *chat("long answer")["messages"]]}
    write(tmp_path / "in.jsonl", chat("b" * 50), double, chat("c" * 5000))
    assert command("sample", "in.jsonl", "--repair", "-o", "out.jsonl")[0] == 0
    undone = command("convert", "out.jsonl", "--undo", "out.jsonl.repairs.jsonl", "-o", "un.jsonl")
    assert undone[0] == 0
    lines = (tmp_path / "un.jsonl").read_bytes().splitlines()
    assert orjson.loads(lines[1])["messages"] == double["messages"]


@pytest.mark.parametrize("rows", [2, 40, 1000])
def test_the_page_can_be_read_in_both_languages(rows: int, tmp_path: Path) -> None:
    from glmprep.views.sample import page

    result, _ = drawn(mixed(tmp_path / "chats.jsonl"), tmp_path / "out.jsonl", rows=rows)
    made = page(result, tmp_path / "out.jsonl", "glmprep sample chats.jsonl", ["chats.jsonl"])
    text = render(made)
    for language in ("en", "zh"):
        assert Catalogue.load(language).say(made.verdict.headline) in text
