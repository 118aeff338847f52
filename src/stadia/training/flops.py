"""How many floating point operations a piece of a program takes at least: its convolutions and products of matrices."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

_paused = False


@contextlib.contextmanager
def uncounted() -> Iterator[None]:
    """What is computed within is no part of a step, as a measurement that is made now and then: every `FlopCount` looks
    away.
    """
    global _paused
    before, _paused = _paused, True
    try:
        yield
    finally:
        _paused = before


class FlopCount(TorchDispatchMode):
    """While entered, counts by torch's own formulas, two operations for each multiplication. What has no formula counts
    nothing.

    It looks on alone, where torch's FlopCounterMode takes composed operations apart, so nothing that it counts is
    computed otherwise.
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
            with contextlib.suppress(Exception):  # a shape that a formula does not know ends no training
                self.flops += int(formula(*args, **kwargs, out_val=out))
        return out
