"""Texts on which byte-pair libraries can part, to compare two of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from glmprep.encoders import Encoder, Flat

SPACES = (
    *("\t", "\n", "\v", "\f", "\r", " ", "\x1c", "\x85", "\xa0", "\u1680", "\u180e"),
    *(chr(code) for code in range(0x2000, 0x2010)),
    *("\u2028", "\u2029", "\u202f", "\u205f", "\u2060", "\u3000", "\ufeff"),
)
"""What looks like a space, whether Unicode counts it as one or not."""
MIXED_SPACES = (" \n", "\n ", "\r\n\r\n ", "\n\n\n\n", "\t \t", " \n \n  ", "\r\r\n", "  \u3000 ")
BESIDE = (
    *("a", "Z", "é", "e\u0301", "\u0301", "ß", "ſ", "K", "İ", "Σς", "Ж", "ש", "ع", "क्षि", "น้ำ"),
    *(
        "中",
        "々",
        "ゟ",
        "한",
        "\u1112\u1161\u11ab",
        "ﬁ",
        "Ⅳ",
        "½",
        "²",
        "7",
        "٣",
        "९",
        "𝟘",
        "𝒳",
        "𠀀",
    ),
    *("👍🏽", "👩‍👩‍👧", "🏳️‍🌈", "🇨🇳🇨", "1️⃣", "☺︎", "\u200d", "\u200b", "\ufe0f"),
    *("'s", "'LL", "’s", "!", "_", "。", "\n", "\x00", "\xad", "\ue000", "\U0010ffff"),
)
PIECES = (
    "don't DON'T I'Ve we'll x'D '’s ''s 'ſ",
    "snake_case camelCase HTML5 v1.2.3 3.14e-10 1,234,567",
    "0 00 000 0000 1234567890 ١٢٣٤٥ ⅠⅡⅢ ½½½½",
    "!!! ?! ... …… ——— ~~~ $€¥ <>{}[]()|\\/ @#%^&*",
    "你好，世界！今天天气真不错。",
    "我觉得AI很cool，其实2024年就…",
    "ＡＢＣ１２３，。",
    "「引用」『内』《书》",
    "日本語のテキスト ｶﾀｶﾅ",
    "한국어 텍스트",
    "Привет, мир! ё Й",
    "Ελληνικά ΆΈ",
    "שָׁלוֹם עולם",
    "السَّلامُ عليكم",
    "हिन्दी क्षत्रिय",
    "ภาษาไทย น้ำ",
    "Tiếng Việt đặc",
    "Z̷̧̨͓a̸l̴g̵o̶",
    "a\u200bb\u200cc\u200dd\u2060e\ufefff",
    "<|user|>",
    "<|assistant|>\n",
    "[gMASK]<sop>",
    "<|endoftext|>x",
    "<think>\n</think>",
    "<tool_call>",
    '{"name": "f", "arguments": {"x": [1, 2.50, null]}}',
    "def f(x):\n    return x  # ok\n\n\n\tpass",
    "https://a.example/b?c=d&e=%20#f",
    "a@b.example",
    "\x00\x01\x7f\x80\xff",
    "\ufffd\ufffe\uffff",
)
RUNS = (
    "a",
    " ",
    "\n",
    "\r\n",
    "\t",
    "!",
    "-",
    "9",
    "中",
    "\u3000",
    "👍🏽",
    "e\u0301",
    "\0",
    "aB ",
    "é",
)


def texts() -> list[str]:
    """The texts: some two thousand short ones, each of them once."""
    runs = (unit * count for unit in RUNS for count in (2, 3, 17, 131))
    return list(dict.fromkeys(["", *PIECES, *_spaced(), *_beside(), *runs]))


def sample(texts: Sequence[str], characters: int) -> list[str]:
    """The first of some texts, together at most so many characters; the last of them is cut."""
    taken: list[str] = []
    for text in texts:
        if characters <= 0:
            break
        taken.append(text[:characters])
        characters -= len(text)
    return taken


def differs(encoder: Encoder, texts: Sequence[str], expected: Flat) -> bool:
    """Whether an encoder gives other ids for the texts than expected."""
    ids, lengths = encoder.encode(texts)
    return not (np.array_equal(lengths, expected[1]) and np.array_equal(ids, expected[0]))


def _spaced() -> Iterator[str]:
    for space in SPACES:
        yield f"{space}a{space}{space}b {space}1{space} !{space}\n{space}"
        yield f"中{space}\r\n{space}{space}文 {space}{space}{space}"
    for mixed in MIXED_SPACES:
        yield from (f"{mixed}x", f"x{mixed}", f"x{mixed}y{mixed}!", f"{mixed}1{mixed}'s", mixed * 7)


def _beside() -> Iterator[str]:
    return (f"{left}{right} {left}" for left in BESIDE for right in BESIDE)
