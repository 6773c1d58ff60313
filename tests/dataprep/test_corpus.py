"""The corpus of the benchmarks: the same bytes each time, and nothing in it twice."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
sys.path.insert(0, str(REPOSITORY / "bench"))

import corpus  # noqa: E402


@pytest.fixture(scope="module")
def rows(assets: Path) -> list[bytes]:
    return corpus.lines(assets)


@pytest.fixture(scope="module")
def values(rows: list[bytes]) -> list[corpus.Row]:
    return list(map(json.loads, rows))


def test_nothing_is_said_twice_and_no_id_is_given_twice(values: list[corpus.Row]) -> None:
    said = {json.dumps([value["messages"], value.get("tools")]) for value in values}
    assert len(said) == len(values) == len({value["id"] for value in values})


def test_every_source_is_in_the_corpus(rows: list[bytes], values: list[corpus.Row]) -> None:
    sources = {value["id"].rsplit("-", 1)[0].split("_")[0] for value in values}
    assert {"smilechat", "sgd", "gpt-4o-airline", "film", "Academic", "short"} <= sources
    assert sum(map(len, rows)) > 85e6


def test_the_order_does_not_depend_on_the_order_of_the_sources(
    rows: list[bytes], assets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus, "READ", corpus.READ[3:])
    fewer = corpus.lines(assets)
    kept = set(fewer)
    assert fewer == [row for row in rows if row in kept]


def test_a_meeting_is_a_conversation_about_its_transcript(values: list[corpus.Row]) -> None:
    meetings = [v["messages"] for v in values if v["id"].startswith(("Academic", "short"))]
    assert meetings
    for system, *said in meetings:
        assert system["role"] == "system"
        assert [m["role"] for m in said] == ["user", "assistant"] * (len(said) // 2)
        assert len(said[0]["content"]) > max(len(m["content"]) for m in said[1:])


def test_repeating_changes_ids_alone_and_goes_on_until_it_is_enough(tmp_path: Path) -> None:
    given = [b'{"id": "a-1", "messages": [{"role": "user"}]}\n', b'{"id": "b-2", "messages": []}\n']
    path = tmp_path / "large.jsonl"
    written = corpus.write(path, corpus.repeated(given), 5, float("inf"))
    values = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert [value["id"] for value in values] == ["a-1", "b-2", "2-a-1", "2-b-2", "3-a-1"]
    assert (written.rows, written.size, written.messages) == (5, path.stat().st_size, 3)
    said = [value["messages"] for value in values]
    assert said == list(itertools.islice(itertools.cycle(said[:2]), 5))
    assert corpus.write(path, corpus.repeated(given), float("inf"), 1000).size >= 1000
