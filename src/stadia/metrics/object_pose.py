"""Errors of object poses and sizes, one value an object: prediction and truth are matched already, row by row.

`OBJECT_METRICS` take two `Objects` of M rows and give (M,), float64. The symmetry that counts is that of the truth.
Lengths are in metres, and what is named cm is 100 times that.
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
    score: (M,) how sure a prediction is, the higher the surer; that of the truth is not read.
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
    """The angle of the rotation between prediction and truth, degrees, 0 to 180, the least over the object's symmetry."""
    q, q_true = (quaternion_wxyz_from_matrix(x.T_camera_object[..., :3, :3].double()) for x in (predicted, true))
    return symmetric_angle_deg(q, q_true, true.symmetry)


def translation_error_cm(predicted: Objects, true: Objects) -> Tensor:
    """The distance between predicted and true center, centimetres."""
    return 100 * (predicted.T_camera_object[..., :3, 3].double() - true.T_camera_object[..., :3, 3].double()).norm(
        dim=-1
    )


def iou_3d(predicted: Objects, true: Objects) -> Tensor:
    """Shared by joint volume of the oriented boxes, exact, 0 to 1, whatever turn of the truth cannot be seen."""
    return boxes.symmetric_iou(
        predicted.T_camera_object, predicted.size_m, true.T_camera_object, true.size_m, true.symmetry
    )


def iou_3d_hull(predicted: Objects, true: Objects) -> Tensor:
    """The IoU of the axis-aligned hulls of both boxes, as NOCS evaluations score it (nocs_compat); too large as a rule."""
    given = (predicted.T_camera_object, predicted.size_m, true.T_camera_object, true.size_m)
    return boxes.turned_hull_iou(*given, true.symmetry.revolution)


# -- distances of a model


def add_m(T_predicted: Tensor, T_true: Tensor, points: Tensor) -> Tensor:
    """ADD: the mean distance (...) in metres of a model's points (N, 3), moved by (..., 4, 4) both, from where they
    should be.

    Hinterstoisser et al., "Model based training, detection and pose estimation of texture-less 3D objects in heavily
    cluttered scenes", ACCV 2012. An object with symmetries is punished for what cannot be seen; see `add_s_m`.
    """
    points = points.double()
    return (transform(T_predicted.double(), points) - transform(T_true.double(), points)).norm(dim=-1).mean(-1)


def add_s_m(T_predicted: Tensor, T_true: Tensor, points: Tensor) -> float:
    """ADD-S (ADI): the mean distance in metres from each true point to the nearest predicted one, of one object (4, 4)
    both.

    For objects with symmetries. Points (N, 3) of the model; it is at most ADD, and small for any pose of a ball.
    """
    predicted, true = (
        transform(T.detach().double().cpu(), points.detach().double().cpu()).numpy() for T in (T_predicted, T_true)
    )
    distance: NDArray[np.float64] = KDTree(predicted).query(true)[0]
    return float(distance.mean())
