"""Personal data and secrets in text: where they stand, and the text with them masked.

Each kind has a pattern for what it looks like, and a test that throws out what merely looks so:
check digits, dates that exist, addresses that the standards reserve for examples.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date

KEPT = 4
"""At most so many characters of a secret are shown."""
EXAMPLE_HOSTS = re.compile(
    r"(^|[.-])(example|test|invalid|localhost)\b|^(your|my)|^(company|domain|email)\."
)
"""RFC 2606 reserves the first four; the others are what people write where they mean none."""
ID_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
ID_CHECKS = "10X98765432"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of data: what it looks like, and a test.

    Every text that holds it matches one of `screen`, which are quick and have no look-around.
    """

    screen: tuple[str, ...]
    pattern: re.Pattern[str]
    sound: Callable[[str], bool] = bool

    def spans(self, text: str) -> Iterator[tuple[int, int]]:
        """All places, in order."""
        return (m.span() for m in self.pattern.finditer(text) if self.sound(m.group()))

    def find(self, text: str) -> tuple[int, int] | None:
        """The first place, None where there is none."""
        return next(self.spans(text), None)


def mask(text: str) -> str:
    """The text, as long as it was, with all but the first characters of each secret as `*`."""
    for kind in KINDS:
        for start, end in kind.spans(text):
            shown = start + min(KEPT, (end - start) // 4)
            text = text[:shown] + "*" * (end - shown) + text[end:]
    return text


def _has_enough_digits(text: str) -> bool:
    return sum(character.isdigit() for character in text) >= 8


def _is_address(text: str) -> bool:
    return not EXAMPLE_HOSTS.search(text.partition("@")[2].lower())


def _is_resident(text: str) -> bool:
    """Whether 18 characters are a number of a Chinese identity card (GB 11643, ISO 7064)."""
    total = sum(int(digit) * weight for digit, weight in zip(text, ID_WEIGHTS, strict=False))
    if ID_CHECKS[total % 11] != text[17].upper():
        return False
    try:
        date(int(text[6:10]), int(text[10:12]), int(text[12:14]))
    except ValueError:
        return False
    return True


def _is_card(text: str) -> bool:
    """Whether the digits pass Luhn's check and are more than noughts and ones."""
    digits = [int(character) for character in text if character.isdigit()]
    doubled = (sum(divmod(2 * digit, 10)) for digit in digits[-2::-2])
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0 and len(set(digits)) > 3


def _is_random(text: str) -> bool:
    """Whether a key could be real: `sk-xxxxxxxx` and `sk-your-key-goes-here` are not."""
    return len(set(text)) >= 12 and any(c.isdigit() for c in text) and "EXAMPLE" not in text


PHONE = Kind(
    screen=(
        r"1[3-9][0-9][- ]?[0-9]{4}[- ]?[0-9]{4}|0[0-9]{2,3}-[0-9]{7}"
        r"|[2-9][0-9]{2}\)?[-. ] ?[2-9][0-9]{2}[-.][0-9]{4}|\+[1-9][0-9 ().-]{7}",
    ),
    pattern=re.compile(
        r"""
          (?<![\w.+$¥-])
          (?: (?:\+?86[- ]?)? 1[3-9]\d[- ]?\d{4}[- ]?\d{4}    # mobile, mainland China
            | 0\d{2,3}-\d{7,8}                                   # landline, mainland China
            | \(?[2-9]\d\d\)?[-. ][ ]?(?!555)[2-9]\d\d[-.]\d{4}  # North America
          ) (?![\w-])
        | (?<![\w.)])\+[1-9]                                     # international
          (?: \d{0,2} (?:[-. ]?\(?\d{1,5}\)?){1,2} (?:[-. ]\d{2,4}){1,3} | \d{9,12} )
          (?!\d)
        """,
        re.ASCII | re.VERBOSE,
    ),
    sound=_has_enough_digits,
)
EMAIL = Kind(
    screen=(r"[A-Za-z0-9]@[A-Za-z0-9-]+\.",),
    pattern=re.compile(
        r"(?<![\w.%+:-])[A-Za-z0-9][\w.%+-]{1,63}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}\b",
        re.ASCII,
    ),
    sound=_is_address,
)
ID_CARD = Kind(
    screen=(r"[0-9]{17}[0-9Xx]",),
    pattern=re.compile(r"(?<![\w.])[1-8]\d{5}(?:19|20)\d{9}[\dXx](?!\w)", re.ASCII),
    sound=_is_resident,
)
BANK_CARD = Kind(
    screen=(r"[0-9]{4}[ -]?[0-9]{4}[ -]?[0-9]{4}[ -]?[0-9]{3}",),
    pattern=re.compile(
        r"(?<![\w.+=-])(?:62|4\d|5[1-5]|2[2-7])\d\d"
        r"(?:\d{12}(?:\d{3})?|([ -])\d{4}\1\d{4}\1\d{4}(?:\1\d{3})?)(?!\w)",
        re.ASCII,
    ),
    sound=_is_card,
)
KEY = Kind(
    screen=(
        r"sk-|gh[pousr]_|github_pat_|glpat-|hf_|AKIA|AKID|LTAI|AIza|xox[abprs]-|eyJ|PRIVATE KEY",
        r"[0-9a-f]{32}\.",
    ),
    pattern=re.compile(
        r"""
        (?<![\w-])
        (?: sk-[\w-]{20,200} | gh[pousr]_\w{36,80} | github_pat_\w{40,100} | glpat-[\w-]{20,60}
          | hf_[A-Za-z0-9]{30,60} | AKIA[0-9A-Z]{16} | AKID\w{32} | LTAI[A-Za-z0-9]{12,26}
          | AIza[\w-]{35} | xox[abprs]-[\w-]{20,200}
          | eyJ[\w-]{8,2000}\.eyJ[\w-]{8,4000}\.[\w-]{16,1000}  # JSON Web Token
          | [0-9a-f]{32}\.[A-Za-z0-9]{16}                       # Zhipu, which makes GLM
          | -----BEGIN\ [A-Z\ ]{0,30}PRIVATE\ KEY-----[\w+/=\s\\:,.-]{64,8000}
        ) (?!\w)
        """,
        re.ASCII | re.VERBOSE,
    ),
    sound=_is_random,
)
KINDS = (KEY, ID_CARD, BANK_CARD, PHONE, EMAIL)
