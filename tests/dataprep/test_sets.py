"""What conversations of a set have in common is found, and nothing is called common that is not."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from glmprep import sets
from glmprep.audit import audit
from glmprep.errors import InputError
from glmprep.families import Family
from glmprep.findings import RULES, Finding, Severity
from glmprep.labels import tokenize
from glmprep.parse import parse
from glmprep.read import read
from glmprep.records import Conversation, Message, Origin
from glmprep.sets.fingerprints import FEW_WORDS, Fingerprints
from glmprep.source import Source
from glmprep.tokenizer import Tokenizer
from glmreport.text import placeholders, rule_text

from .chats import TOOL, chat, write
from .test_segment import replaying, run

PLACE = "我和同事最近总是吵架，每次开会都不欢而散，我不知道该怎么开口和他谈这件事情。"
STORY = (
    "The old lighthouse keeper climbed the winding stairs every evening at dusk, lit the lamp and "
    "watched the grey ships pass along the coast until the morning fog swallowed them again."
)
REPLY = "I am sorry to hear that; could you tell me a little more about what happened?"
WORDS = "amber basin cedar delta ember fable grove heron inlet jetty kayak lemon maple nylon"


def asked(question: str, *answers: str, system: str = "", **more: Any) -> Conversation:
    """A question and its answer, or several with `And then?` between them."""
    turns: list[Any] = [("system", system)] if system else []
    for place, answer in enumerate(answers):
        turns += [("user", question if place == 0 else "And then?"), ("assistant", answer)]
    return chat(*turns, **more)


def placed(chats: Sequence[Conversation], path: str = "a.jsonl") -> list[Conversation]:
    """The conversations, each on a line of its own."""
    return [replace(c, origin=Origin(path, line)) for line, c in enumerate(chats, 1)]


def taken(rows: Sequence[Conversation], family: Family, tokenizer: Tokenizer) -> Fingerprints:
    made = Fingerprints()
    made.add(rows, tokenize(rows, family, tokenizer))
    return made


def found(
    rows: Sequence[Conversation],
    family: Family,
    tokenizer: Tokenizer,
    evaluation: Fingerprints | None = None,
) -> dict[str, Finding]:
    """What the collectors say of rows that come in batches of seven."""
    collectors = sets.set_collectors(evaluation)
    for place in range(0, len(rows), 7):
        batch = rows[place : place + 7]
        tokens = tokenize(batch, family, tokenizer)
        for collector in collectors:
            collector.add(batch, tokens)
    return {
        hit.rule.id: hit.rule.finding(
            "a.jsonl", examples=tuple(hit.examples), count=hit.count, rows=hit.rows, **hit.data
        )
        for collector in collectors
        for hit in collector.hits()
    }


def sentence(number: int) -> str:
    """A long sentence that differs from all others."""
    drawn = random.Random(number)
    return " ".join(drawn.choices(WORDS.split(), k=30)) + f" {number}"


UNLIKE = [asked(sentence(-n), sentence(-n - 100)) for n in range(1, 4)]
GLM, GPT = "我是 ChatGLM，由智谱 AI 训练的语言模型。", "我是ChatGPT，由OpenAI训练的语言模型。"
TOLD = "你是小智，一个由小米公司开发的AI助手。"
TELLS = "你好！我是小智，一个由小米公司开发的AI助手，有什么可以帮您？"
Case = tuple[str, list[Conversation], list[Conversation], int]
CASES: list[Case] = [
    ("DF201", [asked(STORY, REPLY)] * 3, [asked(STORY, REPLY), asked(STORY, "No.")], 2),
    ("DF201", [asked("hi", "yo", tools=[TOOL])] * 2, [asked("hi", "yo", tools=[TOOL])], 1),
    (
        "DF202",
        [asked(STORY, REPLY), asked(STORY, REPLY + " Please!")],
        [asked(STORY, REPLY)] * 2,
        2,
    ),
    ("DF202", [asked(PLACE * 3, STORY), asked(PLACE * 3, STORY + "!")], [asked(PLACE, STORY)], 2),
    (
        "DF202",
        [asked(STORY, REPLY, system=sentence(1)), asked(STORY, REPLY, system=sentence(2))],
        [asked(sentence(1), REPLY, system=STORY), asked(sentence(2), REPLY, system=STORY)],
        2,
    ),
    ("DF203", [asked(STORY, REPLY), asked(STORY, PLACE)], [asked(STORY, REPLY)] * 2, 2),
    (
        "DF203",
        [asked(STORY, REPLY, system="a"), asked(STORY, PLACE, system="a")],
        [asked(STORY, REPLY, system="a"), asked(STORY, PLACE, system="b")],
        2,
    ),
    (
        "DF203",
        [asked(STORY, REPLY, tools=[TOOL]), asked(STORY, PLACE, tools=[TOOL])],
        [asked(STORY, REPLY, tools=[TOOL]), asked(STORY, PLACE)],
        2,
    ),
    (
        "DF205",
        [asked(PLACE, sentence(1)), asked(PLACE, sentence(2))],
        [asked("你好", sentence(1)), asked("你好", sentence(2))],
        2,
    ),
    (
        "DF209",
        [asked(sentence(n), REPLY) for n in range(21)],
        [asked(sentence(n), REPLY) for n in range(20)],
        21,
    ),
    (
        "DF209",
        [asked(sentence(n), sentence(-n), REPLY + str(n % 2)) for n in range(42)]
        + [asked(sentence(n), REPLY) for n in range(50, 71)],
        [asked(sentence(n), "Have a nice day!") for n in range(21)],
        21,
    ),
    (
        "DF211",
        [asked(f"Is this review good or bad? {STORY}", label) for label in ("good", "bad")],
        [asked("hi", "yo"), asked("hi", "hello")],
        2,
    ),
    (
        "DF211",
        [asked(PLACE, label) for label in ("正面", "负面")],
        [asked(PLACE, "正面"), asked(PLACE, PLACE)],
        2,
    ),
    (
        "DF206",
        [asked(sentence(1), "a", system=TOLD), asked(sentence(2), "b", system="你是ChatGPT。")],
        [asked(sentence(1), "a", system=TOLD), asked(sentence(2), "b", system="你是一个助手。")],
        2,
    ),
    ("DF207", [asked("hi", GLM), asked("yo", GPT)], [asked("hi", GLM), asked("yo", GLM)], 4),
    (
        "DF207",
        [asked("hi", "I am {{name}}."), asked("yo", GLM)],
        [asked("hi", "I am {{name}}."), asked("yo", "我是 {{name}}。")],
        2,
    ),
    (
        "DF208",
        [asked("你是谁？", GPT, system=TOLD)],
        [asked("你是谁？", TELLS, system=TOLD), asked("你是谁？", GPT, system="你是老师。")],
        1,
    ),
    ("DF212", [asked("hi", "As Claude, I cannot do that.")], [asked("hi", GLM)], 1),
    (
        "DF212",
        [asked("hi", "I'm a language model developed by OpenAI.")],
        [asked("hi", "You are Claude.", system="You are Claude."), asked("hi", "Is it ChatGPT?")],
        1,
    ),
]


@pytest.mark.parametrize(
    ("name", "broken", "sound", "count"), CASES, ids=[f"{c[0]}-{i}" for i, c in enumerate(CASES)]
)
def test_a_rule_fires_where_it_should_and_only_there(
    name: str,
    broken: list[Conversation],
    sound: list[Conversation],
    count: int,
    family: Family,
    tokenizer: Tokenizer,
) -> None:
    finding = found(placed([*UNLIKE, *broken]), family, tokenizer).get(name)
    assert finding is not None
    assert finding.data["count"] == count
    assert finding.examples
    assert all(example.where.startswith("a.jsonl:") for example in finding.examples)
    assert "{" not in finding.evidence.replace("{{name}}", "")
    assert name not in found(placed([*UNLIKE, *sound]), family, tokenizer)


def test_every_rule_here_has_a_case_and_a_chinese_text_with_the_same_numbers() -> None:
    here = {
        name
        for name, rule in RULES.items()
        if rule.check.__module__ in ("glmprep.rules.sets", "glmprep.rules.identity")
    }
    assert here == {name for name, _, _, _ in CASES} | {"DF204", "DF210"}
    for name in here:
        texts = rule_text(name, "zh") or {}
        for part in ("evidence", "fix"):
            assert placeholders(texts[part]) == placeholders(getattr(RULES[name], part))


def test_examples_name_both_places_and_how_much_they_agree(
    family: Family, tokenizer: Tokenizer
) -> None:
    rows = placed([asked(STORY, REPLY), *UNLIKE, asked(STORY, REPLY + " Please!")])
    rows += placed([asked(STORY, REPLY)], "b.jsonl")
    hits = found(rows, family, tokenizer)
    assert [(e.where, e.excerpt) for e in hits["DF201"].examples] == [("b.jsonl:1", "= a.jsonl:1")]
    (near,) = hits["DF202"].examples
    assert near.where == "a.jsonl:5"
    assert near.excerpt.endswith("% like a.jsonl:1")
    assert hits["DF203"].examples[0].excerpt == "×2, a.jsonl:5"


def test_copies_are_not_counted_again_as_near_copies_or_shared_openings(
    family: Family, tokenizer: Tokenizer
) -> None:
    assert set(found(placed([asked(STORY, REPLY)] * 2), family, tokenizer)) == {"DF201"}


def test_a_copy_that_is_trained_otherwise_is_no_exact_one(
    family: Family, tokenizer: Tokenizer
) -> None:
    one = asked(STORY, REPLY, REPLY)
    untrained = replace(one.messages[1], untrained="weight")
    other = replace(one, messages=(one.messages[0], untrained, *one.messages[2:]))
    assert "DF201" not in found(placed([one, other]), family, tokenizer)


def test_rows_that_a_family_makes_of_one_conversation_are_one_conversation(
    family: Family, tokenizer: Tokenizer
) -> None:
    one = asked(STORY, sentence(1), sentence(2), sentence(3))

    def rows(line: int) -> list[Conversation]:
        places = replace(one, origin=Origin("a.jsonl", line))
        ends = ((1, 2), (2, 4), (3, 6))
        return [replace(places, id=f"x@{n}", messages=one.messages[:end]) for n, end in ends]

    assert found(rows(1), family, tokenizer) == {}
    twice = found([*rows(1), *rows(2)], family, tokenizer)
    assert {name: finding.data["count"] for name, finding in twice.items()} == {"DF201": 1}


@pytest.mark.parametrize("overlap", [0, 2])
def test_segments_of_one_conversation_are_one_conversation(
    overlap: int, tmp_path: Path, family: Family, tokenizer: Tokenizer
) -> None:
    same = STORY if overlap else ""
    turns = [(role, same or sentence(n)) for n in range(12) for role in ("user", "assistant")]
    whole = chat(("system", "Tell stories."), *turns)  # type: ignore[arg-type]
    cutting = replaying(260, overlap, 100)
    _, segments = run(tmp_path, [whole], family, tokenizer, cutting)
    assert len(segments) > 3
    assert found(segments, family, tokenizer) == {}


def test_ids_that_merely_look_like_segments_are_compared(
    family: Family, tokenizer: Tokenizer
) -> None:
    rows = [replace(c, id=f"chat#{c.origin.line}") for c in placed([asked(STORY, REPLY)] * 3)]
    assert found(rows, family, tokenizer)["DF201"].data["count"] == 2


def test_copies_of_training_data_in_the_evaluation_set_are_found(
    family: Family, tokenizer: Tokenizer
) -> None:
    known = placed([*UNLIKE, asked(STORY, REPLY), asked(PLACE, REPLY)])
    apart = placed(
        [
            asked(STORY, REPLY),
            asked(STORY, REPLY + " Please!"),
            asked(PLACE, sentence(1)),
            asked(sentence(2), sentence(3)),
        ],
        "eval.jsonl",
    )
    hits = found(known, family, tokenizer, taken(apart, family, tokenizer))
    assert hits["DF204"].severity is Severity.ERROR
    assert hits["DF204"].data == {"count": 2, "rows": 2, "exact": 1, "evaluated": 4}
    first, second = hits["DF204"].examples
    assert (first.where, first.excerpt) == ("eval.jsonl:1", "100% like a.jsonl:4")
    assert (second.where, second.excerpt[-14:]) == ("eval.jsonl:2", "like a.jsonl:4")
    assert hits["DF210"].data == {"count": 1, "rows": 1, "evaluated": 4}
    (opening,) = hits["DF210"].examples
    assert (opening.where, opening.excerpt) == ("eval.jsonl:3", "~ a.jsonl:5")


def test_an_evaluation_set_that_is_apart_and_has_copies_of_its_own_is_no_leak(
    family: Family, tokenizer: Tokenizer
) -> None:
    apart = placed([asked(STORY, REPLY)] * 2 + [asked("hi", "hello")], "eval.jsonl")
    known = placed([*UNLIKE, asked("hi", "yo")])
    hits = found(known, family, tokenizer, taken(apart, family, tokenizer))
    assert not {"DF204", "DF210"} & set(hits)


def test_an_evaluation_set_is_read_as_the_data_is(
    tmp_path: Path, family: Family, tokenizer: Tokenizer
) -> None:
    path = write(tmp_path / "eval.jsonl", [asked(STORY, REPLY)])
    read_back = sets.held_out(Source(paths=[path]), family=family, tokenizer=tokenizer)
    assert read_back.table.height == 1
    assert read_back.where(0) == f"{path}:1"
    (tmp_path / "eval.jsonl").write_text("{}\n")
    with pytest.raises(InputError, match=r"eval\.jsonl: no row can be trained on"):
        sets.held_out(Source(paths=[path]), family=family, tokenizer=tokenizer)


def test_nothing_is_found_in_nothing(family: Family, tokenizer: Tokenizer) -> None:
    assert found([], family, tokenizer) == {}
    assert found(placed(UNLIKE[:1]), family, tokenizer, Fingerprints()) == {}


def test_claims_in_untrained_answers_are_not_counted(family: Family, tokenizer: Tokenizer) -> None:
    one = asked("hi", GPT, GLM)
    untrained: Message = replace(one.messages[1], untrained="weight")
    masked = replace(one, messages=(one.messages[0], untrained, *one.messages[2:]))
    assert set(found(placed([one]), family, tokenizer)) == {"DF207", "DF212"}
    assert found(placed([masked]), family, tokenizer) == {}


def test_an_audit_tells_what_the_collectors_find(
    tmp_path: Path, family: Family, tokenizer: Tokenizer
) -> None:
    path = write(tmp_path / "a.jsonl", [*UNLIKE, asked(STORY, REPLY), asked(STORY, REPLY)])
    apart = write(tmp_path / "b.jsonl", [asked(STORY, REPLY)])
    result = audit(
        Source(paths=[path]),
        family=family,
        tokenizer=tokenizer,
        evaluation=Source(paths=[apart]),
    )
    assert {"DF201", "DF204"} <= {finding.rule for finding in result.findings}
    assert not result.rejections


def real(path: str, roles: dict[str, str] | None = None) -> list[Conversation]:
    return [one for one in parse(read([path]), roles) if isinstance(one, Conversation)]


@pytest.fixture(scope="module", params=["counselling", "toolcalls"])
def sample(
    request: pytest.FixtureRequest, family: Family, tokenizer: Tokenizer
) -> tuple[list[Conversation], dict[str, Finding]]:
    """Some real dialogues, and what is found in them."""
    rows = real(f"sample:{request.param}")[:400]
    return rows, found(rows, family, tokenizer)


def test_real_dialogues_share_as_many_openings_as_a_plain_count_tells(
    sample: tuple[list[Conversation], dict[str, Finding]],
) -> None:
    rows, hits = sample
    different = {(c.messages, str(c.tools)): c for c in rows}.values()
    firsts = (next((m for m in c.messages if m.role == "user"), None) for c in different)
    counts = Counter(m.content.strip() for m in firsts if m)
    shared = [n for text, n in counts.items() if n > 1 and len(text.encode()) > FEW_WORDS]
    assert (hits["DF205"].data["count"], hits["DF205"].data["groups"]) == (sum(shared), len(shared))


def test_real_dialogues_claim_no_identity_and_have_no_shuffled_answers(
    sample: tuple[list[Conversation], dict[str, Finding]],
) -> None:
    assert set(sample[1]) <= {"DF201", "DF202", "DF203", "DF205"}
