"""Parse the `data.` options of predict and evaluate, the same keys as in a training. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stadia.core.config import StrictModel, resolve
from stadia.data.config import DataConfig, SourceOptions


class FormatOptions(SourceOptions):
    """`SourceOptions` and the format."""

    format: str = "auto"


class _SourceKeys(StrictModel):
    data: FormatOptions = FormatOptions()


def source_options(overrides: Sequence[str]) -> dict[str, Any]:
    """Return keyword arguments of `open_recordings` from `data.key=value` options. Raises ConfigError."""
    return resolve(_SourceKeys, {}, overrides).data.model_dump(exclude_unset=True)


class _DataKeys(StrictModel):
    data: DataConfig


def data_config(path: str, format: str, overrides: Sequence[str]) -> DataConfig:
    """Return the data configuration of `data.key=value` options, as in a training. Raises ConfigError."""
    return resolve(_DataKeys, {"data": {"path": path, "format": format}}, overrides).data
