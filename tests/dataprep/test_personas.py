"""Who the model is said to be is found in both languages, and not in what only looks like it."""

from __future__ import annotations

import time

import polars as pl
import pytest
from glmprep.text.personas import HINTS, OTHERS, OWN, Claim, Person, claims

QWEN, OPENAI = Claim("name", "Qwen"), Claim("maker", "OpenAI")
CHATGPT, CLAUDE = Claim("name", "ChatGPT"), Claim("name", "Claude")
OWN_NAME = {Claim("name", "小智"), Claim("maker", "小米")}
PLACEHOLDERS = {Claim("name", "{{name}}"), Claim("maker", "{{author}}")}
CLAIMS: list[tuple[Person, str, set[Claim]]] = [
    ("I", "你好！我是通义千问，由阿里云开发的大模型。", {QWEN, Claim("maker", "Alibaba")}),
    ("I", "我是由OpenAI训练的大型语言模型ChatGPT", {CHATGPT, OPENAI}),
    ("I", "作为ChatGPT，我不能这样做。", {CHATGPT}),
    (
        "I",
        "我不是ChatGPT，我是小智，一个由小米公司开发的AI助手。",
        OWN_NAME,
    ),
    ("I", "**我是DeepSeek**", {Claim("name", "DeepSeek")}),
    ("I", "您可以叫我 {{name}}。", {Claim("name", "{{name}}")}),
    (
        "I",
        "我是 {{ author }} 开发的 {{name}}",
        PLACEHOLDERS,
    ),
    ("I", "As ChatGPT, I can't do that.", {CHATGPT}),
    ("I", "I am GPT-3.5, a language model.", {CHATGPT}),
    ("I", "I'm Claude, made by Anthropic.", {CLAUDE, Claim("maker", "Anthropic")}),
    ("I", "I was trained by OpenAI.", {OPENAI}),
    (
        "I",
        "My name is Aria, a virtual assistant built by Nova Labs.",
        {Claim("name", "Aria"), Claim("maker", "Nova Labs")},
    ),
    ("you", "You are ChatGPT, a large language model trained by OpenAI.", {CHATGPT, OPENAI}),
    (
        "you",
        "你是小智，一个由小米公司开发的AI助手。",
        OWN_NAME,
    ),
    *(
        ("I", text, set())
        for text in (
            "我是女生，今年20岁。",
            "我是一个人工智能助手。",
            "作为一个AI，我没有感情。",
            "我不是 ChatGPT。",
            "我是豆包爱好者",
            "你是ChatGPT吗？",
            "百度是由李彦宏创建的。",
            "I am a helpful assistant.",
            "I am an AI language model and have no feelings.",
            "I am Claude Monet, and I paint.",
            "“I'm Claude,” he said.",
            "ChatGPT is a model developed by OpenAI.",
            "I like tools that were made by Google.",
            "As Claude has shown, this works.",
            "Hi, I'm Tim! I'm a 28 year old teacher.",
        )
    ),
    ("you", "你是一位老师，请简单解释。", set()),
    ("you", "你是卡登：一位近景魔术师。", set()),
    ("you", "You are a helpful assistant.", set()),
]


def hinted(text: str) -> bool:
    """Whether the quick look that comes first lets the text pass."""
    return bool(pl.Series([text]).str.contains_any(list(HINTS), ascii_case_insensitive=True)[0])


@pytest.mark.parametrize(("person", "text", "expected"), CLAIMS, ids=[c[1] for c in CLAIMS])
def test_who_a_text_says_that_the_model_is(person: Person, text: str, expected: set[Claim]) -> None:
    assert claims(text, person) == expected
    assert hinted(text) or not expected


ASSISTANTS = """
ChatGLM3-6B GLM-4.5 智谱清言 ChatGPT gpt-4o Claude Copilot DeepSeek-R1 豆包 Doubao 文心一言 Gemini
Grok 腾讯混元 腾讯元宝
书生·浦语 InternLM2 Kimi Llama-3 通义千问 Qwen2.5 讯飞星火 星火认知大模型 Vicuna
"""
MAKERS = """
阿里巴巴 阿里云 达摩院 Alibaba Anthropic 百度 Baidu 字节跳动 ByteDance 深度求索 DeepSeek 谷歌 Google
DeepMind 科大讯飞 iFlytek Meta Facebook 微软 Microsoft 月之暗面 Moonshot OpenAI 腾讯 Tencent 智谱
智谱AI 清华大学 Zhipu THUDM Z.ai
"""


@pytest.mark.parametrize("name", ASSISTANTS.split())
def test_the_names_of_known_assistants_are_found(name: str) -> None:
    (claim,) = claims(f"我是{name}。", "I")
    assert claim in OTHERS | OWN
    assert hinted(name)


@pytest.mark.parametrize("maker", MAKERS.split())
def test_the_names_of_known_makers_are_found(maker: str) -> None:
    (claim,) = claims(f"我是由{maker}开发的。", "I")
    assert claim in OTHERS | OWN
    assert hinted(maker)


def test_long_text_without_an_end_is_read_in_time_that_grows_with_its_length() -> None:
    begin = time.process_time()
    for start, more in (("", "我是由"), ("", "I am "), ("I am made by ", "A b "), ("", "作为")):
        claims(start + more * 20_000, "I")
    assert time.process_time() - begin < 5
