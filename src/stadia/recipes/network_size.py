"""Run a checkpoint at another image size than in training: parse the size, write notes. Imports no torch."""

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
"""SILog at another size over SILog at the training size; above, the size is the cause (docs/dpt.md, D-05)."""


def read_size(text: str) -> Size:
    """Return height and width of "1216x352" (width first). Raises ConfigError. The recipe checks what its network
    supports.
    """
    found = _SIZE.fullmatch(text.strip())
    width, height = (int(found[1]), int(found[2])) if found else (0, 0)
    if not (0 < height <= _LARGEST and 0 < width <= _LARGEST):
        raise ConfigError(
            "--size", found=f"'{text}'", expected="WIDTHxHEIGHT in pixels", fix="for example --size 1216x352"
        )
    return height, width


def trained_size(config: Mapping[str, Any]) -> Size | None:
    """Return the network's training size from a checkpoint's configuration; None if it has none."""
    data = config.get("data", {})
    return (data["height"], data["width"]) if {"height", "width"} <= data.keys() else None


def other_size(requested: str | None, config: Mapping[str, Any]) -> Size | None:
    """Return the requested size if it differs from the training size, else None."""
    size = None if requested is None else read_size(requested)
    return None if size == trained_size(config) else size


def note_of_size(size: Size | None, config: Mapping[str, Any]) -> list[str]:
    """Return notes for predictions and scores at another size."""
    trained = trained_size(config)
    if size is None or trained is None:
        return []
    here, there = (f"{width}x{height}" for height, width in (size, trained))
    return [
        f"run at {here}, trained at {there}: a network depends on the size of objects in pixels; "
        f"compare with the score at {there} (no --size)"
    ]


def note_against_trained(silog: float, trained: Path, about: Mapping[str, Any]) -> list[str]:
    """Return a note that compares a score at another size with the one at the training size, if there is one.

    Args:
        silog: at the other size.
        trained: score file at the training size; may be missing.
        about: metadata of the score; a file whose metadata differ, except for `size`, is not compared.
    """
    if not trained.is_file():
        return []
    there = read_json(trained)
    same = {key: value for key, value in json.loads(json.dumps(about)).items() if key != "size"}
    before = there.get("metrics", {}).get("silog")
    if not before or any(there.get(key) != value for key, value in same.items()):
        return []
    times = silog / before
    verdict = f": above {MOST_TIMES} the cause is the size, not the images" if times > MOST_TIMES else ""
    return [f"SILog is {times:.2f} times that at the training's size, {before:.4g} in {trained.name}{verdict}"]
