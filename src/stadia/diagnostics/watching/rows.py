"""What a logged row holds, whichever recipe logged it."""

from __future__ import annotations

from collections.abc import Mapping

ADDED_TO = "selfsup"
"""A recipe that adds to another's losses logs what that one sees under its name."""


def logged(row: Mapping[str, float], name: str) -> float | None:
    """`train/NAME`, of the recipe itself or of `ADDED_TO` as a part of it; None where it is not logged."""
    return row.get(f"train/{name}", row.get(f"train/{ADDED_TO}/{name}"))


def logged_of_each(row: Mapping[str, float], name: str) -> dict[str, float]:
    """`train/NAME/PART` by the part, of the recipe itself or of `ADDED_TO`."""
    starts = f"train/{name}/", f"train/{ADDED_TO}/{name}/"
    return {key.partition(f"{name}/")[2]: value for key, value in row.items() if key.startswith(starts)}
