"""Findings on images of objects before a training: files that are no images, and labels that do not lie on their
masks.
"""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from stadia.objectpose.config import TABLEWORLD_TINY
from stadia.objectpose.data.bop import BopImages
from stadia.objectpose.data.object_folder import ObjectFolder
from stadia.objectpose.data.object_labels import CachedLabels, ObjectImages, ObjectLabels
from stadia.objectpose.label_checks import BoxMaskFit, ObjectSurvey, check_object_labels, survey_objects
from stadia.objectpose.table_world import write_tableworld

Entry = dict[str, Any]


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sizes = {"train": 8, "val": 0, "test": 0, "views": 2, "height": 64, "width": 80, "supersampling": 1}
    return write_tableworld(
        TABLEWORLD_TINY.model_copy(update=sizes), tmp_path_factory.mktemp("tables") / "tiny", workers=1
    ).parent


@pytest.fixture
def tables(rendered: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(rendered, tmp_path / "tiny"))


def surveyed(tables: Path, at_most: int = 100) -> ObjectSurvey:
    return survey_objects(ObjectFolder.open(tables, "train"), at_most)


def each(change: Callable[[Entry], None]) -> Callable[[list[Entry]], None]:
    return lambda objects: [change(one) for one in objects] and None


def xyzw(one: Entry) -> None:
    w, *xyz = one["quaternion_wxyz"]
    one["quaternion_wxyz"] = [*xyz, w]


def reverse(objects: list[Entry]) -> None:
    poses = [{key: one[key] for key in ("quaternion_wxyz", "t_camera_object_m", "size_m")} for one in objects]
    for one, pose in zip(objects, reversed(poses), strict=True):
        one.update(pose)


def scaled(key: str, factor: float) -> Callable[[list[Entry]], None]:
    return each(lambda one: one.update({key: [value * factor for value in one[key]]}))


@pytest.mark.slow
def test_correct_labels_pass_the_mask_check(tables: Path) -> None:
    found = surveyed(tables)
    assert (found.images, found.whole, found.unreadable) == (16, 16, ())
    assert len(found.fits) > 40
    assert min(fit.inside for fit in found.fits) > 0.97
    assert np.median([fit.overlap for fit in found.fits]) > 0.45
    assert {one.code for one in check_object_labels({"train": found})} <= {"O01"}


class _Turned(CachedLabels):
    """As if quaternions x, y, z, w had been read as w, x, y, z; the masks are those of the right poses."""

    def labels(self, index: int) -> ObjectLabels:
        right = super().labels(index)
        turned = []
        for one in right.objects:
            T, (x, y, z, w) = (
                one.T_camera_object.copy(),
                Rotation.from_matrix(one.T_camera_object[:3, :3]).as_quat(canonical=True),
            )
            T[:3, :3] = Rotation.from_quat((y, z, w, x)).as_matrix()
            turned.append(replace(one, T_camera_object=T))
        return ObjectLabels(right.instance, tuple(turned))


@pytest.mark.real
def test_linemod_occluded_lies_on_its_masks_and_not_with_quaternions_turned_about(real_data: Path) -> None:
    images: ObjectImages = BopImages.open(real_data / "bop" / "lmo", "test").part(range(6))
    right, wrong = survey_objects(CachedLabels(images)), survey_objects(_Turned(images))
    assert min(fit.inside for fit in right.fits) > 0.99
    assert [one.severity for one in check_object_labels({"train": wrong}) if one.code == "O05"] == ["stop"]


def test_boxes_beside_their_masks_warn_and_many_of_them_stop() -> None:
    def reported(*fits: tuple[float, float]) -> list[tuple[str, str]]:
        survey = ObjectSurvey(
            10, {"cup": 5}, (), (), fits=tuple(BoxMaskFit("t/000.png", n, *fit) for n, fit in enumerate(fits, start=1))
        )
        return [(found.code, str(found.severity)) for found in check_object_labels({"train": survey})]

    assert reported(*[(1.0, 0.6)] * 99, (0.5, 0.6)) == []
    assert reported(*[(1.0, 0.6)] * 96, *[(0.5, 0.6)] * 4) == [("O05", "warn")]
    assert reported(*[(1.0, 0.6)] * 80, *[(0.5, 0.6)] * 20) == [("O05", "stop")]
    assert reported(*[(1.0, 0.02)] * 10) == [("O05", "stop")], "boxes that are much too large hold everything"
