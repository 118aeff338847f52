"""Messages for wrong labels in stadia's own layout: the value found and the expected one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stadia.core.errors import DataError
from stadia.datasets.objects.bop import BopImages
from stadia.datasets.objects.object_folder import ObjectFolder
from stadia.datasets.objects.object_labels import check_quaternion
from stadia.datasets.objects.open_objects import open_object_images

OBJECT = {"class": "cup", "quaternion_wxyz": [1, 0, 0, 0], "t_camera_object_m": [0, 0, 1], "size_m": [0.1, 0.1, 0.1]}


def dataset(root: Path, **changed: object) -> Path:
    (root / "one").mkdir(parents=True)
    (root / "dataset.json").write_text(
        json.dumps(
            {"format": "stadia-objects", "version": 1, "classes": ["background", "cup"], "splits": {"train": ["one"]}}
        )
    )
    one = {"K": [[90, 0, 40], [0, 90, 30], [0, 0, 1]], "height": 60, "width": 80, "objects": [OBJECT | changed]}
    one |= {key: value for key, value in changed.items() if key == "K"}
    (root / "one" / "scene.json").write_text(json.dumps({"images": [one]}))
    return root


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "K",
            [[1, 0], [0, 1]],
            r"found images.0.K \[\[1, 0\], \[0, 1\]\]; expected three rows of three finite numbers. Fix:",
        ),
        ("K", "abc", r'found images.0.K "abc"; expected three rows of three finite numbers. Fix:'),
        ("symmetry", "mirror", r'found images.0.objects.0.symmetry "mirror"; expected none, revolution, or a list'),
        (
            "t_camera_object_m",
            [1, 0],
            r"objects.0.t_camera_object_m \[1, 0\]; expected three finite numbers, metres. Fix:",
        ),
        (
            "quaternion_wxyz",
            [float("nan"), 0, 0, 1],
            r"quaternion_wxyz \[NaN, 0, 0, 1\]; expected four finite numbers w, x, y, z. Fix:",
        ),
    ],
)
def test_wrong_label_is_refused_with_its_value(tmp_path: Path, key: str, value: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        ObjectFolder.open(dataset(tmp_path / "objects", **{key: value}), "train")


def test_quaternion_of_three_numbers_is_refused() -> None:
    with pytest.raises(DataError, match="found 3 numbers; expected a quaternion of four finite numbers"):
        check_quaternion("object 1", [1, 0, 0])


def test_missing_split_is_refused_with_alternatives(tmp_path: Path, bop: Path) -> None:
    with pytest.raises(
        DataError, match=r"no image in 'val'; expected one of its splits: train. Fix: .*data.val_split=null"
    ):
        open_object_images(dataset(tmp_path / "objects"), "val")
    with pytest.raises(DataError, match=r"found no scene; .* Fix: set data.train_split=test data.val_split=null"):
        BopImages.open(bop, "val")
