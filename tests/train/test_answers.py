"""Answers beside their references: what is asked, and what counts as alike."""

from __future__ import annotations

import tempfile

import pytest
from glmprep import families
from glmprep.errors import InputError, UsageError
from glmprep.records import Conversation, Message, Origin, ToolCall
from glmprep.tokenizer import load
from glmtrain import answers, likeness, probes
from glmtrain.answers import call_scores, draw, generate, scores, tasks
from glmtrain.conversation import Window
from glmtrain.likeness import compare, words
from glmtrain.prompt import Prompter
from glmtrain.toolcalls import calls_of

TOKENIZER = load()
FAMILY = families.load("glm4", TOKENIZER)
PROMPTER = Prompter(FAMILY, TOKENIZER, thinks=False)
USER, OBSERVATION = map(TOKENIZER.added_id, ("<|user|>", "<|observation|>"))
WINDOW = Window(max_length=512, max_new_tokens=64)
CALL = ToolCall(name="weather", arguments='{"city": "Rome", "days": 2}')
TOOL = Conversation(
    id="t",
    messages=(
        Message(role="user", content="How will it be in Rome?"),
        Message(role="assistant", tool_calls=(CALL,)),
        Message(role="tool", content='{"sky": "clear"}'),
        Message(role="assistant", content="It will be clear in Rome, all day long."),
    ),
    origin=Origin("data.jsonl", 3),
)
CHINESE = Conversation(
    id="c",
    messages=(
        Message(role="user", content="今天天气怎么样？"),
        Message(role="assistant", content="今天北京天气晴朗，适合出门散步。"),
    ),
    origin=Origin("data.jsonl", 4),
)


def made(*conversations, turns="all"):
    return tasks(conversations, FAMILY, TOKENIZER, turns)


def answered(monkeypatch, found, *said):
    """What comes of tasks to which these texts (with their stops) are generated."""
    script = dict(zip([tuple(task.prompt) for task in found], said, strict=True))

    def speak(speaker, prompts, samplers, *, stops, most):
        return [TOKENIZER.encode_marked(script[tuple(prompt)])[:most] for prompt in prompts]

    monkeypatch.setattr(probes, "speak", speak)
    made = generate(found, None, PROMPTER, WINDOW, lambda done, total: None)
    by_prompt = {tuple(answer.task.prompt): answer for answer in made}
    return [by_prompt[tuple(task.prompt)] for task in found]


def test_a_prompt_and_its_reference_are_the_ids_of_training():
    call, text = made(TOOL)
    assert TOKENIZER.decode(call.prompt).endswith("in Rome?<|assistant|>")
    assert TOKENIZER.decode(call.reference) == 'weather\n{"city": "Rome", "days": 2}'
    assert call.stop == OBSERVATION
    assert text.prompt[: len(call.prompt)] == call.prompt
    assert TOKENIZER.decode(text.reference) == "\nIt will be clear in Rome, all day long."
    assert (text.stop, text.where, text.language) == (USER, "data.jsonl:3", "english")


def test_the_last_answer_alone_is_asked_for_if_so_wished():
    found = made(TOOL, CHINESE, turns="last")
    assert [(task.where, task.language) for task in found] == [
        ("data.jsonl:3", "english"),
        ("data.jsonl:4", "chinese"),
    ]


def test_what_is_not_trained_is_not_asked_for():
    spoken = Message(role="assistant", content="No.", untrained="weight")
    asked = Message(role="user", content="Really?")
    assert made(Conversation(id="u", messages=(asked, spoken), origin=Origin("d", 1))) == []


def test_tasks_are_drawn_by_the_seed():
    found = made(TOOL, CHINESE)
    assert draw(found, 2, seed=1) == draw(found, 2, seed=1)
    assert draw(found, 99, seed=1) == found


def test_an_answer_that_says_the_same_is_wholly_alike(monkeypatch):
    found = made(TOOL, CHINESE)
    same = [TOKENIZER.decode([*task.reference, task.stop]) for task in found]
    said = answered(monkeypatch, found, *same)
    assert [answer.ending.stopped for answer in said] == [True] * 3
    assert [(s.language, s.answers) for s in scores(said)] == [("chinese", 1), ("english", 1)]
    for each in scores(said):
        assert (each.rouge_l, each.bleu, each.chrf) == pytest.approx((100, 100, 100))
    (calls,) = [each for each in call_scores(said) if each.wanted]
    assert (calls.language, calls.called, calls.named, calls.exact) == ("english", 1, 1, 1)


@pytest.mark.parametrize(
    ("said", "counts"),
    [
        ('weather\n{"days":2,  "city":"Rome"}<|observation|>', (1, 1, 1)),
        ('weather\n{"city": "Rome", "days": 3}<|observation|>', (1, 1, 0)),
        ('weather\n{"city": "Rome", "days": true}<|observation|>', (1, 1, 0)),
        ('climate\n{"city": "Rome", "days": 2}<|observation|>', (1, 0, 0)),
        ('weather\n{"city": "Rome"<|observation|>', (1, 0, 0)),
        ('weather\n{"city": "Rome", "days": 2}<|user|>', (0, 0, 0)),
        ('weather\n{"city": "Rome", "days": 2}', (0, 0, 0)),
    ],
)
def test_a_call_counts_as_exact_where_it_does_the_same(monkeypatch, said, counts):
    (call, _) = found = made(TOOL)
    first, _ = answered(monkeypatch, found, said, "\nClear.<|user|>")
    (only,) = call_scores([first])
    assert (only.called, only.named, only.exact) == counts
    assert only.wanted == 1
    assert first.task == call


def test_a_call_in_place_of_an_answer_is_needless(monkeypatch):
    said = answered(monkeypatch, made(TOOL), "\nRain.<|user|>", "weather\n{}<|observation|>")
    (only,) = call_scores(said)
    assert (only.wanted, only.called, only.texts, only.needless) == (1, 0, 1, 1)


def test_an_answer_at_its_limit_has_not_stopped(monkeypatch):
    (only,) = answered(monkeypatch, made(CHINESE), "晴" * 900)
    assert (only.ending.tokens, only.ending.stopped, only.ending.loops) == (64, False, True)
    assert only.ending.fits
    assert only.as_json()["stopped"] is False


def test_a_prompt_that_leaves_no_room_is_passed_over():
    asked = Message(role="user", content="rain " * 600)
    spoken = Message(role="assistant", content="Yes.")
    found = made(Conversation(id="l", messages=(asked, spoken), origin=Origin("d", 1)))
    assert list(generate(found, None, PROMPTER, WINDOW, lambda done, total: None)) == []


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        ('a\n{"x": [1, "二"]}', [("a", '{"x": [1, "二"]}')]),
        (
            "\n<tool_call>a\n<arg_key>x</arg_key>\n<arg_value>Rome</arg_value>\n"
            "<arg_key>n</arg_key>\n<arg_value>2</arg_value>\n</tool_call>\n"
            "<tool_call>b\n</tool_call>",
            [("a", '{"n": 2, "x": "Rome"}'), ("b", "{}")],
        ),
        ("a\n ```python\ntool_call(x='Rome', n=2)\n```", [("a", '{"n": 2, "x": "Rome"}')]),
        ("a\n ```python\ntool_call(x=__import__('os').getcwd())\n```", []),
        ("a\n ```python\ntool_call(x={1, 2})\n```", []),
        ("a\n" + "[" * 100_000, []),
        ("a\n" + "9" * 10_000, []),
        ("no call", []),
        ("", []),
    ],
)
def test_calls_are_read_in_the_form_of_any_glm_and_never_run(text, calls):
    assert calls_of(text) == calls


def test_likeness_of_words_is_that_of_their_longest_common_subsequence():
    found = compare("english", [("a b c d", "a c d e"), ("x", "x")])
    assert found.rouge_l == pytest.approx(100 * (0.75 + 1) / 2)
    assert compare("english", [("one two", "three four")]).bleu == 0
    assert compare("chinese", [("", "今天天气很好")]).rouge_l == 0


def test_chinese_is_cut_into_words_and_english_at_its_signs():
    assert words("我来到北京清华大学。", "chinese") == ["我", "来到", "北京", "清华大学", "。"]
    assert words("It's Rome, all-day.", "english") == ["it's", "rome", ",", "all-day", "."]


def test_cutting_chinese_leaves_no_file_that_others_could_write(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    likeness._jieba.cache_clear()
    assert words("清华大学", "chinese") == ["清华大学"]
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr(likeness, "find_spec", lambda name: None if name == "jieba" else name)
    with pytest.raises(UsageError, match=r"needs jieba: pip install 'glm-finetune-suite\[eval\]'"):
        likeness.require()


def test_a_file_without_conversations_is_refused(tmp_path):
    (tmp_path / "d.jsonl").write_text('{"text": "prose"}\n')
    with pytest.raises(InputError, match="no row holds a conversation"):
        answers.read([str(tmp_path / "d.jsonl")])
