"""Windows of objects: what a mask of many objects costs is bounded before each of them is read."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from stadia.core.errors import DataError
from stadia.datasets.masks.mask_files import MaskFiles
from stadia.datasets.masks.object_windows import find_windows


def write_masks(folder: Path, instance: np.ndarray) -> MaskFiles:
    """Masks of one image, all of it one class."""
    for kind, values in (("semantic", np.full(instance.shape, 9, np.uint8)), ("instance", instance.astype(np.uint16))):
        (folder / kind / "left").mkdir(parents=True)
        cv2.imwrite(str(folder / kind / "left" / "0.png"), values)
    (folder / "classes.json").write_text(json.dumps({"9": "car"}))
    return MaskFiles(folder)


def test_windows_are_the_bounding_boxes():
    instance = np.random.default_rng(0).integers(0, 40, (30, 50)) * (np.indices((30, 50))[1] > 5)
    windows = find_windows(instance)
    assert list(windows) == sorted(set(instance.ravel().tolist()) - {0})
    for number, (rows, columns) in windows.items():
        row, column = np.nonzero(instance == number)
        assert (rows.start, rows.stop) == (row.min(), row.max() + 1)
        assert (columns.start, columns.stop) == (column.min(), column.max() + 1)


@pytest.mark.parametrize("kind", ["many", "interlaced"])
def test_masks_of_too_many_objects_are_refused(tmp_path: Path, kind: str):
    """Each object took a pass over the image: 65,535 objects in 256x256 pixels took 53 s, in a photo hours."""
    many = np.arange(256 * 256).reshape(256, 256)
    instance = many if kind == "many" else np.resize(np.arange(1500), (700, 700)) + 1
    reader = write_masks(tmp_path, instance)
    with pytest.raises(DataError, match=r"instance/left/0\.png: found .* objects in windows"):
        reader.read("0", "left", height=instance.shape[0], width=instance.shape[1])


def test_masks_of_many_small_objects_are_read(tmp_path: Path):
    instance = np.kron(np.arange(1, 2501).reshape(50, 50), np.ones((8, 8), int))
    masks = write_masks(tmp_path, instance).read("0", "left", height=400, width=400)
    assert masks is not None
    assert len(np.unique(masks.instance)) == 2500
