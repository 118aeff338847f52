"""Limit how many parameters a network may have while it is built: its configuration may come from somebody else."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from stadia.core.errors import CheckpointError

SLACK_FACTOR = 4
SLACK_NUMBERS = 1 << 26
"""While it is built, a network may have more weights than its file: heads and blocks that go again."""


@contextlib.contextmanager
def limit_parameters(path: Path, numbers: int) -> Iterator[None]:
    """Raise CheckpointError where networks are built in the block that are far larger than a file's weights.

    Args:
        path: of the file with their configuration, for the message.
        numbers: in the file.
    """
    count, most = 0, SLACK_FACTOR * numbers + SLACK_NUMBERS

    def add(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal count
        count += 0 if parameter is None else parameter.numel()
        if count > most:
            raise CheckpointError(
                path,
                found=f"a configuration of a network with more than {most >> 20} million weights",
                expected="a configuration of the file's own weights",
                fix="use a checkpoint whose configuration nobody changed",
            )

    handle = register_module_parameter_registration_hook(add)
    try:
        yield
    finally:
        handle.remove()
