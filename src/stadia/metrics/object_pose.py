"""Errors of object poses and sizes, one value per object; prediction and truth are already matched row by row.

`OBJECT_METRICS` take two `Objects` of M rows and return (M,), float64. The truth's symmetry counts. Lengths are in
metres; names with cm hold 100 times that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree
from torch import Tensor

from stadia.core.types import Movable
from stadia.geometry import boxes
from stadia.geometry.se3 import quaternion_wxyz_from_matrix, transform
from stadia.geometry.symmetry import Symmetry, symmetric_angle_deg


@dataclass(frozen=True, slots=True)
class Objects(Movable):
    """M objects, predicted or true.

    class_id: (M,) whole numbers, above 0.
    T_camera_object: (M, 4, 4), metres.
    size_m: (M, 3), lengths along the object's x, y, z.
    symmetry: of M objects; that of predictions is not read.
    score: (M,) confidence of predictions; that of the truth is not read.
    """

    class_id: Tensor
    T_camera_object: Tensor
    size_m: Tensor
    symmetry: Symmetry
    score: Tensor

    def __len__(self) -> int:
        return len(self.class_id)

    def __getitem__(self, index: Tensor) -> Objects:
        return Objects(
            self.class_id[index],
            self.T_camera_object[index],
            self.size_m[index],
            self.symmetry[index],
            self.score[index],
        )


def rotation_error_deg(predicted: Objects, true: Objects) -> Tensor:
    """Return the angle between predicted and true rotation, degrees, 0 to 180, the least over the object's symmetry."""
    q, q_true = (quaternion_wxyz_from_matrix(x.T_camera_object[..., :3, :3].double()) for x in (predicted, true))
    return symmetric_angle_deg(q, q_true, true.symmetry)


def translation_error_cm(predicted: Objects, true: Objects) -> Tensor:
    """Return the distance between predicted and true center, centimetres."""
    return 100 * (predicted.T_camera_object[..., :3, 3].double() - true.T_camera_object[..., :3, 3].double()).norm(
        dim=-1
    )


def iou_3d(predicted: Objects, true: Objects) -> Tensor:
    """Return the exact IoU of the oriented boxes, 0 to 1, the best over the truth's symmetry."""
    return boxes.symmetric_iou(
        predicted.T_camera_object, predicted.size_m, true.T_camera_object, true.size_m, true.symmetry
    )


def iou_3d_hull(predicted: Objects, true: Objects) -> Tensor:
    """Return the IoU of the axis-aligned hulls of both boxes, as NOCS evaluations do; usually too large."""
    given = (predicted.T_camera_object, predicted.size_m, true.T_camera_object, true.size_m)
    return boxes.turned_hull_iou(*given, true.symmetry.revolution)


# -- distances of a model


def add_m(T_predicted: Tensor, T_true: Tensor, points: Tensor) -> Tensor:
    """Return ADD: the mean distance (...) in metres between a model's points (N, 3) moved by both (..., 4, 4).

    Hinterstoisser et al., "Model based training, detection and pose estimation of texture-less 3D objects in heavily
    cluttered scenes", ACCV 2012. Invisible rotations of symmetric objects count as errors; see `add_s_m`.
    """
    points = points.double()
    return (transform(T_predicted.double(), points) - transform(T_true.double(), points)).norm(dim=-1).mean(-1)


def add_s_m(T_predicted: Tensor, T_true: Tensor, points: Tensor) -> float:
    """Return ADD-S (ADI): the mean distance in metres from each true point to the nearest predicted one; (4, 4) both.

    For symmetric objects. Points (N, 3) of the model; it is at most ADD, and small for any pose of a ball.
    """
    predicted, true = (
        transform(T.detach().double().cpu(), points.detach().double().cpu()).numpy() for T in (T_predicted, T_true)
    )
    distance: NDArray[np.float64] = KDTree(predicted).query(true)[0]
    return float(distance.mean())
