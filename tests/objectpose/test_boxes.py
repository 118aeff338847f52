"""Oriented boxes against Qhull and hand-computed numbers; equal boxes, touching boxes, boxes without volume."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.spatial import ConvexHull, HalfspaceIntersection
from torch import Tensor
from torch.testing import assert_close

from stadia.geometry.poses import from_rotation_translation, se3_exp, so3_exp
from stadia.objectpose import boxes
from stadia.objectpose.boxes import Symmetry

F64 = torch.float64


def random_boxes(n: int, *, reach: float = 0.6) -> tuple[Tensor, Tensor]:
    """Boxes of every orientation, from thin to thick."""
    twist = torch.cat((reach * torch.randn(n, 3, dtype=F64), 3 * torch.randn(n, 3, dtype=F64)), 1)
    return se3_exp(twist), 0.05 + 2 * torch.rand(n, 3, dtype=F64)


def at(*t: float, w: tuple[float, float, float] = (0, 0, 0)) -> Tensor:
    return from_rotation_translation(so3_exp(torch.tensor(w, dtype=F64)), torch.tensor(t, dtype=F64))


def size(*lengths: float) -> Tensor:
    return torch.tensor(lengths, dtype=F64)


def half_spaces(T: NDArray[np.float64], lengths: NDArray[np.float64]) -> NDArray[np.float64]:
    normals = np.concatenate((T[:3, :3].T, -T[:3, :3].T))
    return np.column_stack((normals, -normals @ T[:3, 3] - np.tile(lengths, 2) / 2))


def volume_by_qhull(T_a: Tensor, size_a: Tensor, T_b: Tensor, size_b: Tensor) -> float:
    """The polyhedron of the 12 half spaces: a point inside by linear programming, its corners by duality, its volume as
    a hull.
    """
    planes = np.concatenate((half_spaces(T_a.numpy(), size_a.numpy()), half_spaces(T_b.numpy(), size_b.numpy())))
    inside = linprog(
        [0, 0, 0, -1], A_ub=np.column_stack((planes[:, :3], np.ones(12))), b_ub=-planes[:, 3], bounds=[(None, None)] * 4
    )
    if inside.x[3] <= 1e-9:
        return 0.0
    return float(ConvexHull(HalfspaceIntersection(planes, inside.x[:3]).intersections).volume)


def test_corners_edges_and_faces():
    found = boxes.compute_box_corners(at(1, 2, 3), size(2, 4, 6))
    assert found[0].tolist() == [0, 0, 0]
    assert found[7].tolist() == [2, 4, 6]
    lengths = [float((found[i] - found[j]).norm()) for i, j in boxes.EDGES]
    assert lengths == [2.0] * 4 + [4.0] * 4 + [6.0] * 4
    for number, face in enumerate(boxes.FACES):
        a, b, c, d = found[list(face)]
        outside = torch.linalg.cross(b - a, d - a)
        assert int(outside.abs().argmax()) == number // 2
        assert outside.sum().sign() == (1 if number % 2 else -1)
        assert_close(a + c, b + d)


@pytest.mark.slow
def test_many_pairs_against_qhull():
    (T_a, size_a), (T_b, size_b) = random_boxes(200), random_boxes(200)
    expected = torch.tensor([volume_by_qhull(*pair) for pair in zip(T_a, size_a, T_b, size_b, strict=True)], dtype=F64)
    found = boxes.intersection_volume(T_a, size_a, T_b, size_b)
    assert_close(found, expected, atol=1e-6, rtol=0)
    assert ((found == 0) == (expected == 0)).all()
    assert 20 < int((found == 0).sum()) < 180
    joint = size_a.prod(-1) + size_b.prod(-1) - expected
    assert_close(boxes.box_iou(T_a, size_a, T_b, size_b), expected / joint, atol=1e-6, rtol=0)


def test_in_a_common_frame_and_in_either_order_it_is_the_same():
    (T_a, size_a), (T_b, size_b), (T, _) = random_boxes(50), random_boxes(50), random_boxes(50)
    found = boxes.box_iou(T_a, size_a, T_b, size_b)
    assert_close(boxes.box_iou(T_b, size_b, T_a, size_a), found, atol=1e-12, rtol=0)
    assert_close(boxes.box_iou(T @ T_a, size_a, T @ T_b, size_b), found, atol=1e-12, rtol=0)


def test_equal_boxes_overlap_in_full():
    T, lengths = random_boxes(200)
    for overlap in (boxes.box_iou, boxes.box_hull_iou):
        assert_close(overlap(T, lengths, T, lengths), torch.ones(200, dtype=F64), atol=1e-12, rtol=0)
        assert overlap(T, lengths, T, lengths).max() <= 1
    eighth = so3_exp(torch.tensor([0, math.pi / 2, 0], dtype=F64))  # the same cube, other corners first
    turned = T.clone()
    turned[:, :3, :3] = T[:, :3, :3] @ eighth
    cube = lengths[:, :1].expand(-1, 3)
    assert_close(boxes.box_iou(T, cube, turned, cube), torch.ones(200, dtype=F64), atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("T_b", "size_b", "volume"),
    [
        (at(0.5, 0, 0), size(1, 1, 1), 0.5),
        (at(0.5, 0.5, 0.5), size(1, 1, 1), 0.125),
        (at(0, 0, 0), size(0.5, 0.5, 0.5), 0.125),  # within
        (at(0.25, 0.25, 0), size(0.5, 0.5, 1), 0.25),  # within, three faces in common
        (at(1, 0, 0), size(1, 1, 1), 0.0),  # touching
        (at(1 + 1e-9, 0, 0), size(1, 1, 1), 0.0),
        (at(0, 0, 0, w=(0, 0, math.pi / 4)), size(1, 1, 1), 2 * (math.sqrt(2) - 1)),  # an octagon
        (at(0, 0, 0), size(1, 1, 0), 0.0),
        (at(0, 0, 0), size(0, 0, 0), 0.0),
    ],
)
def test_by_hand(T_b: Tensor, size_b: Tensor, volume: float):
    found = boxes.intersection_volume(at(0, 0, 0), size(1, 1, 1), T_b, size_b)
    assert float(found) == pytest.approx(volume, abs=1e-12)
    assert (float(found) == 0) == (volume == 0)


@pytest.mark.parametrize("degrees", [0, 9, 36, 44, 45, 100, 180, 351])
def test_the_twist_of_a_body_of_revolution_is_taken_out_whatever_its_angle(degrees: float):
    lengths, yaw = size(1, 2, 1).expand(2, 3), (0, math.radians(degrees), 0)
    T_b = at(0.3, 0.1, 2, w=(0.4, -0.7, 1.1))
    upside_down = torch.diag(torch.tensor([-1.0, -1, 1, 1], dtype=F64))  # of no meaning for a box
    for T in (T_b @ at(0, 0, 0, w=yaw), T_b @ at(0, 0, 0, w=yaw) @ upside_down):
        T_a = T.expand(2, 4, 4)
        found = boxes.symmetric_box_iou(T_a, lengths, T_b, lengths, Symmetry.parse(["revolution", "none"]))
        assert float(found[0]) == pytest.approx(1, abs=1e-9)
        assert_close(found[1], boxes.box_iou(T, lengths[1], T_b, lengths[1]))


def test_finite_turns_are_tried_each():
    """A third of a turn about z is seen of a box, unless the object does not show it."""
    lengths, T_b, third = size(1, 2, 1), at(0.3, 0.1, 2, w=(0.4, -0.7, 1.1)), 2 * math.pi / 3
    turns = [(math.cos(angle / 2), 0.0, 0.0, math.sin(angle / 2)) for angle in (third, 2 * third)]
    T_a = T_b @ at(0, 0, 0, w=(0, 0, third))
    found = boxes.symmetric_box_iou(T_a, lengths, T_b, lengths, Symmetry.parse(["none", turns, turns[1:]]))
    assert float(found[1]) == pytest.approx(1, abs=1e-6)
    assert float(found[0]) < 0.7
    assert float(found[2]) < 0.7


def test_hulls_of_bodies_of_revolution_are_turned_by_18_degrees_as_published_and_others_are_not():
    lengths = size(1, 2, 1).expand(2, 3)
    half_a_step = boxes.box_hull_iou(at(0, 0, 0, w=(0, math.radians(9), 0)), lengths[0], at(0, 0, 0), lengths[0])
    for degrees, best in ((36, 1.0), (9, float(half_a_step))):
        T_a = at(0, 0, 0, w=(0, math.radians(degrees), 0)).expand(2, 4, 4)
        found = boxes.max_hull_iou_over_turns(T_a, lengths, at(0, 0, 0), lengths, torch.tensor([True, False]))
        assert float(found[0]) == pytest.approx(best)
        assert_close(found[1], boxes.box_hull_iou(T_a[1], lengths[1], at(0, 0, 0), lengths[1]))


def test_pairs_and_single_boxes_are_broadcast_and_float32_is_taken():
    (T_a, size_a), (T_b, size_b) = random_boxes(4), random_boxes(3)
    found = boxes.box_iou(T_a[:, None].float(), size_a[:, None].float(), T_b.float(), size_b.float())
    assert found.shape == (4, 3)
    assert found.dtype == F64
    assert float(found[2, 1]) == pytest.approx(float(boxes.box_iou(T_a[2], size_a[2], T_b[1], size_b[1])), abs=1e-5)
    assert boxes.max_hull_iou_over_turns(
        T_a[:, None], size_a[:, None], T_b, size_b, torch.tensor([True, False, True])
    ).shape == (4, 3)
    symmetry = Symmetry.parse(["revolution", "none", "none"])
    assert boxes.symmetric_box_iou(T_a[:, None], size_a[:, None], T_b, size_b, symmetry).shape == (4, 3)
    assert boxes.box_iou(T_a[:0], size_a[:0], T_b[:0], size_b[:0]).shape == (0,)
    assert boxes.max_hull_iou_over_turns(
        T_a[:0], size_a[:0], T_b[:0], size_b[:0], torch.zeros(0, dtype=torch.bool)
    ).shape == (0,)
    assert boxes.symmetric_box_iou(T_a[:0], size_a[:0], T_b[:0], size_b[:0], Symmetry.parse([])).shape == (0,)
