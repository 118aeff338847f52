"""How predicting and evaluating open what they are pointed at: the same `data.` keys as a training. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stadia.core.config import StrictModel, resolve
from stadia.data.config import DataConfig, SourceOptions


class _Data(SourceOptions):
    """`SourceOptions` and the format."""

    format: str = "auto"


class _Keys(StrictModel):
    data: _Data = _Data()


def source_options(overrides: Sequence[str]) -> dict[str, Any]:
    """Keyword arguments for `open_recordings` from `data.key=value` words. Raises ConfigError with every mistake at
    once.
    """
    return resolve(_Keys, {}, overrides).data.model_dump(exclude_unset=True)


class _WholeKeys(StrictModel):
    data: DataConfig


def data_config(path: str, format: str, overrides: Sequence[str]) -> DataConfig:
    """As a training would have it, of `data.key=value` words. Raises ConfigError with every mistake at once."""
    return resolve(_WholeKeys, {"data": {"path": path, "format": format}}, overrides).data
