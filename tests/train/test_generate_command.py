"""Answers to many questions: each as it would be alone, in the order of the input."""

from __future__ import annotations

import io
import json
import sys
from functools import cache

import pytest
from glmprep.errors import InputError, UsageError
from glmprep.records import Conversation, Message, Origin
from glmprep.tokenizer import load
from glmtrain import model
from glmtrain.answering import Answering, question
from glmtrain.batched import speak
from glmtrain.commands.generate import generate
from glmtrain.generate import Sampler, Sampling
from glmtrain.inference import Asked, prepare

read_once = cache(load)
tiny_config = model.tiny_config
TEXTS = ["Hi", "你好,今天天气怎么样?", "Why is the sky blue? " * 5, "And the sea", "A" * 90]


@pytest.fixture(scope="module", autouse=True)
def narrow():
    """A tiny model that is narrower still; it has the same vocabulary."""
    widths = {"hidden_size": 16, "intermediate_size": 32, "head_dim": 8, "num_attention_heads": 2}
    config = {**tiny_config(), **widths, "num_key_value_heads": 1}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(model, "tiny_config", lambda: config)
        patched.setattr("glmprep.tokenizer.load", read_once)
        yield


@pytest.fixture(scope="module")
def made():
    return prepare(
        Asked(model="tiny", dtype="fp32", max_new_tokens=8, prepared={"max_length": 256})
    )


def prompts_of(made):
    return [made.prompter([Message(role="user", content=text)]) for text in TEXTS]


def alone(made, ids, sampling, stops):
    return list(made.speaker.tokens(ids, Sampler(sampling), stops=stops, most=8))


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=1.3, top_k=3, seed=7)])
def test_a_batch_says_what_each_prompt_alone_would_say(made, sampling):
    prompts = prompts_of(made)
    stops = made.prompter.stops
    apart = [alone(made, ids, sampling, stops) for ids in prompts]
    # Some of these tokens as stops make rows end apart from each other.
    early = {apart[0][2], apart[3][5]}
    for ends in (stops, early):
        apart = [alone(made, ids, sampling, ends) for ids in prompts]
        samplers = [Sampler(sampling) for _ in prompts]
        assert speak(made.speaker, prompts, samplers, stops=ends, most=8) == apart
    assert len({len(tokens) for tokens in apart}) > 1


def conversation(*messages, tools=(), name="c"):
    said = tuple(Message(role=role, content=text) for role, text in messages)
    return Conversation(id=name, messages=said, tools=tools, origin=Origin("f", 1))


def test_answers_keep_the_order_and_do_not_depend_on_the_batch(made):
    asked = [conversation(("user", text), name=text) for text in TEXTS]
    sampling = Sampling(temperature=1.0, top_k=3)
    one, many = (list(Answering(made=made, sampling=sampling, rows=n)(asked)) for n in (1, 3))
    assert [answered.conversation.id for answered in many] == TEXTS
    assert [a.conversation.messages for a in one] == [a.conversation.messages for a in many]
    assert len({a.conversation.messages[-1].content for a in many}) == len(TEXTS)


def test_what_was_said_after_the_last_question_is_left_out():
    said = [("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
    assert [m.content for m in question(conversation(*said)).messages] == ["s", "a", "b", "c"]
    assert question(conversation(("system", "s"))).messages == ()


def test_what_cannot_be_answered_is_told(made):
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    asked = [
        conversation(("system", "s")),
        conversation(("user", "rain " * 400)),
        conversation(("user", "rain " * 200), ("assistant", "x"), ("user", "Hi")),
        conversation(("user", "rain " * 240), ("assistant", "x"), ("user", "Hi"), tools=(tool,)),
    ]
    answers = list(Answering(made=made, sampling=Sampling())(asked))
    assert [one.ended for one in answers] == ["no question", "too long", "length", "too long"]
    assert answers[1].conversation.messages == asked[1].messages


def test_tools_are_shown_to_the_model(made):
    tool = {"type": "function", "function": {"name": "weather", "parameters": {}}}
    plain, offered = (
        next(Answering(made=made, sampling=Sampling())([conversation(("user", "Hi"), tools=tools)]))
        for tools in ((), (tool,))
    )
    assert offered.prompt_tokens > plain.prompt_tokens + 10


# ---------------------------------------------------------------- the command


@pytest.fixture
def call(monkeypatch, capsys):
    """Calls the command: status, what is on standard output."""

    def call(*arguments, lines=b""):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
        options = ["--model", "tiny", "--dtype", "fp32", "--max-new-tokens", "3"]
        with pytest.raises(SystemExit) as end:
            generate.main([*map(str, arguments), *options], standalone_mode=False)
        return end.value.code, capsys.readouterr().out

    return call


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_conversations_are_answered_as_json_lines(call, tmp_path):
    data, target = tmp_path / "data.jsonl", tmp_path / "out.jsonl"
    said = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    data.write_text(json.dumps({"id": "one", "messages": said}) + "\n")
    status, out = call(data, "-o", target, "--json", tmp_path / "r.json")
    (row,) = rows(target)
    assert status == 0
    assert "1 conversations in" in out
    assert row["id"] == "one"
    assert [message["role"] for message in row["messages"]] == ["user", "assistant"]
    assert row["messages"][1]["content"] != "Hello"
    assert (row["ended"], row["stop"], row["answer_tokens"]) == ("length", None, 3)
    assert row["seconds"] > 0
    result = json.loads((tmp_path / "r.json").read_text())
    assert (result["conversations"], result["answer_tokens"]) == (1, 3)
    assert result["tokens_per_second"] > 0


def test_prompts_and_lines_are_questions(call, tmp_path):
    for number, (arguments, lines) in enumerate(
        [(["--prompt", "Hi", "--prompt", "你好"], b""), (["-"], "Hi\r\n\n你好\n".encode())]
    ):
        target = tmp_path / f"{number}.jsonl"
        status, _ = call(
            *arguments, "--system", "Be brief.", "-o", target, "--batch", 2, lines=lines
        )
        assert status == 0
        asked = [[m["content"] for m in row["messages"][:2]] for row in rows(target)]
        assert asked == [["Be brief.", "Hi"], ["Be brief.", "你好"]]
    first, second = (rows(tmp_path / f"{number}.jsonl") for number in (0, 1))
    assert [row["messages"] for row in first] == [row["messages"] for row in second]


def test_rows_that_are_no_conversations_make_the_status_1(call, tmp_path):
    data, target = tmp_path / "data.jsonl", tmp_path / "out.jsonl"
    data.write_text('{"nonsense": 1}\n{"messages": [{"role": "user", "content": "Hi"}]}\n')
    status, out = call(data, "-o", target)
    assert status == 1
    assert len(rows(target)) == 1
    assert f"1 rows are no conversations; the first is {data}:1" in out


@pytest.mark.parametrize(
    ("arguments", "lines", "message"),
    [
        ([], b"", "name files, or -"),
        (["-", "--prompt", "x"], b"", "name files, or -"),
        (["nowhere.jsonl"], b"", "nowhere.jsonl"),
        (["-"], b"\xff\xfe\n", "standard input:1: not UTF-8"),
        (["--prompt", "x", "--temperature", "-1"], b"", "--temperature"),
    ],
)
def test_wrong_calls_are_refused_and_write_nothing(
    call, arguments, lines, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((UsageError, InputError), match=message):
        call(*arguments, "-o", "out.jsonl", lines=lines)
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_is_there_is_kept(call, tmp_path):
    target = tmp_path / "out.jsonl"
    target.write_text("mine")
    with pytest.raises(UsageError, match="pass --overwrite"):
        call("--prompt", "Hi", "-o", target)
    assert target.read_text() == "mine"
    assert call("--prompt", "Hi", "-o", target, "--overwrite")[0] == 0
