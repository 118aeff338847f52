"""Stop networks at a time limit: a pass that has begun ends at its next layer."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

from torch import Tensor
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from stadia.diagnostics.survey import NotChecked


class TimeOver(NotChecked):
    """A network was stopped before it returned an output."""

    def __init__(self) -> None:
        super().__init__("the time limit of the checks was reached")


@contextlib.contextmanager
def ending_at(deadline: float) -> Iterator[None]:
    """Make every layer raise TimeOver once time.monotonic() is past the deadline, forward and backward.

    One pass through a large network can take minutes on a CPU, and its time is not known before. Weights and statistics
    are then left in the middle of a step, so use copies. Code outside of layers (a loss) is not interrupted.
    """

    def check_time(*_: object) -> None:
        if time.monotonic() > deadline:
            raise TimeOver

    def check_time_backward(module: object, inputs: object, output: Any) -> None:
        for one in output if isinstance(output, tuple | list) else (output,):
            if isinstance(one, Tensor) and one.requires_grad:
                one.register_hook(check_time)  # type: ignore[no-untyped-call]

    hooks = register_module_forward_pre_hook(check_time), register_module_forward_hook(check_time_backward)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
