"""Running a checkpoint at another size than it was trained at: what is asked for, and what to know of it. Imports no
torch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stadia.core.errors import ConfigError
from stadia.core.files import read_json

Size = tuple[int, int]
"""Height and width, pixels."""

_SIZE = re.compile(r"([0-9]{1,5})x([0-9]{1,5})")
_LARGEST = 8192

MOST_TIMES = 1.3
"""SILog at another size over that at the training's: what is above is the size's doing (docs/dpt.md, D-05)."""


def read_size(text: str) -> Size:
    """Height and width of "1216x352", width first as sizes are written. Raises ConfigError. What a network allows, its
    recipe says.
    """
    found = _SIZE.fullmatch(text.strip())
    width, height = (int(found[1]), int(found[2])) if found else (0, 0)
    if not (0 < height <= _LARGEST and 0 < width <= _LARGEST):
        raise ConfigError(
            "--size", found=f"'{text}'", expected="WIDTHxHEIGHT in pixels", fix="for example --size 1216x352"
        )
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
        f"run at {here}, trained at {there}: a network knows things by their size in pixels; compare with the score at"
        f" {there} (no --size)"
    ]


def note_against_trained(silog: float, trained: Path, about: Mapping[str, Any]) -> list[str]:
    """How a score at another size compares with that at the training's, where there is one.

    Args:
        silog: at the other size.
        trained: the score file at the training's size, which may be missing.
        about: what made the score, as in its file; a file that says another thing than this, but for `size`, is of
            something else.
    """
    if not trained.is_file():
        return []
    there = read_json(trained)
    same = {key: value for key, value in json.loads(json.dumps(about)).items() if key != "size"}
    before = there.get("metrics", {}).get("silog")
    if not before or any(there.get(key) != value for key, value in same.items()):
        return []
    times = silog / before
    verdict = f": above {MOST_TIMES} the size is at fault, not the images" if times > MOST_TIMES else ""
    return [f"SILog is {times:.2f} times that at the training's size, {before:.4g} in {trained.name}{verdict}"]
