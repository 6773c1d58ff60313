"""Byte-pair ranks, as in the `tokenizer.model` of GLM-4: a token in base64 and its id on each line.

The `tokenizers` library wants merges instead. Where several pairs of known tokens make one token,
all of them become merges with its rank, those of lower ids first, so that the pair of the lowest
rank is joined first as it is with ranks.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tokenizers

LINE = re.compile(rb"[A-Za-z0-9+/]+={0,2} \d+")
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How GLM-4 parts a text in words before it joins bytes."""


def are_ranks(data: bytes) -> bool:
    """Whether a file looks like ranks: it begins with such a line."""
    return LINE.fullmatch(data[:1024].partition(b"\n")[0].rstrip()) is not None


def from_ranks(data: bytes) -> tokenizers.Tokenizer:
    """A tokenizer of the ranks, without added tokens; raises ValueError for a malformed line."""
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers

    ranks = _read(data)
    spelt = {token: "".join(map(_CHARACTERS.__getitem__, token)) for token in ranks}
    merges: list[tuple[int, int, int, str, str]] = []
    for token, rank in ranks.items():
        for cut in range(1, len(token)):
            left, right = token[:cut], token[cut:]
            if left in ranks and right in ranks:
                merges.append((rank, ranks[left], ranks[right], spelt[left], spelt[right]))
    merges.sort()
    vocabulary = {spelt[token]: rank for token, rank in ranks.items()}
    made = tokenizers.Tokenizer(
        models.BPE(vocabulary, [merge[3:] for merge in merges], ignore_merges=True)
    )
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    made.decoder = decoders.ByteLevel()
    return made


def unspelt(text: str) -> bytes:
    """The bytes of a token that the library spells."""
    return bytes(map(_BYTES.__getitem__, text))


def _read(data: bytes) -> dict[bytes, int]:
    ranks = {}
    for number, line in enumerate(data.splitlines(), 1):
        if not LINE.fullmatch(line):
            raise ValueError(f"line {number} is not a token in base64 and its id")
        token, _, rank = line.partition(b" ")
        try:
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except binascii.Error as error:
            raise ValueError(f"line {number}: {error}") from error
    if sorted(ranks.values()) != list(range(len(ranks))) or len(ranks) < 256:
        raise ValueError("ids are missing or doubled")
    return ranks


def _characters() -> list[str]:
    """The character by which the library spells each byte: itself, where that can be seen."""
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = iter(range(0x100, 0x200))
    return [chr(byte if byte in visible else next(hidden)) for byte in range(0x100)]


_CHARACTERS = _characters()
_BYTES = {character: byte for byte, character in enumerate(_CHARACTERS)}
