"""The chat as a person or a pipe meets it."""

from __future__ import annotations

import io
import json
import shutil
import signal
import sys
from functools import cache
from pathlib import Path

import pytest
from glmprep import families
from glmprep.console import terminal
from glmprep.contexts.before import Replay
from glmprep.errors import InputError, UsageError
from glmprep.parse import parse
from glmprep.read import read
from glmprep.sized import Limits
from glmprep.tokenizer import load
from glmtrain import devices, model
from glmtrain.chat import Chat, Live, Plain, shown
from glmtrain.cli import glmtrain
from glmtrain.config import build
from glmtrain.conversation import Running, Window
from glmtrain.generate import Sampler, Sampling
from glmtrain.progress import Silent
from glmtrain.prompt import Prompter
from glmtrain.run import train

TOKENIZER = load()
PROMPTER = Prompter(families.load("glm4", TOKENIZER), TOKENIZER, thinks=True)
USER = TOKENIZER.added_id("<|user|>")
FAST = ["--model", "tiny", "--dtype", "fp32"]
SHORT = [*FAST, "--max-new-tokens", "6"]


class Scripted:
    """Says what is in the script, a list of texts and signals for each answer, then stops."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.prompts = []

    def tokens(self, prompt, sampler, *, stops, most):
        self.prompts.append(TOKENIZER.decode(prompt))
        said = 0
        for item in self.answers.pop(0):
            if isinstance(item, signal.Signals):
                signal.raise_signal(item)
                continue
            for token in TOKENIZER.encode(item):
                yield token
                said += 1
                if said == most:
                    return
        yield USER


def chatting(*answers, kind=Plain, max_length=256):
    window = Window(max_length=max_length, max_new_tokens=32)
    return Chat(
        running=Running(PROMPTER, Replay(Limits(max_length=max_length)), window),
        prompter=PROMPTER,
        speaker=Scripted(*answers),
        sampler=Sampler(Sampling()),
        shown=kind(terminal(), terminal(to_stderr=True)),
    )


# ---------------------------------------------------------------- the loop


def test_each_line_is_answered_with_all_that_was_said_before(capsys):
    chat = chatting(["\nWarm."], ["\nRain."])
    chat.follow(["How is it?", "", "  And then? "])
    assert capsys.readouterr().out == "Warm.\nRain.\n"
    assert chat.speaker.prompts[1] == (
        "[gMASK]<sop><|user|>\nHow is it?<|assistant|>\nWarm.<|user|>\nAnd then?<|assistant|>"
    )
    assert [turn.ended for turn in chat.turns] == ["stop", "stop"]
    assert not chat.fell_short


def test_an_answer_appears_while_it_is_generated(capsys):
    class Watched(Scripted):
        def tokens(self, *arguments, **named):
            for token in super().tokens(*arguments, **named):
                yield token
                seen.append(capsys.readouterr().out)

    seen: list[str] = []
    chat = chatting(kind=Live)
    chat.speaker = Watched(["\n  It is ", "warm.\n", "Go out."])
    chat.follow(["How is it?"])
    pieces = [piece for piece in seen if piece]
    assert len(pieces) > 5
    assert "".join(pieces) + capsys.readouterr().out == "It is warm.\nGo out.\n"


def test_generated_text_cannot_steer_the_terminal(capsys):
    hostile = "\n\x1b]0;owned\x07\x1b[2J\u202e[bold]x[/bold]\r\ty\u200b"
    for kind in (Plain, Live):
        chatting([hostile], kind=kind).follow(["Hi"])
        out = capsys.readouterr().out
        assert not set(out) & set("\x1b\x07\r\u202e\u200b")
        assert r"\x1b]0;owned\x07\x1b[2J\u202e[bold]x[/bold]\r" in out


def test_shown_text_keeps_line_breaks_and_tabs():
    assert shown("a\n\tb 𠮷 é\x0b") == "a\n\tb 𠮷 é\\x0b"


def test_reset_begins_a_new_conversation(capsys):
    chat = chatting(["\nOne."], ["\nTwo."])
    chat.follow(["First?", "/reset", "Second?"])
    assert "First?" not in chat.speaker.prompts[1]
    assert [turn.conversation for turn in chat.turns] == [0, 1]
    assert [len(one.messages) for one in chat.conversations()] == [2, 2]
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("One.\nTwo.\n", "a new conversation\n")


def test_quit_ends_before_the_next_line():
    chat = chatting(["\nOne."])
    chat.follow(["First?", "/quit", "Second?"])
    assert len(chat.turns) == 1


def test_without_a_note_that_is_said(capsys):
    chatting().follow(["/note"])
    assert "no note" in capsys.readouterr().err


def test_a_question_longer_than_the_window_is_told_and_the_chat_goes_on(capsys):
    chat = chatting(["\nYes."])
    chat.follow(["rain " * 500, "Still there?"])
    shown = capsys.readouterr()
    assert shown.out == "\nYes.\n"
    assert "takes 50" in shown.err
    assert "ask in fewer words, or raise --max-length" in shown.err
    assert [turn.ended for turn in chat.turns] == ["too long", "stop"]
    assert chat.fell_short
    assert "rain" not in chat.speaker.prompts[0]


def test_a_question_without_an_answer_is_not_kept(capsys):
    chat = chatting(["\n"], ["\nYes."])
    chat.follow(["Nothing?", "Something?"])
    assert "Nothing?" not in chat.speaker.prompts[1]
    assert "the question is not kept" in capsys.readouterr().err
    assert chat.fell_short


def test_an_answer_ends_at_its_greatest_length():
    chat = chatting(["\n" + "rain " * 99])
    chat.follow(["How is it?"])
    (turn,) = chat.turns
    assert (turn.ended, turn.answer_tokens) == ("length", 32)


# ---------------------------------------------------------------- signals


def test_an_interrupt_ends_the_answer_and_not_the_chat(capsys):
    chat = chatting(["\nIt is ", signal.SIGINT, "warm and", " dry."], ["\nRain."])
    chat.follow(["How is it?", "And then?"])
    assert [turn.ended for turn in chat.turns] == ["interrupted", "stop"]
    assert "It is warm<|user|>" in chat.speaker.prompts[1]
    assert capsys.readouterr().out == "It is warm\nRain.\n"
    assert chat.stopped_by is None


def test_a_second_interrupt_ends_the_chat():
    chat = chatting(["\nIt is ", signal.SIGINT, signal.SIGINT, "warm."])
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)  # may be to ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            chat.follow(["How is it?"])
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, inherited)


def test_a_termination_ends_the_answer_and_the_chat():
    chat = chatting(["\nIt is ", signal.SIGTERM, "warm."])
    chat.follow(["How is it?", "And then?"])
    assert [turn.ended for turn in chat.turns] == ["interrupted"]
    assert chat.stopped_by == "SIGTERM"
    assert chat.fell_short


# ---------------------------------------------------------------- the command


read_once = cache(load)
tiny_config = model.tiny_config


@pytest.fixture(scope="module", autouse=True)
def narrow():
    """A tiny model that is narrower still; it has the same vocabulary."""
    widths = {"hidden_size": 16, "intermediate_size": 32, "head_dim": 8, "num_attention_heads": 2}
    config = {**tiny_config(), **widths, "num_key_value_heads": 1}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(model, "tiny_config", lambda: config)
        yield


@pytest.fixture
def pipe(monkeypatch, capsys):
    """Calls the command with lines of standard input: status, output, errors."""

    def pipe(lines, *arguments):
        monkeypatch.setattr("glmprep.tokenizer.load", read_once)
        data = lines if isinstance(lines, bytes) else lines.encode()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        with pytest.raises(SystemExit) as end:
            glmtrain.main(["chat", *map(str, arguments)], standalone_mode=False)
        shown = capsys.readouterr()
        return end.value.code, shown.out, shown.err

    return pipe


def turns_of(path):
    return json.loads(path.read_text())["turns"]


def test_a_pipe_gets_an_answer_for_each_line_and_nothing_else(pipe, tmp_path):
    result = tmp_path / "r.json"
    status, out, err = pipe("你好\r\nHow is it?\n", *SHORT, "--json", result)
    assert (status, err) == (0, "")
    turns = turns_of(result)
    assert [turn["question"] for turn in turns] == ["你好", "How is it?"]
    assert out == "".join(shown(turn["answer"]) + "\n" for turn in turns)
    assert all(turn["answer_tokens"] == 6 for turn in turns)


def test_the_same_seed_gives_the_same_answers(pipe):
    drawn = [*SHORT, "--temperature", "1.5", "--top-p", "0.9", "--top-k", "500", "--seed"]
    one, same, other = (pipe("Hi\nWhy?\n", *drawn, seed)[1] for seed in (1, 1, 2))
    assert one == same != other


def test_sixty_questions_with_memory_stay_within_512_tokens(pipe, tmp_path, monkeypatch):
    monkeypatch.setattr(model, "tiny_config", tiny_config)
    topics = ("roses", "tomatoes", "the pond", "苹果树", "compost", "snails")
    questions = "".join(
        f"Question {n}: in May, when all of us are in the garden again and there is little time "
        f"before the rain, what is to be done about {topics[n % 6]}, and who does it?\n"
        for n in range(60)
    )
    files = ["--json", tmp_path / "r.json", "--transcript", tmp_path / "said.jsonl"]
    options = ["--memory", "--max-length", "512", "--context-tokens", "100", "--max-new-tokens"]
    status, out, _ = pipe(questions, *FAST, *options, "4", "--system", "Short answers.", *files)
    turns = turns_of(tmp_path / "r.json")
    assert status == 0
    assert len(turns) == 60 <= out.count("\n")
    assert max(turn["prompt_tokens"] for turn in turns) + 4 <= 512
    begins = {turn["begin"] for turn in turns}
    assert len(begins) > 4
    noted = [turn for turn in turns if turn["begin"]]
    assert all(turn["note"] for turn in noted)
    assert all(len(TOKENIZER.encode(turn["note"])) <= 100 for turn in noted)
    assert all("Question" in turns[begin]["note"] for begin in begins - {0})
    (said,) = (row for _, row in conversations(tmp_path / "said.jsonl"))
    assert [message.role for message in said.messages[:3]] == ["system", "user", "assistant"]
    assert [m.content for m in said.messages if m.role == "assistant"] == [
        turn["answer"] for turn in turns
    ]


def conversations(path: Path):
    rows = list(read([str(path)]))
    return [(row, one) for row, one in zip(rows, parse(rows), strict=True)]


def test_the_result_alone_is_on_standard_output_where_it_is_asked_for(pipe):
    status, out, err = pipe("Hi\n", *SHORT, "--json", "-")
    result = json.loads(out)
    assert (status, len(result["turns"])) == (0, 1)
    assert result["settings"]["family"] == "glm4"
    assert err == shown(result["turns"][0]["answer"]) + "\n"


def test_quiet_prints_nothing(pipe, tmp_path):
    assert pipe("Hi\n", *SHORT, "--quiet", "--transcript", tmp_path / "t.jsonl") == (0, "", "")
    assert (tmp_path / "t.jsonl").stat().st_size > 0


def test_an_empty_pipe_is_no_error(pipe):
    assert pipe("", *SHORT) == (0, "", "")


def test_a_question_without_an_answer_makes_the_status_1(pipe):
    status, out, err = pipe("rain " * 900, *SHORT, "--max-length", "512")
    assert (status, out) == (1, "\n")
    assert "fit beside an answer" in err


@pytest.mark.parametrize(
    ("lines", "arguments", "message"),
    [
        ("", [], "no model; pass --model tiny"),
        (b"fine\n\xff\xfe\n", SHORT, "standard input:2: not UTF-8"),
        ("", [*SHORT, "--memory", "--outline"], "--context memory and outline: choose one"),
        ("", [*SHORT, "--memory", "--overlap", "2"], "--overlap changes nothing without"),
        ("", [*SHORT, "--encoder", "none"], "--encoder changes nothing without --context memory"),
        ("", [*SHORT, "--context", "none", "--context-tokens", "9"], "--context-tokens changes"),
        ("", [*SHORT, "--temperature", "-1"], "--temperature -1.0"),
        ("", [*SHORT, "--max-length", "4"], "--max-length 4: the template's own tokens need more"),
        ("", [*FAST, "--max-length", "99", "--max-new-tokens", "99"], "--max-new-tokens 99"),
        ("", [*SHORT, "--max-length", "999999"], "--max-length 999999: the model reads 131072"),
        ("", [*SHORT, "--adapter", "nowhere"], "nowhere: holds no run"),
        ("", [*SHORT, "--system", "x " * 9999], "leave no room for a question"),
        ("", [*SHORT, "--memory", "--notes", "nowhere.toml"], "nowhere.toml"),
        ("", [*SHORT, "--family", "glm4.7"], "no token <think>"),
        ("", ["--model", "nowhere"], "nowhere: no tokenizer there"),
    ],
)
def test_wrong_calls_are_refused_in_one_line(
    pipe, lines, arguments, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((UsageError, InputError)) as caught:
        pipe(lines, *arguments)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_models_vocabulary_must_hold_the_tokenizers(pipe, small_model):
    with pytest.raises(UsageError, match=r"the tokenizer has \d+ tokens, but the model knows 320"):
        pipe("Hi\n", "--model", small_model, "--tokenizer", "glm4", "--max-length", "256")


# ---------------------------------------------------------------- what a run learned


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Shards of real conversations that were segmented with memory."""
    from glmprep.cli import glmprep

    folder = tmp_path_factory.mktemp("prepared")
    segments, target = folder / "segments.jsonl", folder / "shards"
    data = folder / "data.jsonl"
    said = [
        {"role": role, "content": f"{role} says {n} about the garden."}
        for n in range(30)
        for role in ("user", "assistant")
    ]
    data.write_text("".join(json.dumps({"messages": said}) + "\n" for _ in range(4)))
    cut = ["--max-length", "200", "--context", "memory", "--context-tokens", "60"]
    for command in (
        ["segment", data, "-o", segments, *cut],
        ["bucket", segments, "-o", target, "--max-length", "256"],
    ):
        with pytest.raises(SystemExit) as end:
            glmprep.main([*map(str, command), "--quiet"], standalone_mode=False)
        assert end.value.code == 0
    return target


@pytest.fixture(scope="module")
def run(shards, tmp_path_factory):
    """Makes a run of three steps on the tiny model."""

    def run(method):
        settings = {
            "model": {"path": "tiny", "method": method},
            "data": {"shards": [str(shards)]},
            "optimiser": {"learning_rate": 0.03},
            "precision": {"dtype": "fp32"},
            "run": {
                "output": str(tmp_path_factory.mktemp("run") / method),
                "max_steps": 3,
                "sample_tokens": 64,
            },
        }
        config = build([("test", settings)])
        with devices.join(config.devices) as place:
            return train(config, place, given=(), shown=Silent()).output

    return run


@pytest.fixture(scope="module")
def adapter(run):
    return run("lora")


def test_an_adapter_answers_differently_and_brings_its_settings(pipe, adapter, tmp_path):
    result = tmp_path / "r.json"
    answers = ["--max-new-tokens", "8", "--json", result]
    status, _, err = pipe("Hi\n", "--adapter", adapter, "--dtype", "fp32", *answers)
    assert (status, err) == (0, "")
    adapted = json.loads(result.read_text())
    pipe("Hi\n", *FAST, *answers)
    assert adapted["turns"][0]["answer"] != turns_of(result)[0]["answer"]
    settings = adapted["settings"]
    cutting = settings["cutting"]
    assert (settings["model"], settings["family"]) == ("tiny", "glm4")
    assert (cutting["max_length"], cutting["context"], cutting["context_tokens"]) == (
        (200, "memory", 60)
    )


def test_what_differs_from_the_run_is_named(pipe, adapter):
    asked = ["--family", "glm4-0414", "--max-length", "512", "--outline", "--dtype", "fp32"]
    status, _, err = pipe("Hi\n", "--adapter", adapter, *asked, "--max-new-tokens", "2")
    assert status == 0
    assert "--family glm4-0414, but the training data was made with glm4" in err
    assert "--max-length 512, but the training data was made with 200" in err
    assert "--context outline, but the training data was made with memory" in err


def test_a_whole_model_is_its_own_base(pipe, run, tmp_path):
    whole, result = run("full"), tmp_path / "r.json"
    answers = ["--dtype", "fp32", "--max-new-tokens", "8", "--json", result]
    status, _, err = pipe("Hi\n", "--adapter", whole, *answers)
    assert (status, err) == (0, "")
    learned = turns_of(result)[0]["answer"]
    pipe("Hi\n", *FAST, *answers[2:])
    assert learned != turns_of(result)[0]["answer"]
    with pytest.raises(UsageError, match="leave out --model"):
        pipe("Hi\n", "--adapter", whole, "--model", "tiny")


def test_another_base_model_or_tokenizer_than_the_runs_is_refused(
    pipe, adapter, tmp_path, monkeypatch
):
    with monkeypatch.context() as patched:
        other = {**model.tiny_config(), "initializer_range": 0.2}
        patched.setattr(model, "tiny_config", lambda: other)
        with pytest.raises(UsageError, match=r"tiny: not the model that .* adapts"):
            pipe("Hi\n", "--adapter", adapter)
    record = json.loads((adapter / "run.json").read_text())
    record["tokenizer"] = {"name": "elsewhere", "sha256": "0" * 64}
    copy = copied(adapter, tmp_path / "copy", record)
    with pytest.raises(UsageError, match=r"another tokenizer, of the name 'elsewhere'; pass"):
        pipe("Hi\n", "--adapter", copy)


def copied(run, folder, record):
    shutil.copytree(run, folder, ignore=shutil.ignore_patterns("checkpoints"))
    (folder / "run.json").write_text(json.dumps(record))
    return folder


def test_an_encoder_that_only_chose_the_cuts_is_not_asked_for(pipe, adapter, tmp_path):
    record = json.loads((adapter / "run.json").read_text())
    cut = record["prepared"]["cutting"] | {"segmenter": "semantic", "encoder": "not there"}
    replayed = cut | {"context": "overlap", "notes": {}}
    for cutting, answers in ((replayed, True), (cut, False)):
        change = {"prepared": {**record["prepared"], "cutting": cutting}}
        copy = copied(adapter, tmp_path / cutting["context"], {**record, **change})
        if answers:
            assert pipe("Hi\n", "--adapter", copy, "--max-new-tokens", "2")[0] == 0
        else:
            with pytest.raises(UsageError, match="encoder 'not there': neither"):
                pipe("Hi\n", "--adapter", copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prepared": None}, "does not tell how the data was prepared"),
        ({"prepared": {"cutting": {"context": "telepathy"}}}, "does not tell how the data was"),
        ({"base": {}}, "does not tell how the data was prepared"),
        ({"format": "other/9"}, "format 'other/9'"),
    ],
)
def test_a_record_of_another_kind_is_refused(pipe, adapter, tmp_path, change, message):
    record = json.loads((adapter / "run.json").read_text())
    copy = copied(adapter, tmp_path / "copy", {**record, **change})
    with pytest.raises(InputError, match=message):
        pipe("Hi\n", "--adapter", copy)


def test_a_damaged_adapter_is_refused_in_one_line(pipe, adapter, tmp_path):
    record = json.loads((adapter / "run.json").read_text())
    copy = copied(adapter, tmp_path / "copy", record)
    (copy / "adapter_model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
    with pytest.raises(InputError, match=r"do(es)? not fit the model") as caught:
        pipe("Hi\n", "--adapter", copy)
    assert "\n" not in str(caught.value)


def test_a_run_without_weights_says_how_to_go_on(pipe, adapter, tmp_path):
    record = json.loads((adapter / "run.json").read_text())
    copy = copied(adapter, tmp_path / "copy", {**record, "state": "stopped"})
    (copy / "adapter_model.safetensors").unlink()
    with pytest.raises(InputError, match=r"its run is stopped, .* --resume"):
        pipe("Hi\n", "--adapter", copy)
