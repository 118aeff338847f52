"""Write score files without losing earlier scores of the same name."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

from stadia.core.files import replacing, write_json


def write_score(path: Path, score: dict[str, Any]) -> None:
    """Write NAME.json. Keep a different earlier score as NAME.earlier-1.json, or the first such name that is free."""
    with replacing(path) as new:
        write_json(new, score)
        if path.exists() and path.read_bytes() != new.read_bytes():
            earlier = (path.with_name(f"{path.stem}.earlier-{number}.json") for number in count(1))
            path.rename(next(name for name in earlier if not name.exists()))
