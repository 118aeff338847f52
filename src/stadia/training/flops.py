"""Count the floating point operations of convolutions and matrix products."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

_paused = False


@contextlib.contextmanager
def uncounted() -> Iterator[None]:
    """Pause every `FlopCount`: what is computed within is no part of a step (an occasional measurement)."""
    global _paused
    before, _paused = _paused, True
    try:
        yield
    finally:
        _paused = before


class FlopCount(TorchDispatchMode):
    """While entered, count by the formulas of torch, two operations for each multiplication; without a formula, none.

    Unlike torch's FlopCounterMode it does not decompose operations, so it changes no result.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None and not _paused:
            with contextlib.suppress(Exception):  # a shape that a formula does not support must not end a training
                self.flops += int(formula(*args, **kwargs, out_val=out))
        return out
