"""Findings on images of objects before a training: files that are no images, and labels that do not lie on their
masks.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from tests.refusals import refuses

from stadia.core.errors import DataError
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


def mutated(tables: Path, change: Callable[[list[Entry]], None]) -> None:
    """Each image's list of objects."""
    for path in tables.glob("train-*/scene.json"):
        scene = json.loads(path.read_text())
        for image in scene["images"]:
            change(image["objects"])
        path.write_text(json.dumps(scene))


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


@pytest.mark.slow
@pytest.mark.parametrize(
    "change", [each(xyzw), reverse, scaled("size_m", 0.5), scaled("size_m", 2.5), scaled("t_camera_object_m", 1.6)]
)
def test_wrong_labels_are_stop_findings(tables: Path, change: Callable[[list[Entry]], None]) -> None:
    mutated(tables, change)
    found = [one for one in check_object_labels({"train": surveyed(tables)}) if one.code == "O05"]
    assert [one.severity for one in found] == ["stop"]
    assert found[0].evidence["worst"]["file"][0].startswith("train-000")


@pytest.mark.slow
def test_unreadable_images_are_reported_by_file(tables: Path) -> None:
    """Also where an image is not among those that are read: the first and the last alone are."""
    files = [ObjectFolder.open(tables, "train").file(index) for index in range(6)]
    files[1].unlink()
    files[2].write_text("a table")
    files[3].write_bytes(files[3].read_bytes()[:-40])
    files[4].write_bytes(b"")
    found = surveyed(tables, at_most=2)
    assert (found.images, found.whole) == (2, 16)
    names, faults = zip(*found.unreadable, strict=True)
    assert names == tuple("/".join(file.parts[-3:]) for file in files[1:5])
    for fault, word in zip(faults, ("no such file", "neither PNG nor JPEG", "cut off", "empty"), strict=True):
        assert word in fault
    files[0].write_bytes(files[5].read_bytes()[:60] + b"spoilt" + files[5].read_bytes()[66:])
    assert "damaged" in surveyed(tables, at_most=2).unreadable[0][1], "a sampled image is read whole"


@pytest.mark.slow
def test_a_mirrored_world_is_refused(tables: Path) -> None:
    path = tables / "train-00001" / "scene.json"
    scene = json.loads(path.read_text())
    scene["images"][1]["T_world_camera"] = (np.diag([1.0, 1, -1, 1]) @ scene["images"][1]["T_world_camera"]).tolist()
    path.write_text(json.dumps(scene))
    with refuses(DataError, where=("train-00001/scene.json", "T_world_camera"), found="-1"):
        ObjectFolder.open(tables, "train")


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


def test_hidden_objects_and_untrained_classes_are_reported() -> None:
    good = ObjectSurvey(10, {"cup": 5, "can": 3}, (), ())
    assert check_object_labels({"train": good, "val": good}) == []
    hidden = replace(good, hidden=(("a/004.png", 1), ("a/004.png", 2), ("a/007.png", 1)))
    (found,) = check_object_labels({"train": hidden, "val": good})
    assert (found.code, found.severity) == ("O01", "note")
    assert (
        "3 labeled objects in 2 of 10 images of 'train' have no pixel, such as number 1 of a/004.png" in found.measured
    )
    (found,) = check_object_labels({"train": replace(good, objects={"cup": 5}), "val": good})
    assert (found.code, found.severity) == ("O03", "warn")
    assert "'val' shows can" in found.measured
    (found,) = check_object_labels({"train": replace(good, objects={}), "val": good})
    assert (found.code, found.severity) == ("O02", "stop")


def test_visible_objects_without_a_pose_are_reported() -> None:
    good = ObjectSurvey(10, {"cup": 5}, (), ())
    (found,) = check_object_labels(
        {
            "train": good,
            "val": replace(good, left_out=(("4", 7, "no depth"), ("4", 2, "few agree"), ("6", 1, "no depth"))),
        }
    )
    assert (found.code, found.severity) == ("O04", "warn")
    assert (
        "3 visible objects in 2 of 10 images of 'val' have no pose, such as number 7 of 4: no depth" in found.measured
    )
    assert found.evidence["left_out"]["object"] == [7, 2, 1]


def test_unreadable_images_stop_and_hide_missing_objects() -> None:
    good = ObjectSurvey(10, {"cup": 5}, (), ())
    (found,) = check_object_labels(
        {"train": ObjectSurvey(2, {}, (), (), 2, (("t/image/000.png", "no such file"), ("t/image/001.png", "text")))}
    )
    assert (found.code, found.severity) == ("D01", "stop")
    assert "2 of 2 images of 'train' cannot be read, such as t/image/000.png: no such file" in found.measured
    assert found.evidence["unreadable"]["found"] == ["no such file", "text"]
    (found,) = check_object_labels({"train": replace(good, whole=30), "val": replace(good, whole=10)})
    assert (found.code, "20 of 40 images" in found.measured) == ("N02", True)


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
