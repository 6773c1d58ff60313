"""What a stage that writes text makes of one block: the next stage's block, and facts about it.

    NAME.jsonl  the lines, whole before the facts are written
    NAME.json   facts: plain JSON values, and how many bytes and lines the other file has

NAME is a digest of the block and of all that decides what is made of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Protocol

import orjson

from glmprep.blocks import Block, derived
from glmprep.entries import DIGEST_BYTES
from glmprep.errors import InputError
from glmprep.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """Lines that were made of a block, without them: where they are, how many, and the facts.

    `place` is the input file of the block; `kept` says that they were there from an earlier run.
    """

    kept: bool
    name: str
    place: int
    lines: int
    facts: Mapping[str, Any]


class TextStage(Protocol):
    """The work of making text of a block. Picklable."""

    def __call__(self, block: Block) -> tuple[Text, Block]:
        """What was made of a block, now or before, and its lines as a block for the next stage."""

    def text(self, block: Block) -> Text:
        """The same without the lines, where no stage follows."""


def made_once(
    store: Store,
    name: str,
    block: Block,
    output: str,
    make: Callable[[], tuple[Sequence[bytes], Mapping[str, Any]]],
) -> tuple[Text, Block]:
    """The text called `name`: found in the store, or made, as lines and facts, and kept there.

    `output` is the file that the lines will be part of.
    """
    found = _found(store, name)
    if found is None:
        lines, facts = make()
        data = b"".join(lines)
        store.write(f"{name}.jsonl", [data])
        known: dict[str, Any] = {"bytes": len(data), "lines": len(lines), "facts": facts}
        store.write(f"{name}.json", _sealed(orjson.dumps(known)))
    else:
        known, data = found
    text = Text(
        kept=found is not None,
        name=name,
        place=block.place,
        lines=known["lines"],
        facts=known["facts"],
    )
    return text, derived(output, data)


def facts(store: Store, name: str) -> Mapping[str, Any]:
    """The facts of a text that was made; raises InputError where they are gone or changed."""
    found = _known(store, name)
    if found is None:
        raise InputError(f"the unit {name} was removed or changed during the run; run again")
    told: Mapping[str, Any] = found["facts"]
    return told


def _found(store: Store, name: str) -> tuple[dict[str, Any], bytes] | None:
    """What was made before; None where it is not there as it was written."""
    known = _known(store, name)
    if known is None or store.size(f"{name}.jsonl") != known["bytes"]:
        return None
    return known, store.read(f"{name}.jsonl")


def _known(store: Store, name: str) -> dict[str, Any] | None:
    if store.size(f"{name}.json") is None:
        return None
    sealed = store.read(f"{name}.json")
    seal, data = sealed[:DIGEST_BYTES], sealed[DIGEST_BYTES:]
    if seal != blake2b(data, digest_size=DIGEST_BYTES).digest():
        return None
    known: dict[str, Any] = orjson.loads(data)
    return known


def _sealed(data: bytes) -> list[bytes]:
    return [blake2b(data, digest_size=DIGEST_BYTES).digest(), data]
