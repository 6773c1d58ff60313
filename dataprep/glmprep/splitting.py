"""The stage that looks for what conversations share: of one block its lines and their keys.

Its facts (see `texts`) are what the pass saw, and two keys of each line, `openings` and, for those
that are segments, `originals` (see `split`), as 64-bit integers, little-endian, in hex.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from glmprep import __version__, canonical, units
from glmprep.blocks import Block
from glmprep.records import Conversation
from glmprep.source import Source
from glmprep.split import opening, original
from glmprep.store import Store
from glmprep.stream import Stream
from glmprep.text.hashing import UInt64
from glmprep.texts import Text, made_once

FORMAT = "glmprep-split/1"
KEY = "<u8"


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitBlocks:
    """The work of looking for what is shared: call it with a block.

    `output` is the file that most of the lines will be part of.
    """

    source: Source
    store: Store
    output: str

    def __call__(self, block: Block) -> tuple[Text, Block]:
        """The lines of a block with their keys, made or found."""
        name = units.digest_of(FORMAT, __version__, self.source.settings(), *block.named())
        return made_once(self.store, name, block, self.output, lambda: self._make(block))

    def text(self, block: Block) -> Text:
        """The same without the lines, which stay in the store."""
        return self(block)[0]

    def _make(self, block: Block) -> tuple[Sequence[bytes], dict[str, Any]]:
        # The names of what was read are those of the whole run, which its parent knows.
        stream = Stream(replace(self.source, paths=()), given=block.rows())
        lines: list[bytes] = []
        openings: list[int] = []
        originals: list[int] = []
        for item in stream.items():
            if isinstance(item, Conversation):
                lines.append(canonical.line(item))
                openings.append(opening(item))
                originals.append(original(item, segmented=True))
        return lines, {
            "seen": stream.as_json(block.file.path),
            "mended": stream.mending.ledger().decode(),
            "openings": _packed(openings),
            "originals": _packed(originals),
        }


def keys(packed: str) -> UInt64:
    """The keys that a fact holds."""
    return np.frombuffer(bytes.fromhex(packed), KEY).astype(np.uint64)


def _packed(keys: Sequence[int]) -> str:
    return np.array(keys, KEY).tobytes().hex()
