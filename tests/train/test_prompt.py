"""What the model is asked with, and what its answer says, in each family as in training."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path

import pytest
from glmprep import families
from glmprep.encoders import embedded
from glmprep.families import shipped
from glmprep.labels import tokenize
from glmprep.records import Conversation, Message, Origin
from glmprep.tokenizer import Tokenizer, load
from glmtrain.prompt import Prompter

ASSETS = Path(os.environ.get("GLM_ASSETS", Path(__file__).parents[3] / "shared" / "assets"))
TAGS = ("<think>", "</think>", "/nothink")
CHATML = (
    "{% for m in messages %}"
    "{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
MODES = [
    ("chatglm3", "on"),
    ("glm4", "on"),
    ("glm4-0414", "on"),
    ("glm-z1", "on"),
    ("glm-z1", "off"),
    ("glm4.5", "on"),
    ("glm4.5", "off"),
    ("glm4.5", "auto"),
    ("glm4.6", "on"),
    ("glm4.7", "on"),
    ("glm4.7", "off"),
    ("template", "on"),
]
HEAD = (Message(role="system", content="Answer briefly. 请用中文。"),)
QUESTION = Message(role="user", content="<|assistant|> is what? 今天天气怎么样？")
NOTE = Message(role="system", content="Earlier: - user: 雨", untrained="context")


def said(content, reasoning=""):
    return Message(role="assistant", content=content, reasoning=reasoning)


ANSWERS = [
    said("It rains.\n\n  Take an umbrella. 𠮷"),
    said("天气很好。", "Look outside,\nthen say it."),
    said("<|user|> 1 < 2"),
]


@cache
def with_tags(names: tuple[str, ...]) -> bytes:
    """The embedded vocabulary with more added tokens."""
    config = json.loads(embedded.whole())
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    config["added_tokens"] += [
        {"id": number, "content": name, **flags} for number, name in enumerate(names, 151343)
    ]
    return json.dumps(config).encode()


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    """The tokenizer that a family needs."""

    @cache
    def tagged(names: tuple[str, ...]) -> Tokenizer:
        folder = tmp_path_factory.mktemp("vocabulary")
        (folder / "tokenizer.json").write_bytes(with_tags(names))
        (folder / "chat_template.jinja").write_text(CHATML)
        return load(str(folder))

    def made(family: str) -> Tokenizer:
        if family == "chatglm3":
            folder = ASSETS / "tokenizer" / "chatglm2-3-6b"
            if not folder.is_dir():
                pytest.skip(f"no ChatGLM3 vocabulary in {folder}; set GLM_ASSETS")
            return load(str(folder))
        return tagged(("<|im_start|>", "<|im_end|>") if family == "template" else TAGS)

    return made


@pytest.fixture(params=MODES, ids="-".join)
def prompter(request, vocabulary):
    name, thinking = request.param
    tokenizer = vocabulary(name)
    built_in = "auto" if name == "template" else name
    family = families.load(built_in, tokenizer, thinking=thinking)
    return Prompter(family, tokenizer, thinks=thinking != "off")


def training_ids(prompter, messages):
    """Ids and mask of the row that trains the last message."""
    whole = Conversation(id="chat", messages=tuple(messages), origin=Origin("test", 1))
    rows = prompter.family.rows(whole)
    (row,) = [r for r in rows if len(r.messages) == len(messages) and r.messages[-1].trained]
    batch = tokenize([row], prompter.family, prompter.tokenizer)
    return batch.ids.tolist(), batch.mask.tolist()


@pytest.mark.parametrize("answer", ANSWERS, ids=["plain", "reasoned", "tokens"])
@pytest.mark.parametrize("before", [(), HEAD, (*HEAD, NOTE)], ids=["bare", "head", "note"])
def test_a_prompt_and_its_answer_are_the_ids_of_training(prompter, before, answer):
    reasons = prompter.thinks and bool(answer.reasoning)
    if not reasons and prompter.thinks and prompter.family.name in ("glm-z1", "glm4.7", "glm4.5"):
        answer = said(answer.content, "Hm.")  # asked to think, it is trained to where it does
        reasons = True
    messages = [*before, QUESTION, said("First."), QUESTION]
    ids, mask = training_ids(prompter, [*messages, answer])
    prompt = prompter(messages)
    assert ids[: len(prompt)] == prompt
    assert mask[len(prompt) - 1] == 0
    rest = ids[len(prompt) :]
    assert set(mask[len(prompt) :]) <= {1} or prompter.family.name.startswith("template")
    length = next(place for place, token in enumerate(rest) if token in prompter.stops)
    assert mask[len(prompt) + length] == 1
    heard = prompter.answer(prompter.tokenizer.decode(rest[:length]))
    assert heard.content == answer.content
    assert heard.reasoning == (answer.reasoning if reasons else "")


@pytest.mark.parametrize(
    ("name", "thinking", "asset"),
    [
        ("glm4", "on", "glm4"),
        ("glm4-0414", "on", "glm4-0414"),
        ("glm-z1", "on", "glm-z1"),
        ("glm4.6", "on", "glm4.6"),
        ("glm4.6", "off", "glm4.6"),
        ("glm4.7", "on", "glm4.7"),
        ("glm4.7", "off", "glm4.7"),
    ],
)
def test_a_prompt_is_what_the_models_own_template_asks_with(name, thinking, asset, vocabulary):
    tokenizer = vocabulary(name)
    family = families.load(name, tokenizer, thinking=thinking)
    question = Message(role="user", content="今天天气怎么样？ And tomorrow?")
    messages = [*HEAD, question, said("Rain."), question]
    rendered = shipped.template(asset).render(
        messages=[{"role": m.role, "content": m.content} for m in messages],
        add_generation_prompt=True,
        **({"enable_thinking": False} if thinking == "off" else {}),
    )
    ids = Prompter(family, tokenizer, thinks=thinking == "on")(messages)
    assert ids == tokenizer.encode_marked(rendered)


def test_reasoning_that_came_to_no_end_is_no_answer(vocabulary):
    for name, text in (("glm4.5", "\n<think>Let me"), ("glm4.7", "Let me"), ("glm-z1", "\nLet me")):
        tokenizer = vocabulary(name)
        prompter = Prompter(families.load(name, tokenizer), tokenizer, thinks=True)
        assert prompter.answer(text) == said("", "Let me")


def test_a_model_that_answers_without_its_tags_is_taken_at_its_word(vocabulary):
    tokenizer = vocabulary("glm4.5")
    prompter = Prompter(families.load("glm4.5", tokenizer), tokenizer, thinks=True)
    assert prompter.answer("\nHello.") == said("Hello.")


def test_the_end_of_a_text_stops_an_answer_too(prompter):
    added = prompter.tokenizer.added
    end = "</s>" if prompter.family.name == "chatglm3" else "<|endoftext|>"
    assert prompter.stops == prompter.family.stops | {added[end]}
