"""Read values of a logged row, whichever recipe logged it."""

from __future__ import annotations

from collections.abc import Mapping

BASE_RECIPE = "selfsup"
"""A recipe that adds losses to another recipe logs the values of that one under its name."""


def get_logged(row: Mapping[str, float], name: str) -> float | None:
    """Return `train/NAME` of the recipe itself or of BASE_RECIPE as a part of it; None where it is not logged."""
    return row.get(f"train/{name}", row.get(f"train/{BASE_RECIPE}/{name}"))


def get_logged_parts(row: Mapping[str, float], name: str) -> dict[str, float]:
    """Return `train/NAME/PART` by the part, of the recipe itself or of BASE_RECIPE."""
    starts = f"train/{name}/", f"train/{BASE_RECIPE}/{name}/"
    return {key.partition(f"{name}/")[2]: value for key, value in row.items() if key.startswith(starts)}
