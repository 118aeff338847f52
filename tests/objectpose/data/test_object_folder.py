"""Stadia's own layout of images with objects: what is not in it is named; its labels: test_tableworld_writer.py."""

from __future__ import annotations

import json
from pathlib import Path

from tests.refusals import refuses

from stadia.core.errors import DataError
from stadia.objectpose.data.bop import BopImages
from stadia.objectpose.data.object_labels import check_quaternion
from stadia.objectpose.data.open_objects import open_object_images


def test_quaternion_of_three_numbers_is_refused() -> None:
    with refuses(DataError, found="3"):
        check_quaternion("object 1", [1, 0, 0])


def test_missing_split_is_refused_with_alternatives(tmp_path: Path, bop: Path) -> None:
    image = {"K": [[90, 0, 40], [0, 90, 30], [0, 0, 1]], "height": 60, "width": 80, "objects": []}
    (tmp_path / "own" / "table").mkdir(parents=True)
    (tmp_path / "own" / "table" / "scene.json").write_text(json.dumps({"images": [image]}))
    kind = {"format": "stadia-objects", "version": 1, "classes": ["background"], "splits": {"train": ["table"]}}
    (tmp_path / "own" / "dataset.json").write_text(json.dumps(kind))
    with refuses(DataError, where="own", found="val", fix="data.val_split=null"):
        open_object_images(tmp_path / "own", "val")
    with refuses(DataError, where="val", fix=("data.train_split=test", "data.val_split=null")):
        BopImages.open(bop, "val")
