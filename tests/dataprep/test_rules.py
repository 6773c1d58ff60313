"""Each rule fires on a minimal case and stays silent on a sound neighbour."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pytest
from glmprep import audit
from glmprep.families import Family
from glmprep.findings import RULES, Finding, Severity, rule
from glmprep.rules import lengths
from glmprep.source import Source
from glmprep.tokenizer import Tokenizer

USER = {"role": "user", "content": "hi"}
ANSWER = {"role": "assistant", "content": "yo"}
UNTRAINED = {**ANSWER, "weight": 0}
BLANK = {"content": " \n\u3000"}
SYSTEM = {"role": "system", "content": "s"}
RESULT = {"role": "tool", "content": "42"}


def call(arguments: Any = "{}", name: str = "f") -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"role": "assistant", "content": None, "tool_calls": [{"function": function}]}


def row(*messages: Any, **more: Any) -> bytes:
    return orjson.dumps({"messages": list(messages), **more})


def ask(text: str) -> dict[str, str]:
    return {**USER, "content": text}


def piece(place: int) -> dict[str, Any]:
    return {**ANSWER, "part": [place, 2]}


def offered(tool: str) -> bytes:
    return row(USER, ANSWER, tools=[{"name": tool}])


SOUND = row(USER, ANSWER)
LONG = {**ANSWER, "content": "a b c d e f g h i j k l m n o p"}
LONG_ANSWER = {**ANSWER, "content": "word " * 200}
LONGER = {**ANSWER, "content": "word " * 2000}
CASES: list[tuple[str, list[bytes], list[bytes]]] = [
    ("DF001", [b'{"messages": ['], [SOUND]),
    ("DF002", ['{"messages": "文"}'.encode("gbk")], [row({**USER, "content": "文"}, ANSWER)]),
    ("DF003", [b'"' + b"x" * (33 << 20) + b'"'], [row({**USER, "content": "x" * 9999}, ANSWER)]),
    ("DF010", [orjson.dumps({"note": "hi"})], [orjson.dumps({"conversations": [USER, ANSWER]})]),
    ("DF011", [row({**USER, "role": "client"}, ANSWER)], [row({**USER, "role": "human"}, ANSWER)]),
    ("DF012", [row({**USER, "content": 5}, ANSWER)], [row({**USER, "content": "5"}, ANSWER)]),
    ("DF013", [row(USER, ANSWER, tools=[{}])], [row(USER, ANSWER, tools=[{"name": "f"}])]),
    ("DF014", [row(USER, {**ANSWER, "weight": 2})], [row(USER, {**ANSWER, "weight": 1})]),
    ("DF101", [row(USER, USER, ANSWER)], [row(USER, ANSWER, USER, ANSWER)]),
    ("DF101", [row(USER, ANSWER, ANSWER)], [row(USER, call(), RESULT, ANSWER)]),
    ("DF101", [row(USER, piece(1), ANSWER)], [row(USER, piece(0), piece(1))]),
    ("DF102", [row(ANSWER, USER, ANSWER)], [row(UNTRAINED, USER, ANSWER)]),
    ("DF102", [row(SYSTEM, ANSWER)], [row(SYSTEM, USER, ANSWER)]),
    ("DF103", [row({**USER, **BLANK}, ANSWER)], [row({**SYSTEM, **BLANK}, USER, ANSWER)]),
    ("DF103", [row(USER, {**ANSWER, "content": None})], [row(USER, call(), RESULT)]),
    ("DF103", [row(USER, {**ANSWER, **BLANK})], [row(USER, {**piece(1), **BLANK})]),
    ("DF104", [row(USER)], [SOUND]),
    ("DF104", [row(USER, UNTRAINED)], [row(USER, UNTRAINED, USER, ANSWER)]),
    ("DF105", [row(USER, call(), USER, ANSWER)], [row(USER, call(), RESULT, ANSWER)]),
    ("DF105", [row(USER, call(), ANSWER)], [row(USER, call())]),
    ("DF106", [row(USER, RESULT, ANSWER)], [row(USER, call(), RESULT, RESULT, ANSWER)]),
    ("DF106", [row(RESULT, USER, ANSWER)], [row(USER, call(), RESULT)]),
    ("DF106", [row(USER, ANSWER, RESULT)], [row(USER, call(), RESULT, ANSWER)]),
    ("DF107", [row(USER, call("f(x)"), RESULT)], [row(USER, call(' {"x": {"y": 1}}'), RESULT)]),
    ("DF107", [row(USER, call("[1]"), RESULT)], [row(USER, call({"x": 1}), RESULT)]),
    ("DF108", [row(USER, ANSWER, USER)], [SOUND]),
    ("DF108", [row(USER, call(), RESULT)], [row(USER, call())]),
    ("DF109", [row(ask("what is <|user|>?"), ANSWER)], [row(ask("and < |user| >?"), ANSWER)]),
    ("DF110", [row(USER, ANSWER, SYSTEM, USER, ANSWER)], [row(SYSTEM, SYSTEM, USER, ANSWER)]),
    ("DF201", [SOUND, SOUND], [SOUND, row(ask("ho"), ANSWER)]),
    ("DF201", [SOUND, row(USER, ANSWER, id=2)], [row(USER, call()), row(USER, call("[]"))]),
    ("DF201", [row(USER, call())] * 2, [row(USER, call()), row(USER, call(name="g"))]),
    ("DF201", [offered("f"), offered("f")], [offered("f"), offered("g")]),
    ("DL001", [row(USER, LONG)], [SOUND]),
    ("DL006", [row(USER, LONG)], [row(ask(LONG["content"]), ANSWER)]),
    ("DL007", [row(ask("word " * 2000), ANSWER)], [row(ask("word " * 900), ANSWER)]),
    ("DL007", [row(ask("word " * 2000), ANSWER)], [row(ask("word " * 2000), LONG_ANSWER)]),
    ("DL008", [row(USER, ANSWER)], [row(USER, LONG)]),
    ("DL008", [row(USER, ANSWER, USER, ANSWER)], [row(USER, ANSWER, USER, LONG)]),
    ("DL009", [row(USER, LONG_ANSWER), row(USER, LONGER)], [row(USER, LONG_ANSWER)] * 2),
]


def fired(
    lines: list[bytes], tmp_path: Path, family: Family, tokenizer: Tokenizer
) -> dict[str, Finding]:
    """What an audit finds in these lines and a sound one, so that there is always one."""
    other = row(USER, {**ANSWER, "content": "a sound one"})
    (tmp_path / "a.jsonl").write_bytes(b"\n".join([*lines, other]))
    result = audit.audit(
        Source(paths=[str(tmp_path / "a.jsonl")]),
        family=family,
        tokenizer=tokenizer,
        max_length=20,
    )
    return {finding.rule: finding for finding in result.findings}


@pytest.mark.parametrize(
    ("name", "broken", "sound"), CASES, ids=[f"{name}-{i}" for i, (name, _, _) in enumerate(CASES)]
)
def test_a_rule_fires_where_it_should_and_only_there(
    name: str,
    broken: list[bytes],
    sound: list[bytes],
    tmp_path: Path,
    family: Family,
    tokenizer: Tokenizer,
) -> None:
    finding = fired(broken, tmp_path, family, tokenizer).get(name)
    assert finding is not None
    assert finding.data["count"] == 1
    assert finding.examples[0].where.startswith(f"{tmp_path / 'a.jsonl'}:")
    assert "{" not in finding.evidence
    assert name not in fired(sound, tmp_path, family, tokenizer)


@pytest.mark.parametrize(
    ("check", "table", "expected"),
    [
        (lengths.too_long(10), {"tokens": [10, 11]}, [False, True]),
        (lengths.no_labels(), {"supervised": [1, 0]}, [False, True]),
        (lengths.exchange_too_long(10), {"tokens": [10, 11]}, [False, True]),
        (lengths.header_too_long(10), {"tokens": [9, 10]}, [False, True]),
        (lengths.prompt_shortened(10), {"tokens": [10, 11]}, [False, True]),
    ],
    ids=["DL001", "DL002", "DL003", "DL004", "DL005"],
)
def test_a_limit_is_passed_by_one_token(
    check: pl.Expr, table: dict[str, list[int]], expected: list[bool]
) -> None:
    assert pl.DataFrame(table).select(check).to_series().to_list() == expected


def test_every_rule_on_data_is_named_by_a_test() -> None:
    tests = "".join(path.read_text("utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    ours = [rule for rule in RULES.values() if rule.check.__module__.startswith("glmprep.")]
    named = [rule.id in tests or rule.check.__name__ in tests for rule in ours]
    assert [rule.id for rule, known in zip(ours, named, strict=True) if not known] == []


def test_a_conversation_with_an_error_is_rejected_and_one_with_a_warning_goes_on(
    tmp_path: Path, family: Family, tokenizer: Tokenizer
) -> None:
    lines = [row(USER, USER, ANSWER), row(USER, ANSWER, USER), SOUND]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    source = Source(paths=[str(tmp_path / "a.jsonl")])
    result = audit.audit(source, family=family, tokenizer=tokenizer)
    assert result.table["where"].to_list() == [f"{tmp_path / 'a.jsonl'}:{n}" for n in (2, 3)]
    assert [(r.rule, r.origin.line) for r in result.rejections] == [("DF101", 1)]
    assert {f.rule: f.severity for f in result.findings} == {
        "DF101": Severity.ERROR,
        "DF108": Severity.WARNING,
        "DL008": Severity.INFO,
    }


def test_texts_of_every_rule_are_whole() -> None:
    for found in RULES.values():
        assert found.title.endswith(".")
        assert found.why.endswith(".")
        assert found.fix.endswith((".", "…"))


def test_a_rule_without_its_texts_or_with_a_taken_id_is_refused() -> None:
    def untold() -> None:
        """A title alone."""

    with pytest.raises(ValueError, match=r"lacks \['evidence', 'fix', 'why'\]"):
        rule("XX999", Severity.INFO)(untold)
    assert "XX999" not in RULES
    with pytest.raises(ValueError, match="exists already"):
        rule("DF101", Severity.INFO)(untold)
