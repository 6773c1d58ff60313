"""What a rule on a log gives: the numbers that fill its texts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

Data: TypeAlias = "Mapping[str, Any] | None"
"""None where nothing is found; `step` is where the cause began, `severity` replaces the rule's."""


def known(value: float | None) -> float | str:
    """A number for a text, or a question mark for one that was not logged."""
    return "?" if value is None or math.isnan(value) else value
