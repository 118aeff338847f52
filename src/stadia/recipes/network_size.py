"""Running a checkpoint at another size than it was trained at: what is asked for, and what to know of it. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from stadia.core.errors import ConfigError

Size = tuple[int, int]
"""Height and width, pixels."""

_SIZE = re.compile(r"([0-9]{1,5})x([0-9]{1,5})")
_LARGEST = 8192


def read_size(text: str) -> Size:
    """Height and width of "1216x352", width first as sizes are written. Raises ConfigError. What a network allows, its recipe says."""
    found = _SIZE.fullmatch(text.strip())
    width, height = (int(found[1]), int(found[2])) if found else (0, 0)
    if not (0 < height <= _LARGEST and 0 < width <= _LARGEST):
        raise ConfigError("--size", found=f"'{text}'", expected="WIDTHxHEIGHT in pixels", cure="for example --size 1216x352")
    return height, width


def trained_size(config: Mapping[str, Any]) -> Size | None:
    """What a checkpoint's configuration says that its networks were shown; None where it says nothing."""
    data = config.get("data", {})
    return (data["height"], data["width"]) if {"height", "width"} <= data.keys() else None


def other_size(asked: str | None, config: Mapping[str, Any]) -> Size | None:
    """The size that was asked for, where it is not the training's anyway; None runs at the training's."""
    size = None if asked is None else read_size(asked)
    return None if size == trained_size(config) else size


def note_of_size(size: Size | None, config: Mapping[str, Any]) -> list[str]:
    """What a reader of predictions and scores at another size should know."""
    trained = trained_size(config)
    if size is None or trained is None:
        return []
    here, there = (f"{width}x{height}" for height, width in (size, trained))
    return [
        f"run at {here}, trained at {there}: a network knows things by their size in pixels; compare with the score at {there} (no --size)"
    ]
