"""What ends in a loop, what counts as endless, and what a model says of itself."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from glmprep import families
from glmprep.errors import InputError
from glmprep.tokenizer import load
from glmtrain import probes
from glmtrain.eval_rules import endless_answers, looping_answers
from glmtrain.generate import Speaker
from glmtrain.probes import Ending, Endings, Probe, ask, loops, read_probes
from glmtrain.prompt import Prompter

TOKENIZER = load()
PROMPTER = Prompter(families.load("glm4", TOKENIZER), TOKENIZER, thinks=False)


@pytest.mark.parametrize(
    ("tokens", "looping"),
    [
        ([7] * 24, True),
        ([7] * 23, False),
        ([9, 8, *[1, 2, 3] * 8], True),
        ([1, 2, 3] * 8 + [4], False),
        (list(range(6)) * 4, True),
        (list(range(7)) * 3, False),
        ([*range(5), *list(range(64)) * 4], True),
        (list(range(65)) * 4, False),
        ([*[1, 2, 3] * 9, 1, 2], True),
        (list(range(300)), False),
        ([], False),
    ],
)
def test_a_loop_is_one_phrase_again_and_again_up_to_the_end(tokens, looping):
    assert loops(tokens) is looping


def ending(**given):
    plain = {"tokens": 10, "wanted": 8, "fits": True, "stopped": True, "loops": False}
    return Ending(**{**plain, "reference_loops": False, **given})


def test_only_answers_whose_reference_fits_can_be_endless():
    found = Endings.of([ending(stopped=False), ending(stopped=False, fits=False), ending(tokens=4)])
    assert (found.answers, found.fitting, found.endless) == (3, 2, 1)
    assert (found.median_tokens, found.median_wanted) == (10, 8)


def test_endless_answers_are_found_from_a_tenth_on():
    some = [ending(stopped=False)] * 2
    data = endless_answers(Endings.of([*some, *[ending()] * 8]), 64)
    assert data == {"count": 2, "answers": 10, "most": 64}
    assert endless_answers(Endings.of([*some, *[ending()] * 18]), 64) is None
    assert endless_answers(Endings.of([ending(fits=False, stopped=False)]), 64) is None


def test_loops_that_references_have_too_are_not_held_against_the_model():
    looping, alike = ending(loops=True), ending(loops=True, reference_loops=True)
    assert looping_answers(Endings.of([looping, *[ending()] * 9])) == {
        "count": 1,
        "answers": 10,
        "references": 0,
    }
    assert looping_answers(Endings.of([alike] * 10)) is None


def test_probes_are_read_from_lines_of_json(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text(
        '{"question": "你是谁？", "expected": "小智"}\n\n{"question": "Who?"}\n', "utf-8"
    )
    assert read_probes(path) == [
        Probe(question="你是谁？", expected="小智"),
        Probe(question="Who?"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"p\.jsonl:1: not JSON"),
        ('{"question": "a"}\n["b"]', r'p\.jsonl:2: write \{"question": TEXT'),
        ('{"question": ""}', "p.jsonl:1: write"),
        ('{"question": 1}', "p.jsonl:1: write"),
        ('{"expected": "a"}', "p.jsonl:1: no question"),
        ('{"question": "a", "answer": "b"}', "p.jsonl:1: write"),
        ("", "0 probes; from 1 to 200"),
        ('{"question": "a"}\n' * 201, "201 probes; from 1 to 200"),
    ],
)
def test_other_probes_are_refused_with_their_line(tmp_path, text, message):
    path = tmp_path / "p.jsonl"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_probes(path)


def test_a_missing_file_of_probes_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.jsonl: No such file"):
        read_probes(tmp_path / "none.jsonl")


@pytest.fixture
def spoken(monkeypatch):
    """The tuned model says its name and stops, its base goes on; losses are 1 and 3."""
    said = {"tuned": "\n小智<|user|>", "base": "\nHm"}

    def speak(speaker, prompts, samplers, *, stops, most):
        return [TOKENIZER.encode_marked(said[speaker.causal]) for _ in prompts]

    monkeypatch.setattr(probes, "speak", speak)
    losses = {"tuned": 1.0, "base": 3.0}

    def mean_loss(causal, precision, ids, mask):
        trained = [token for token, wanted in zip(ids, mask, strict=True) if wanted]
        assert TOKENIZER.decode(trained) == "\n小智<|user|>"
        return losses[causal]

    monkeypatch.setattr(probes, "mean_loss", mean_loss)
    return Speaker(causal="tuned", precision=None, vocabulary=TOKENIZER.vocab_size)


@contextmanager
def base():
    yield "base"


def test_a_probe_shows_what_changed_and_the_loss_of_what_is_expected(spoken):
    asked = [Probe(question="你是谁？", expected="小智"), Probe(question="Who are you?")]
    first, second = ask(SimpleNamespace(base=base), spoken, PROMPTER, asked, 8)
    assert (first.reply.text, first.reply.stopped, first.reply.expected_loss) == ("小智", True, 1.0)
    assert (first.base.text, first.base.stopped, first.base.expected_loss) == ("Hm", False, 3.0)
    assert first.changed
    assert second.reply.expected_loss is None


def test_without_a_base_nothing_is_said_of_changes(spoken):
    (only,) = ask(None, spoken, PROMPTER, [Probe(question="Who?")], 8)
    assert (only.base, only.changed, only.reply.text) == (None, None, "小智")
