"""How much memory tensors take while something runs, on devices whose allocator keeps no count."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class TensorMemory(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows the memory of every tensor that an operation takes or makes inside the `with`.

    `peak` is the most bytes at once. Shared memory counts once, and what an operation needs while
    it runs, inside itself, is not seen: on a CPU that is some packing of matrices. Memory that
    was there before counts if it is in `known` or is used.

    The idea is that of torch.distributed._tools.mem_tracker, without its sorting by modules.
    """

    def __init__(self, known: Iterable[Tensor] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._seen: set[int] = set()
        for tensor in known:
            self._see(tensor)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run the operation, then look at its tensors."""
        kwargs = kwargs or {}
        made = func(*args, **kwargs)
        for leaf in tree_leaves((args, kwargs, made)):
            if isinstance(leaf, Tensor):
                self._see(leaf)
        return made

    def _see(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        place, size = storage._cdata, storage.nbytes()
        if place in self._seen or tensor.device.type == "meta":
            return
        self._seen.add(place)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._gone, place, size).atexit = False

    def _gone(self, place: int, size: int) -> None:
        self._seen.discard(place)
        self.now -= size
