"""Rotations and motions: against SciPy and OpenCV, the laws of groups, and gradients at every awkward place."""

import itertools
import math

import cv2
import numpy as np
import pytest
import torch
from scipy.linalg import expm
from scipy.spatial.transform import Rotation
from tests.refusals import refuses
from torch import Tensor
from torch.testing import assert_close

from stadia.core.errors import GeometryError
from stadia.geometry import poses as se3
from stadia.geometry.poses import matrix_from_quaternion_wxyz, rotation_angle_deg

F64 = torch.float64
ORDERS = [
    name
    for axes in itertools.product("xyz", repeat=3)
    if axes[0] != axes[1] != axes[2]
    for name in ("".join(axes), "".join(axes).upper())
]
ANGLES = [0.0, 1e-30, 1e-12, 1e-7, 1e-4, 0.1, 0.4999, 0.5001, 1.0, 3.0, math.pi - 1e-4, math.pi - 1e-8]


def axis_angles(n: int = 1000, dtype: torch.dtype = F64) -> torch.Tensor:
    """(n, 3) of all directions and of angles up to pi."""
    direction = torch.nn.functional.normalize(torch.randn(n, 3, dtype=F64), dim=-1)
    return (direction * torch.rand(n, 1, dtype=F64) * math.pi).to(dtype)


def of_angle(angle: float) -> torch.Tensor:
    return angle * torch.nn.functional.normalize(torch.tensor([0.3, -0.5, 0.8], dtype=F64), dim=0)


# -- against SciPy and OpenCV


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (F64, 1e-13)])
def test_exp_and_log_are_scipys(dtype, tolerance):
    w = axis_angles(dtype=dtype)
    reference = Rotation.from_rotvec(w.double().numpy())
    assert_close(se3.so3_exp(w).double(), torch.from_numpy(reference.as_matrix()), atol=tolerance, rtol=0)
    R = torch.from_numpy(reference.as_matrix()).to(dtype)
    assert_close(se3.so3_log(R).double(), torch.from_numpy(reference.as_rotvec()), atol=10 * tolerance, rtol=0)


@pytest.mark.slow
def test_exp_and_its_jacobian_are_opencvs():
    for w in axis_angles(50):
        expected, by_w = cv2.Rodrigues(w.numpy())
        assert_close(se3.so3_exp(w), torch.from_numpy(expected), atol=1e-12, rtol=0)
        jacobian = torch.autograd.functional.jacobian(se3.so3_exp, w)  # (3, 3, 3)
        assert_close(jacobian.reshape(9, 3).T, torch.from_numpy(by_w), atol=1e-10, rtol=0)


def test_se3_exp_is_the_matrix_exponential():
    for twist in torch.randn(20, 6, dtype=F64):
        generator = torch.zeros(4, 4, dtype=F64)
        generator[:3, :3], generator[:3, 3] = se3.hat(twist[3:]), twist[:3]
        assert_close(se3.se3_exp(twist), torch.from_numpy(expm(generator.numpy())), atol=1e-12, rtol=0)


def test_quaternions_are_scipys():
    w = axis_angles()
    reference = Rotation.from_rotvec(w.numpy())
    wxyz = torch.from_numpy(reference.as_quat(canonical=True, scalar_first=True))
    assert_close(se3.quaternion_wxyz_from_matrix(se3.so3_exp(w)), wxyz, atol=1e-12, rtol=0)
    stretched = wxyz * (0.1 + 10 * torch.rand(1000, 1, dtype=F64))
    assert_close(se3.matrix_from_quaternion_wxyz(stretched), se3.so3_exp(w), atol=1e-12, rtol=0)
    assert_close(se3.matrix_from_quaternion_wxyz(-wxyz), se3.so3_exp(w), atol=1e-12, rtol=0)


@pytest.mark.parametrize("order", ORDERS)
def test_euler_angles_are_scipys(order):
    reference = Rotation.from_rotvec(axis_angles(200).numpy())
    angles = torch.from_numpy(reference.as_euler(order))
    R = torch.from_numpy(reference.as_matrix())
    assert_close(se3.matrix_from_euler(angles, order), R, atol=1e-12, rtol=0)


def test_angles_between_rotations_are_scipys():
    a, b = Rotation.from_rotvec(axis_angles(100).numpy()), Rotation.from_rotvec(axis_angles(100).numpy())
    expected = torch.from_numpy(np.rad2deg((a.inv() * b).magnitude()))
    R = torch.from_numpy((a.inv() * b).as_matrix())
    assert_close(se3.rotation_angle_deg(R), expected)


def test_tiny_angles_keep_their_digits():
    for angle in (1e-5, 1e-4, 1e-3):
        R = se3.so3_exp(of_angle(angle).float())
        assert_close(se3.rotation_angle_deg(R).item(), math.degrees(angle), rtol=1e-5, atol=0)


# -- laws of groups


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 5e-6), (F64, 1e-12)])
def test_laws_of_motions(poses, dtype, tolerance):
    a, b, c = poses(60, reach=2, turn=2, dtype=dtype).view(3, 20, 4, 4)
    one = torch.eye(4, dtype=dtype).expand_as(a)

    def same(left, right):
        assert_close(left, right, atol=tolerance, rtol=0)

    same(se3.compose(a, se3.invert_pose(a)), one)
    same(se3.compose(se3.invert_pose(a), a), one)
    same(se3.invert_pose(se3.invert_pose(a)), a)
    same(se3.compose(se3.compose(a, b), c), se3.compose(a, se3.compose(b, c)))
    same(se3.invert_pose(se3.compose(a, b)), se3.compose(se3.invert_pose(b), se3.invert_pose(a)))
    same(se3.compose(a, one), a)
    same(se3.mirror_x(se3.compose(a, b)), se3.compose(se3.mirror_x(a), se3.mirror_x(b)))
    same(se3.mirror_x(se3.mirror_x(a)), a)
    same(se3.mirror_x(se3.invert_pose(a)), se3.invert_pose(se3.mirror_x(a)))
    points = torch.randn(20, 7, 3, dtype=dtype)
    same(se3.transform(se3.compose(a, b), points), se3.transform(a, se3.transform(b, points)))
    assert_close(se3.transform(a, points), points @ a[:, :3, :3].mT + a[:, None, :3, 3], atol=tolerance, rtol=0)
    assert_close(torch.linalg.det(a[:, :3, :3]), torch.ones(20, dtype=dtype))


@pytest.mark.parametrize("angle", ANGLES)
def test_round_trips_at_every_angle(angle):
    w = of_angle(angle)
    assert_close(se3.so3_log(se3.so3_exp(w)), w, atol=0, rtol=1e-7)
    twist = torch.cat((torch.tensor([1.0, -2, 3], dtype=F64), w))
    assert_close(se3.se3_log(se3.se3_exp(twist)), twist, atol=1e-7, rtol=1e-7)


def test_log_at_exactly_half_a_turn():
    for axis in torch.eye(3, dtype=F64):
        R = 2 * axis[:, None] * axis - torch.eye(3, dtype=F64)
        R.requires_grad_()
        w = se3.so3_log(R)
        assert_close(w.abs(), math.pi * axis)
        w.sum().backward()
        assert R.grad.isfinite().all()


def test_the_series_and_the_closed_form_meet():
    for f in (lambda w: se3.so3_exp(w), lambda w: se3.se3_exp(torch.cat((w.flip(0), w)))):
        below, above = f(of_angle(0.5 - 1e-14)), f(of_angle(0.5 + 1e-14))
        assert_close(below, above, atol=1e-13, rtol=0)
    below, above = (se3.se3_log(se3.se3_exp(torch.cat((of_angle(1), of_angle(a))))) for a in (0.5 - 1e-14, 0.5 + 1e-14))
    assert_close(below, above, atol=1e-13, rtol=0)


# ---------------------------------------------------------------------------------------------------------------
# gradients


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("scale", [0.0, 1e-25, 1e-10, 1e-3])
def test_gradients_at_the_origin_are_exact(dtype, scale):
    w = of_angle(scale).to(dtype)
    generators = se3.hat(torch.eye(3, dtype=dtype)).permute(1, 2, 0)
    at = 2 * max(scale, torch.finfo(dtype).eps)
    assert_close(torch.autograd.functional.jacobian(se3.so3_exp, w), generators, atol=at, rtol=0)
    there_and_back = torch.autograd.functional.jacobian(lambda v: se3.so3_log(se3.so3_exp(v)), w)
    assert_close(there_and_back, torch.eye(3, dtype=dtype), atol=at, rtol=0)
    twist = torch.cat((torch.zeros(3, dtype=dtype), w))
    there_and_back = torch.autograd.functional.jacobian(lambda v: se3.se3_log(se3.se3_exp(v)), twist)
    assert_close(there_and_back, torch.eye(6, dtype=dtype), atol=at, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("angle", [0.0, 0.2, 0.4999999, 1.3, 3.0])
def test_gradcheck(angle):
    w = of_angle(angle).requires_grad_()
    twist = torch.cat((torch.tensor([1.0, -2, 3], dtype=F64), of_angle(angle))).requires_grad_()
    R = se3.so3_exp(of_angle(angle)).requires_grad_()
    T = se3.se3_exp(twist.detach()).requires_grad_()
    other = torch.randn(4, dtype=F64).requires_grad_()
    for function, at in (
        (se3.so3_exp, w),
        (se3.se3_exp, twist),
        (se3.so3_log, R),
        (se3.se3_log, T),
        (se3.invert_pose, T),
        (se3.quaternion_wxyz_from_matrix, R),
        (se3.matrix_from_quaternion_wxyz, other),
        (lambda a: se3.matrix_from_euler(a, "xyz"), w),
    ):
        assert torch.autograd.gradcheck(function, (at,))


# -- bad conditions


def test_half_precision_in_full_precision_out():
    twist = torch.randn(4, 6).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        T = se3.compose(se3.se3_exp(twist), se3.se3_exp(-twist))
    assert T.dtype == torch.float32
    assert_close(T, torch.eye(4).expand(4, 4, 4), atol=5e-6, rtol=0)


@pytest.mark.parametrize("order", ["xy", "xxy", "xYz", "abc", "xyzx"])
def test_a_wrong_euler_order_is_named(order):
    with refuses(GeometryError, found=order):
        se3.matrix_from_euler(torch.zeros(3), order)


def test_leading_axes_are_free():
    w = torch.randn(2, 0, 5, 3)
    assert se3.so3_log(se3.so3_exp(w)).shape == w.shape
    assert se3.se3_log(se3.se3_exp(torch.randn(2, 3, 6))).shape == (2, 3, 6)
    assert se3.so3_exp(torch.randn(3)).shape == (3, 3)


# -- products of quaternions


def unit(*shape: int) -> Tensor:
    return torch.nn.functional.normalize(torch.randn(*shape, 4, dtype=F64), dim=-1)


def test_products_are_those_of_matrices_and_of_scipy():
    a, b = unit(100), unit(100)
    product = se3.quaternion_multiply(a, b)
    matrices = matrix_from_quaternion_wxyz(a) @ matrix_from_quaternion_wxyz(b)
    assert_close(matrix_from_quaternion_wxyz(product), matrices, atol=1e-12, rtol=0)
    expected = Rotation.from_quat(a.numpy(), scalar_first=True) * Rotation.from_quat(b.numpy(), scalar_first=True)
    assert_close(product.abs(), torch.from_numpy(expected.as_quat(scalar_first=True)).abs(), atol=1e-12, rtol=0)
    assert_close(
        se3.quaternion_multiply(a, se3.quaternion_conjugate(a)),
        torch.tensor([[1.0, 0, 0, 0]], dtype=F64).expand(100, 4),
    )


def test_the_turn_to_a_ray_brings_the_optical_axis_there_and_by_the_shortest_way() -> None:
    generator = torch.Generator().manual_seed(0)
    ray = torch.randn(50, 3, generator=generator, dtype=torch.float64)
    ray[:, 2] = ray[:, 2].abs() + 0.1
    q = se3.quaternion_from_ray(ray)
    R = matrix_from_quaternion_wxyz(q)
    towards = torch.nn.functional.normalize(ray, dim=-1)
    assert_close(R[..., 2], towards)
    assert_close(rotation_angle_deg(R), torch.rad2deg(towards[:, 2].arccos()))
    assert se3.quaternion_from_ray(torch.tensor([0.0, 0.0, 5.0])).tolist() == [1, 0, 0, 0]
