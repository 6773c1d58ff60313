"""Everything on every rank (DistributedDataParallel): only gradients are exchanged.

Proven with two processes over gloo, equal to one within 1e-5, LoRA and full; not tried with NCCL.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from glmtrain.settings import Config
from glmtrain.strategies.single import Single


class DDP(Single):
    """A rank exchanges gradients in buckets of `devices.bucket_mb` while it still computes others.

    There is no search for weights without a gradient: each has one in every batch, if a zero.
    """

    module: DistributedDataParallel

    def _wrapped(self, config: Config) -> nn.Module:
        device = self.place.device
        return DistributedDataParallel(
            self.learner.to(device),
            device_ids=None if device.type == "cpu" else [device],
            bucket_cap_mb=config.devices.bucket_mb,
            gradient_as_bucket_view=True,
        )

    def accumulating(self, *, last: bool) -> AbstractContextManager[Any]:
        """Exchange once a step, not once a part."""
        return nullcontext() if last else self.module.no_sync()
