"""Known cards, and which number formats a card has units for."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

from glmprep.errors import UsageError

from glmdiag.machine.accelerators import Device, Make

MIB = 1 << 20
BRANDS = re.compile(r"nvidia|geforce|tesla|rtx|gtx|quadro|huawei|ascend|amd|instinct|[\s_-]+")
TENSOR_CORES = (7, 0)
HALF_RATE = (6, 0)  # fp16 at twice the rate of fp32; 6.1 computes it at a 64th of that
AMPERE = (8, 0)
ADA = (8, 9)


@dataclass(frozen=True, slots=True, kw_only=True)
class Formats:
    """Which number formats a device has fast units for; None where that is not known."""

    bf16: bool | None = None
    fp16: bool | None = None
    tf32: bool | None = None
    fp8: bool | None = None


UNKNOWN = Formats()


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A kind of card; memory in bytes, bandwidth of the memory in GB/s, None where not known."""

    name: str
    memory: int
    make: Make = "nvidia"
    capability: str | None = None
    bandwidth: int | None = None
    nvlink: bool | None = None
    own_formats: Formats | None = None

    @property
    def device(self) -> Device:
        """The card as a device of a machine that has nothing else on it."""
        return Device(
            kind="npu" if self.make == "ascend" else "cuda",
            index=0,
            name=self.name,
            memory_total=self.memory,
            memory_free=self.memory,
            capability=self.capability,
            make=self.make,
        )

    @property
    def formats(self) -> Formats:
        """What it has units for."""
        return self.own_formats or formats_of(self.device)


def formats_of(device: Device) -> Formats:
    """What a device's compute capability says; nothing is known of other makes."""
    found = device.compute
    if found is None:
        return UNKNOWN
    return Formats(
        bf16=found >= AMPERE,
        fp16=found == HALF_RATE or found >= TENSOR_CORES,
        tf32=found >= AMPERE,
        fp8=found >= ADA,
    )


def find(name: str) -> Card:
    """A card by its name, with or without brand, in any case: `V100`, `RTX 3090`.

    Raises UsageError for one that is not known.
    """
    known = {_key(card.name): card for card in known_cards()}
    if _key(name) not in known:
        names = ", ".join(card.name for card in known_cards())
        raise UsageError(f"--simulate {name}: not a card that is known; known are {names}")
    return known[_key(name)]


@cache
def known_cards() -> tuple[Card, ...]:
    """All cards of the table."""
    text = resources.files("glmdiag.machine").joinpath("cards.toml").read_text(encoding="utf-8")
    return tuple(_card(entry) for entry in tomllib.loads(text)["card"])


def _card(entry: Mapping[str, object]) -> Card:
    values = dict(entry)
    formats = values.pop("formats", None)
    memory = values.pop("memory")
    assert isinstance(memory, int)
    own = None
    if isinstance(formats, list):
        own = Formats(**{name: name in formats for name in ("bf16", "fp16", "tf32", "fp8")})
    return Card(memory=memory * MIB, own_formats=own, **values)  # type: ignore[arg-type]


def _key(name: str) -> str:
    return BRANDS.sub("", name.lower())
