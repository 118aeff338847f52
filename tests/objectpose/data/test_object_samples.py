"""Images of objects as samples: sizes, places, padding, color, and labels that are refused."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.refusals import refuses

from stadia.core.errors import DataError
from stadia.core.types import Camera
from stadia.geometry.poses import quaternion_multiply
from stadia.losses.class_masks import IGNORE_INDEX
from stadia.objectpose.boxes import symmetric_angle_deg
from stadia.objectpose.data.object_labels import (
    UNLABELED,
    ObjectImages,
    ObjectLabel,
    ObjectLabels,
    SymmetryLabel,
    check_labels,
    check_pose,
    check_quaternion,
    check_size,
    count_pixels,
)
from stadia.objectpose.data.object_samples import ObjectSamples
from stadia.objectpose.label_checks import survey_objects

HALF_TURN = (0.0, 0.0, 1.0, 0.0)


def label(
    class_id: int, z: float, symmetry: SymmetryLabel = "none", full_px: int = 0, visible_px: int = 1
) -> ObjectLabel:
    T = np.eye(4)
    T[:3, :3] = check_quaternion("a test", [-0.5, 0.5, 0.5, 0.5])
    T[2, 3] = z
    return ObjectLabel(class_id, T, np.array([0.1, 0.2, 0.3]), symmetry, visible_px, full_px)


@dataclass
class Drawn(ObjectImages):
    """8 x 12 images with squares: the first shows two objects and hides one, the second shows one, the third none."""

    name: str = "drawn"
    classes: tuple[str, ...] = ("background", "cup", "bowl")
    objects: list[tuple[ObjectLabel, ...]] = field(
        default_factory=lambda: [
            (label(2, 1.0, "revolution", 48), label(1, 2.0, visible_px=0), label(1, 3.0, (HALF_TURN,))),
            (label(1, 4.0, "none", 20),),
            (),
        ]
    )

    def __len__(self) -> int:
        return len(self.objects)

    def image(self, index: int) -> NDArray[np.uint8]:
        return np.full((8, 12, 3), 60 + 40 * index, np.uint8)

    def camera(self, index: int) -> Camera:
        return Camera(np.array([[10.0, 0, 5.5], [0, 10, 3.5], [0, 0, 1]]), 8, 12)

    def labels(self, index: int) -> ObjectLabels:
        instance = np.zeros((8, 12), np.int32)
        if index == 0:
            instance[:, :6] = 1
            instance[0:4, 6:8] = 3  # object 2 is nowhere
        elif index == 1:
            instance[4:, 8:] = 1
        return ObjectLabels(instance, self.objects[index])

    def file(self, index: int) -> Path:
        return Path(f"{index}.png")


def test_a_batch_holds_every_object_in_its_place() -> None:
    samples = ObjectSamples([Drawn()], height=16, width=24)
    batch = samples.unpack(samples.stack([samples[0], samples[1], samples[2]]))
    targets = batch.targets
    assert batch.inputs.image.shape == (3, 3, 16, 24)
    assert torch.equal(batch.inputs.image, targets.image)
    assert targets.known.tolist() == [[True, True], [True, False], [False, False]]
    assert targets.class_id.tolist() == [[2, 1], [1, 0], [0, 0]]
    assert targets.T_camera_object[:, :, 2, 3].tolist() == [[1, 3], [4, 0], [0, 0]], "the hidden object is left out"
    assert targets.visible_px.tolist() == [[192, 32], [64, 0], [0, 0]]
    assert targets.full_px.tolist() == [[192, 0], [80, 0], [0, 0]], "counted in the sample's pixels"
    for row in range(3):
        counts = torch.bincount(targets.instance[row].flatten(), minlength=3)[1:]
        assert counts.tolist() == targets.visible_px[row].tolist()
    assert torch.bincount(targets.class_map.flatten()).tolist() == [3 * 16 * 24 - 192 - 32 - 64, 32 + 64, 192]
    assert targets.symmetry.revolution.tolist() == [[True, False], [False, False], [False, False]]
    torch.testing.assert_close(targets.quaternion_wxyz[0, 0], torch.tensor([0.5, -0.5, -0.5, -0.5]))
    assert (targets.quaternion_wxyz.norm(dim=-1) - 1).abs().max() < 1e-6
    assert [meta.index for meta in batch.meta] == [0, 1, 2]


def test_pixels_of_unlabeled_objects_are_ignored() -> None:
    """The last rows, drawn twice as large: neither background nor any object; every place and count as without them."""

    class Unlabeled(Drawn):
        def labels(self, index: int) -> ObjectLabels:
            labels = super().labels(index)
            labels.instance[6:] = UNLABELED
            return labels

    samples = ObjectSamples([Unlabeled()], height=16, width=24)
    targets = samples.unpack(samples.stack([samples[0], samples[1]])).targets
    assert (targets.class_map[:, 12:] == IGNORE_INDEX).all()
    assert (targets.class_map[:, :12] != IGNORE_INDEX).all()
    assert targets.instance.min() == 0
    assert targets.class_id.tolist() == [[2, 1], [1, 0]]
    assert targets.visible_px.tolist() == [[144, 32], [32, 0]]


def test_object_lost_by_resizing_keeps_its_place() -> None:
    samples = ObjectSamples([Drawn()], height=8, width=2)
    targets = samples.unpack(samples.stack([samples[0]])).targets
    assert targets.class_id.tolist() == [[2, 1]]
    assert (targets.known.tolist(), targets.visible_px.tolist()) == ([[True, True]], [[8, 0]])
    assert targets.instance.max() == 1


@pytest.mark.parametrize(
    ("quaternion", "found"),
    [
        ([0, 0, 0, 0], "the zero quaternion"),
        ([1, 1, 0, 0], "of length 1.414"),
        ([1, 0, 0], "expected a quaternion of four finite numbers"),
        ([float("nan"), 0, 0, 1], "expected a quaternion of four finite numbers"),
    ],
)
def test_a_quaternion_that_is_no_rotation_is_refused(quaternion: list[float], found: str) -> None:
    with refuses(DataError, where="4"):
        check_quaternion("object 4", quaternion)


def test_impossible_sizes_positions_and_numbers_are_refused() -> None:
    with refuses(DataError, where="object 4"):
        check_size("object 4", [0.1, 0.0, 0.2])
    with refuses(DataError, where="object 4"):
        check_size("object 4", [100.0, 50.0, 210.0])  # millimetres
    with refuses(DataError, where="object 4"):
        check_pose("object 4", np.eye(3), [0, 0, -1])
    with refuses(DataError, found="7", expected="1"):
        check_labels("a mask", ObjectLabels(np.full((2, 2), 7, np.int32), (label(1, 1.0),)))
    np.testing.assert_array_equal(count_pixels(np.array([[0, 2], [2, 1]], np.int32), 3), [1, 2, 0])


class Counted(Drawn):
    """As Drawn, with visible pixels counted as a reader does."""

    def labels(self, index: int) -> ObjectLabels:
        labels = super().labels(index)
        counts = count_pixels(labels.instance, len(labels.objects))
        return ObjectLabels(
            labels.instance,
            tuple(replace(one, visible_px=int(n)) for one, n in zip(labels.objects, counts, strict=True)),
        )


def test_survey_counts_visible_and_hidden_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for index in range(3):
        cv2.imwrite(str(Drawn().file(index)), Drawn().image(index))
    found = survey_objects(Counted())
    assert (found.images, found.objects) == (3, {"bowl": 1, "cup": 2})
    assert (found.hidden, found.left_out) == ((("0.png", 2),), ())
    assert survey_objects(Counted(), at_most=2).images == 2


def test_symmetries_of_a_batch_are_those_of_its_objects() -> None:
    samples = ObjectSamples([Drawn()], height=8, width=12)
    targets = samples.unpack(samples.stack([samples[0], samples[1]])).targets
    turned = quaternion_multiply(
        torch.tensor([0.5, -0.5, -0.5, -0.5]), torch.tensor(HALF_TURN)
    )  # as good for the third object alone
    angle = symmetric_angle_deg(turned.expand(2, 2, 4), targets.quaternion_wxyz, targets.symmetry)
    assert angle[0, 1] < 1e-3
    assert angle[1, 0] == pytest.approx(180, abs=1e-3)
