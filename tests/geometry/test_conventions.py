"""The table of conventions, by laws and by formulas written anew."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from stadia.geometry import conventions
from stadia.geometry.cameras import centered_K, resize_K
from stadia.geometry.conventions import AXES, Axes, Direction, QuaternionOrder

Array = conventions.Array


def make_poses(seed: int, count: int = 3) -> Array:
    T = np.tile(np.eye(4), (count, 1, 1))
    T[:, :3, :3] = Rotation.random(count, rng=np.random.default_rng(seed)).as_matrix()
    T[:, :3, 3] = np.random.default_rng(seed).normal(size=(count, 3))
    return T


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), axes=st.sampled_from(list(AXES.values())), direction=st.sampled_from(Direction))
def test_writing_inverts_reading(seed: int, axes: Axes, direction: Direction) -> None:
    T = make_poses(seed)
    written = conventions.write_poses(T, axes, direction)
    np.testing.assert_allclose(conventions.read_poses(written, axes, direction), T, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "matrix"),
    [
        ("opencv", np.eye(3)),
        ("opengl", [[1, 0, 0], [0, -1, 0], [0, 0, -1]]),
        ("body", [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]),
        ("ned", [[0, 0, 1], [1, 0, 0], [0, 1, 0]]),
        ("llff", [[0, 1, 0], [1, 0, 0], [0, 0, -1]]),
        ("pytorch3d", [[-1, 0, 0], [0, -1, 0], [0, 0, 1]]),
        ("unity", [[1, 0, 0], [0, -1, 0], [0, 0, 1]]),
        ("unreal", [[0, 0, 1], [1, 0, 0], [0, -1, 0]]),
    ],
)
def test_axes_have_their_published_matrix(name: str, matrix: list[list[float]]) -> None:
    axes = AXES[name]
    np.testing.assert_array_equal(axes.R_axes_camera, matrix)
    np.testing.assert_array_equal(axes.R_axes_camera @ axes.R_camera_axes, np.eye(3))
    assert axes.is_right_handed == (name not in ("unity", "unreal"))
    assert conventions.describe_axes(axes.R_axes_camera) == axes.directions


def test_every_entry_is_tested() -> None:
    (mark,) = test_axes_have_their_published_matrix.pytestmark
    assert {name for name, _ in mark.args[1]} == set(AXES)


def test_there_are_48_axes_each_once() -> None:
    axes = conventions.list_axes()
    np.testing.assert_array_equal(axes[0], np.eye(3))
    assert len({R.astype(int).tobytes() for R in axes}) == len(axes) == 48
    assert all(np.array_equal(R @ R.T, np.eye(3)) for R in axes)
    assert len({conventions.describe_axes(R) for R in axes}) == 48


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000))
def test_a_mistake_undone_twice_or_by_its_inverse_is_none(seed: int) -> None:
    T = make_poses(seed)
    np.testing.assert_array_equal(conventions.transpose_rotations(conventions.transpose_rotations(T)), T)
    for axis in range(3):
        np.testing.assert_allclose(conventions.mirror_poses(conventions.mirror_poses(T, axis), axis), T)
    wrong = conventions.reorder_quaternions(T, QuaternionOrder.WXYZ)
    np.testing.assert_allclose(conventions.reorder_quaternions(wrong, QuaternionOrder.XYZW), T, atol=1e-12)
    inverse = conventions.turn_translations(conventions.transpose_rotations(T))
    np.testing.assert_allclose(inverse @ T, np.tile(np.eye(4), (3, 1, 1)), atol=1e-12)


@pytest.mark.parametrize("order", QuaternionOrder)
def test_quaternions_in_the_other_order_are_read_as_they_were_meant(order: QuaternionOrder) -> None:
    quaternion = np.array([0.1, -0.5, 0.7, 0.5])  # as the file has it
    quaternion /= np.linalg.norm(quaternion)
    other = QuaternionOrder.XYZW if order is QuaternionOrder.WXYZ else QuaternionOrder.WXYZ
    read, meant = (rotate(quaternion[way.to_wxyz]) for way in (other, order))
    T = np.eye(4)[None].copy()
    T[0, :3, :3] = read
    np.testing.assert_allclose(conventions.reorder_quaternions(T, order)[0, :3, :3], meant, atol=1e-12)


def rotate(wxyz: Array) -> Array:
    """Rodrigues' formula in the form of Euler and Rodrigues: R = (w^2 - v v) I + 2 v v^T + 2 w [v]x."""
    w, v = wxyz[0], wxyz[1:]
    hat = np.cross(np.eye(3), v)
    return (w * w - v @ v) * np.eye(3) + 2 * np.outer(v, v) + 2 * w * hat


def test_K_of_other_images_becomes_K_of_these() -> None:
    sizes = np.array([[64, 48], [640, 480]])
    K = np.array([centered_K(500, 480, 640)] * 2)
    expected = np.array([resize_K(K[0], (480, 640), 48, 64), K[0]])
    np.testing.assert_allclose(conventions.scale_K_to_images(K, sizes), expected)
    normalized = K / np.array([640, 480, 1])[:, None]
    np.testing.assert_allclose(conventions.multiply_K_by_sizes(normalized, np.array([[640, 480]] * 2)), K)
    np.testing.assert_array_equal(conventions.swap_sides_of_K(conventions.swap_sides_of_K(expected)), expected)
    np.testing.assert_allclose(conventions.center_K(expected, sizes), expected)
