"""How predicting and evaluating open what they are pointed at: the same `data.` keys as a training. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stadia.core.config import StrictModel, resolve
from stadia.data.config import SourceOptions


class _Data(SourceOptions):
    """`SourceOptions` and the format. Every frame is wanted where nothing is trained, so the stride is 1."""

    format: str = "auto"
    stride: int = 1


class _Keys(StrictModel):
    data: _Data = _Data()


def source_options(overrides: Sequence[str]) -> dict[str, Any]:
    """Keyword arguments for `open_recordings` from `data.key=value` words. Raises ConfigError with every mistake at once."""
    options = resolve(_Keys, {}, overrides).data
    return {"stride": options.stride, **options.model_dump(exclude_unset=True)}
