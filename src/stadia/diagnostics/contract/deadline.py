"""Networks that stop where they are once their time is over: a pass that has begun ends at its next layer."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

from torch import Tensor
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from stadia.diagnostics.survey import NotChecked


class TimeOver(NotChecked):
    """A network was stopped in the middle, and what it would have said is not known."""

    def __init__(self) -> None:
        super().__init__("the time for the contract was over")


@contextlib.contextmanager
def ending_at(deadline: float) -> Iterator[None]:
    """Inside, every layer raises TimeOver once time.monotonic() is past the deadline, forward and backward.

    A pass through a large network takes a processor minutes, and nobody knows so before: it is not predicted, it is
    ended. Weights and
    statistics are then what they were in the middle: for copies only. What runs outside of layers (a loss) is not
        interrupted.
    """

    def ask(*_: object) -> None:
        if time.monotonic() > deadline:
            raise TimeOver

    def ask_backward(module: object, inputs: object, output: Any) -> None:
        for one in output if isinstance(output, tuple | list) else (output,):
            if isinstance(one, Tensor) and one.requires_grad:
                one.register_hook(ask)  # type: ignore[no-untyped-call]

    hooks = register_module_forward_pre_hook(ask), register_module_forward_hook(ask_backward)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
