"""Detect the format of a folder of object images by names alone. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from stadia.core.errors import DataError
from stadia.core.files import read_json
from stadia.core.tables import Table

OBJECT_FORMATS = Table(
    "format of object data",
    {
        "objects": "stadia.data.object_folder:ObjectFolder",
        "bop": "stadia.data.bop:BopImages",
        "nocs": "stadia.data.nocs:NocsImages",
        "kitti": "stadia.data.kitti_object:KittiObjectImages",
    },
)
"""Stadia's own layout (TableWorld and users, docs/tableworld.md), BOP's, NOCS's, KITTI's."""

LAYOUTS: Mapping[str, str] = {
    "objects": "dataset.json of stadia's own layout",
    "bop": "SPLIT/000001/scene_gt.json of BOP",
    "nocs": "*_coord.png of NOCS",
    "kitti": "SPLIT/label_2 of KITTI",
}


def object_layout(path: Path) -> str | None:
    """Return the name in OBJECT_FORMATS of a folder's layout; None without one, or for a dataset of another recipe."""
    described = path / "dataset.json"
    if described.is_file():
        return "objects" if _is_object_dataset(described) else None
    return next((name for name in ("bop", "nocs", "kitti") if splits_of(path, name)), None) if path.is_dir() else None


def _is_object_dataset(described: Path) -> bool:
    try:
        content = read_json(described)
    except DataError:
        return False
    return isinstance(content, dict) and content.get("format") == "stadia-objects"


def splits_of(path: Path, layout: str) -> list[str]:
    """Return the names of a dataset's splits, sorted; those of dataset.json in its order."""
    if layout == "objects":
        splits = read_json(path / "dataset.json").get("splits", {})
        return [name for name, folders in splits.items() if folders]
    if layout == "bop":
        return sorted({scene.parent.parent.name for scene in path.glob("*/[0-9]*/scene_gt.json")})
    if layout == "nocs":
        below = sorted(one.name for one in path.glob("*/") if next(one.rglob("*_coord.png"), None) is not None)
        return below or ["."] * any(path.glob("*_coord.png"))
    return sorted(labels.parent.name for labels in path.glob("*/label_2"))


def refuse_objects(path: Path) -> None:
    """Raise DataError where a path holds images of objects instead of recordings."""
    if (layout := object_layout(path)) is not None:
        raise DataError(
            path,
            found=f"images of objects ({LAYOUTS[layout]})",
            expected="a video or recordings, which depth and motion are trained and scored on",
            fix=(
                "`stadia check PATH --recipe objectpose`, `stadia train objectpose --data PATH`, or a run of objectpose"
                " to predict"
            ),
        )
