"""Splits, supersampling and preset lookup of rendered datasets. Imports neither torch nor numba."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, TypeVar

from pydantic import AfterValidator, Field

from stadia.core.errors import ConfigError
from stadia.core.tables import nearest

SPLITS = ("train", "val", "test")

Config = TypeVar("Config")


def _check_odd(samples: int) -> int:
    if samples % 2 == 0:
        raise ValueError("must be odd: the middle sample is the pixel's center")
    return samples


Supersampling = Annotated[int, Field(ge=1, le=9), AfterValidator(_check_odd)]
"""N for N x N samples a pixel."""


def named(presets: Mapping[str, Config], name: str) -> Config:
    """Return the preset of this name. Raises ConfigError with the nearest name."""
    if name not in presets:
        near = nearest(name, list(presets))
        fix = f"did you mean '{near}'?" if near else "choose one of them"
        raise ConfigError("preset", found=f"'{name}'", expected=f"one of {', '.join(presets)}", fix=fix)
    return presets[name]
