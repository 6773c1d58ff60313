"""The card that a prediction is for: one by name, a number of bytes, or this machine's."""

from __future__ import annotations

from glmprep.errors import UsageError

from glmdiag.machine import accelerators, cards, nvml, processor
from glmdiag.memory.prediction import GIB
from glmdiag.memory.setup import Room


def find(card: str | None, gib: float | None) -> Room:
    """The room; raises UsageError for a card that is not known, or that is said twice."""
    if card is not None and gib is not None:
        raise UsageError("--card or --memory, not both")
    if gib is not None:
        return Room(name=f"{gib:g} GiB", memory=round(gib * GIB))
    if card is None:
        return _here()
    try:
        found = cards.find(card)
    except UsageError as error:
        known = ", ".join(each.name for each in cards.known_cards())
        raise UsageError(
            f"--card {card}: not known; give --memory GIB, or one of {known}"
        ) from error
    return Room(name=found.name, memory=found.memory)


def _here() -> Room:
    """This machine's smallest accelerator, or its main memory."""
    devices = nvml.look().devices or _of_torch()
    sizes = {device.memory_total: device.name for device in devices if device.memory_total}
    if sizes:
        return Room(name=sizes[min(sizes)], memory=min(sizes))
    cpu = processor.look()
    return Room(name=cpu.name, memory=cpu.memory_total, accelerator=False)


def _of_torch() -> list[accelerators.Device]:
    try:
        return list(accelerators.of_torch())
    except (ImportError, OSError):  # no torch, or one whose libraries are missing
        return []
