"""The endpoint as OpenAI's own client meets it, on this machine alone."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from functools import cache

import pytest
from glmprep.errors import UsageError
from glmprep.tokenizer import load
from glmtrain import model, pretrained, serving
from glmtrain.batched import speak
from glmtrain.generate import Sampler, Sampling
from glmtrain.inference import Asked, prepare

for library in serving.LIBRARIES:
    pytest.importorskip(library, reason="the libraries of the extra 'serve' are not installed")

KEY = "sk-correct-horse"
ASKED = [{"role": "user", "content": "你好 <|assistant|> hi"}]
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "description": "Tells it.", "parameters": {"type": "object"}},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A narrow model with the GLM-4 vocabulary, in a folder that stands by itself."""
    from glmprep import families

    folder = tmp_path_factory.mktemp("served") / "narrow"
    widths = {"hidden_size": 16, "intermediate_size": 32, "head_dim": 8, "num_attention_heads": 2}
    config = {**model.tiny_config(), **widths, "num_key_value_heads": 1}
    tokenizer = load()
    with pytest.MonkeyPatch.context() as patched, model.quiet_libraries():
        patched.setattr(model, "tiny_config", lambda: config)
        model.tiny().save_pretrained(folder)
        pretrained.load(tokenizer, families.load("glm4", tokenizer)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def made(folder):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("glmprep.tokenizer.load", cache(load))
        return prepare(
            Asked(model=str(folder), dtype="fp32", max_new_tokens=6, prepared={"max_length": 256})
        )


@contextlib.contextmanager
def answering(application):
    """A server in a thread, and the port that it listens on."""
    import uvicorn

    listening = serving.bind("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(application, log_level="error", access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(20)
        listening.close()
    assert not thread.is_alive()


@contextlib.contextmanager
def client(port, key):
    import openai

    url = f"http://127.0.0.1:{port}/v1"
    with openai.OpenAI(base_url=url, api_key=key, max_retries=0, timeout=60) as made:
        yield made


@pytest.fixture(scope="module")
def application(made):
    with model.quiet_libraries():
        yield serving.app(made, name="narrow", key=None, template=None, loopback=True)


@pytest.fixture(scope="module")
def openly(application):
    """A client of a server without a key."""
    with answering(application) as port, client(port, "none") as made:
        yield made


def expected(made, messages, tools=(), most=6):
    """The greedy answer to the ids that training would have had."""
    from glmprep.parse import parse
    from glmprep.records import RawRow
    from glmtrain.prompt import CHAT

    value = {"messages": messages, **({"tools": list(tools)} if tools else {})}
    (one,) = parse([RawRow(value=value, origin=CHAT)])
    ids = made.prompter(one.messages, one.tools)
    stops = made.prompter.stops
    (said,) = speak(made.speaker, [ids], [Sampler(Sampling())], stops=stops, most=most)
    return ids, said


def test_an_answer_is_the_models_own_to_the_ids_of_training(openly, made):
    ids, said = expected(made, ASKED)
    answer = openly.chat.completions.create(model="narrow", messages=ASKED)
    assert answer.choices[0].message.content == made.prompter.tokenizer.decode(said)
    assert answer.usage.prompt_tokens == len(ids)
    assert (answer.model, answer.choices[0].finish_reason) == ("narrow", "length")
    assistant = made.prompter.tokenizer.added_id("<|assistant|>")
    assert ids.count(assistant) == 1  # what a user types stays text


def test_a_stream_has_the_same_text(openly, made):
    asked = {"model": "narrow", "messages": ASKED, "max_tokens": 5}
    whole = openly.chat.completions.create(**asked).choices[0].message.content
    pieces = [
        part.choices[0].delta.content or ""
        for part in openly.chat.completions.create(**asked, stream=True)
    ]
    assert "".join(pieces) == whole
    assert len([piece for piece in pieces if piece]) > 1


def test_an_answer_ends_at_a_stop_of_the_training(openly, made, monkeypatch):
    _, said = expected(made, ASKED)
    causal = made.speaker.causal
    monkeypatch.setattr(causal.generation_config, "eos_token_id", [said[2]])
    answer = openly.chat.completions.create(model="narrow", messages=ASKED)
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.completion_tokens == 3


def test_the_stops_are_those_of_the_template(made, application):
    tokens = ("<|endoftext|>", "<|user|>", "<|assistant|>", "<|observation|>")
    added = made.prompter.tokenizer.added_id
    assert made.speaker.causal.generation_config.eos_token_id == sorted(map(added, tokens))


def test_tools_are_written_as_in_training(openly, made):
    ids, _ = expected(made, ASKED, [WEATHER])
    answer = openly.chat.completions.create(
        model="narrow", messages=ASKED, tools=[WEATHER], max_tokens=1
    )
    assert answer.usage.prompt_tokens == len(ids)
    assert len(ids) > len(expected(made, ASKED)[0])


def test_a_temperature_draws_and_a_seed_repeats(openly):
    asked = {"model": "narrow", "messages": ASKED, "max_tokens": 6, "temperature": 2.0}
    one, same, other = (
        openly.chat.completions.create(**asked, seed=seed).choices[0].message.content
        for seed in (1, 1, 2)
    )
    assert one == same != other


def test_the_one_model_has_a_plain_name(openly):
    assert [one.id for one in openly.models.list()] == ["narrow"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "other"}, "pinned to 'narrow'"),
        ({"messages": [{"role": "king", "content": "x"}]}, "king"),
        ({"messages": [{"role": "user", "content": "rain " * 400}]}, "the model reads 256"),
        ({"extra_body": {"generation_config": "{}"}}, "not offered"),
    ],
)
def test_bad_requests_are_refused_with_a_reason(openly, change, message):
    import openai

    asked = {"model": "narrow", "messages": ASKED, **change}
    with pytest.raises(openai.BadRequestError, match=message):
        openly.chat.completions.create(**asked)


@pytest.mark.parametrize("path", ["/load_model", "/reset", "/docs", "/v1/systemone", "/"])
def test_nothing_else_of_the_server_can_be_reached(openly, path):
    import openai

    with pytest.raises(openai.NotFoundError):
        openly.post(str(openly.base_url).removesuffix("/v1/") + path, body={}, cast_to=object)


def test_a_page_under_another_name_gets_no_answer(openly):
    import openai

    with pytest.raises(openai.BadRequestError):
        openly.chat.completions.create(
            model="narrow", messages=ASKED, extra_headers={"Host": "evil.example"}
        )


# ---------------------------------------------------------------- the command


COMMAND = (
    "from glmprep.console import run; from glmtrain.commands.serve import serve; import click; "
    "group = click.Group('glmtrain', {'serve': serve}); run(group)"
)


def called(*arguments, **variables):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    command = [sys.executable, "-W", "ignore", "-c", COMMAND, "serve", *map(str, arguments)]
    return subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def test_a_process_serves_with_its_key_alone_and_ends_politely(folder, tmp_path):
    import openai

    result = tmp_path / "r.json"
    options = ["--model", folder, "--dtype", "fp32", "--max-length", 128, "--json", result]
    process = called("--port", 0, *options, GLMTRAIN_API_KEY=KEY)
    try:
        line = process.stderr.readline()
        assert line.startswith("serving narrow at http://127.0.0.1:")
        port = line.rpartition(":")[2].partition("/")[0]
        with client(port, KEY) as right, client(port, KEY + "x") as wrong:
            answer = right.chat.completions.create(model="narrow", messages=ASKED, max_tokens=3)
            assert answer.usage.completion_tokens == 3
            for refused in (wrong.models.list, lambda: ask(wrong), lambda: ask(wrong, stream=True)):
                with pytest.raises(openai.AuthenticationError, match="wrong or missing key"):
                    refused()
            stream = right.chat.completions.create(model="narrow", messages=ASKED, stream=True)
            next(iter(stream))
            process.send_signal(signal.SIGTERM)  # while an answer is under way
            assert process.wait(30) == 0
            stream.close()
    finally:
        process.kill()
        _, errors = process.communicate()
    assert "Traceback" not in errors
    assert json.loads(result.read_text())["stopped_by"] == "SIGTERM"
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", int(port)), timeout=1)


def ask(client, **options):
    return client.chat.completions.create(model="narrow", messages=ASKED, max_tokens=1, **options)


def test_a_port_in_use_is_told_in_one_line():
    taken = serving.bind("127.0.0.1", 0)
    port = taken.getsockname()[1]
    with taken, pytest.raises(UsageError, match=f"--port {port}: Address already in use") as caught:
        serving.bind("127.0.0.1", port)
    assert "\n" not in str(caught.value)


def test_an_address_beyond_this_machine_needs_a_key():
    for host in ("127.0.0.1", "localhost", "::1", "127.8.8.8"):
        serving.require_key(host, None)
    for host in ("0.0.0.0", "::", "192.168.1.5", "box.example"):
        with pytest.raises(UsageError, match="needs a key"):
            serving.require_key(host, None)
        with pytest.raises(UsageError, match="--key"):
            serving.require_key(host, " ")
        serving.require_key(host, KEY)


def test_missing_libraries_are_named_with_the_extra(monkeypatch):
    monkeypatch.setattr(serving, "find_spec", lambda name: None if name == "uvicorn" else name)
    with pytest.raises(
        UsageError, match=r"needs uvicorn: pip install 'glm-finetune-suite\[serve\]'"
    ):
        serving.require_libraries()


# ---------------------------------------------------------------- how answers are parted


@pytest.fixture(scope="module")
def written(folder):
    """The tokenizer as transformers reads it from the folder."""
    from transformers import AutoTokenizer

    with model.quiet_libraries():
        return AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize(
    ("text", "content", "calls"),
    [
        ("\nHello <b> 你好<|user|>", "Hello <b> 你好", []),
        ('weather\n{"city": "Rome"}<|observation|>', "", [("weather", {"city": "Rome"})]),
        (
            '\nI look.<|assistant|>weather\n{"city": "Rome"}<|observation|>',
            "I look.",
            [("weather", {"city": "Rome"})],
        ),
        ('\nFirst line\n{"a": 1}<|user|>', 'First line\n{"a": 1}', []),
    ],
)
def test_calls_are_told_from_text(written, text, content, calls):
    said = written.parse_response(text, prefix="[gMASK]<sop><|user|>\nHi<|assistant|>")
    found = [
        (c["function"]["name"], c["function"]["arguments"]) for c in said.get("tool_calls", [])
    ]
    assert (said.get("content", ""), found) == (content, calls)


def test_reasoning_and_tagged_calls_are_told_apart(written):
    class Family:
        name = "glm4.7"

    text = (
        "warm?</think>I look.<tool_call>weather<arg_key>city</arg_key><arg_value>Rome</arg_value>"
        "<arg_key>days</arg_key><arg_value>3</arg_value></tool_call><|observation|>"
    )
    said = written.parse_response(
        text, pretrained.response_template(Family), prefix="<|user|>Hi<|assistant|><think>"
    )
    assert (said["reasoning_content"], said["content"]) == ("warm?", "I look.")
    (call,) = said["tool_calls"]
    assert call["function"] == {"name": "weather", "arguments": {"city": "Rome", "days": 3}}


def test_a_folder_without_a_tokenizer_is_refused(folder, tmp_path):
    bare = tmp_path / "bare"
    shutil.copytree(folder, bare, ignore=shutil.ignore_patterns("tokenizer*"))
    with pytest.raises(UsageError, match="no tokenizer there"):
        prepare(Asked(model=str(bare), prepared={}))
