"""Mojibake: text that was decoded with another encoding than it was written in.

Two kinds, told apart by what they leave behind:

* UTF-8 or GBK read as a one-byte encoding (`ä½ å¥½`, `ÄãºÃ`, `donâ€™t`): the heuristic of ftfy,
  which knows which of these characters do not stand side by side in any language, and its repair,
  which tells accidents from faces made of letters;
* UTF-8 read as GBK (`浣犲ソ`, `鐨勬槸`), the usual accident with Chinese: text that, written as
  GBK again, turns out to be UTF-8; and what is left where that failed (`锟斤拷`).
"""

from __future__ import annotations

import re

ONE_BYTE = (
    r"[\u00c2-\u00f4][\u0080-\u00bf\u0152-\u0178\u017d\u017e\u0192\u02c6\u02dc\u2013-\u2122]"
    r"|[\u00a1-\u00fe]{4}"
)
"""Text of the first kind has one of these; most Western text with accents has none."""
RUINS = r"锟斤拷|烫烫烫|屯屯屯|锟斤�|锘縷|锘�"
"""The replacement character, fresh memory and byte order mark of C programs, read as GBK."""
AS_GBK = rf"[涓锛紝殑鐨浠浜銆鎴垜]|{RUINS}"
"""Text of the second kind has one of these. The characters are what the first bytes of the
commonest ones become: none of 164,000 sound Chinese messages has one, and of those of SMILECHAT
read as GBK 99.7 % have."""
SHARE = 0.8
"""Of the bytes of a misread run, how many must make sense as UTF-8; a few are lost in between."""


def find(text: str) -> tuple[int, int] | None:
    """Where mojibake stands in a text, None where there is none."""
    for pattern, is_misread in (
        (RUINS, bool),
        (r"[^\x00-\x7f]{3,}", _is_utf8_as_gbk),
        (r"[\u00a1-\u00fe]{4,}", _is_gbk_as_latin),
        (r"[^ \t\r\n\u2e80-\uffff]+", _is_utf8_as_latin),
    ):
        for run in re.finditer(pattern, text):
            if is_misread(run.group()):
                return run.span()
    return None


def _is_utf8_as_gbk(run: str) -> bool:
    """Whether the characters' GBK bytes are UTF-8 for characters of three bytes or more.

    Sound Chinese passes by chance only in pairs, such as the famous `联通`, which count for nothing
    here because two bytes of UTF-8 make no Chinese character.
    """
    written = run.encode("gb18030", "ignore")
    read = re.sub(r"[\x00-\u07ff]", "", written.decode("utf-8", "ignore"))
    return len(read.encode()) >= max(6, SHARE * len(written))


def _is_gbk_as_latin(run: str) -> bool:
    """Whether the characters' Latin-1 bytes are common Chinese text (that of GB 2312)."""
    if len(set(run)) < 3:  # a row of `····`
        return False
    try:
        read = run.encode("latin-1").decode("gb2312")
    except UnicodeError:
        return False
    return bool(re.fullmatch(r"[\u3000-\u303f\u4e00-\u9fff\uff00-\uffef]+", read))


def _is_utf8_as_latin(word: str) -> bool:
    """Whether ftfy finds the word bad, and knows what it was."""
    if word.isascii():
        return False
    from ftfy import fix_encoding
    from ftfy.badness import is_bad

    return is_bad(word) and fix_encoding(word) != word
