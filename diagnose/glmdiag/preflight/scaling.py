"""Which loss scales suit fp16: small gradients must not vanish, and large ones not overflow."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from glmdiag.preflight.magnitudes import Magnitudes

HALF_LARGEST = float(torch.finfo(torch.float16).max)
HALF_SMALLEST = 2.0**-24
"""The smallest number above zero in fp16; those below 2^-14 have fewer digits already."""
HALF_NORMAL = 2.0**-14
LOST = 0.05
"""The share of gradients that may become zero before a loss scale counts as too small."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Headroom:
    """Loss scales for fp16, from the reference's gradients.

    At `scale`, where a run would begin, the share `lost` becomes zero and `faint` lies below the
    normal numbers; `most` is the largest scale without overflow, `least` the smallest that loses
    no more than a twentieth.
    """

    scale: float
    lost: float
    faint: float
    most: float
    least: float

    @property
    def halvings(self) -> int:
        """Steps that are skipped before the scale is small enough."""
        return max(0, math.ceil(math.log2(self.scale / self.most)))


def headroom(gradients: Magnitudes, scale: float) -> Headroom:
    """The room that gradients, as exact as can be had, leave around a loss scale."""
    small = gradients.quantile(LOST)
    return Headroom(
        scale=scale,
        lost=gradients.below(HALF_SMALLEST / scale),
        faint=gradients.below(HALF_NORMAL / scale),
        most=HALF_LARGEST / gradients.steepest if gradients.steepest else math.inf,
        least=HALF_SMALLEST / small if small else 0.0,
    )
