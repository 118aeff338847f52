"""Conventions by which programs write cameras and poses, and the functions that convert between them.

Axes of a camera, the direction of a pose, the order of a quaternion, the handedness, and K of images of another size.
stadia's own convention is OpenCV's: camera axes x right, y down, z forward; trajectories are camera-to-world;
quaternions are w, x, y, z; K belongs to the image as it is.
"""

from dataclasses import dataclass
from enum import StrEnum
from itertools import permutations, product

import numpy as np
from numpy.typing import NDArray

from stadia.geometry.poses import invert_pose

Array = NDArray[np.float64]

DIRECTIONS = {
    "right": (1.0, 0.0, 0.0),
    "left": (-1.0, 0.0, 0.0),
    "down": (0.0, 1.0, 0.0),
    "up": (0.0, -1.0, 0.0),
    "forward": (0.0, 0.0, 1.0),
    "backward": (0.0, 0.0, -1.0),
}
"""Unit vectors in the camera axes of stadia by the word for their direction."""


@dataclass(frozen=True, slots=True)
class Axes:
    """The axes of a camera or a body.

    name: what the axes are called.
    x, y, z: the direction of each axis, a word of DIRECTIONS.
    users: programs that write poses with these axes.
    """

    name: str
    x: str
    y: str
    z: str
    users: str = ""

    @property
    def R_axes_camera(self) -> Array:
        """The rotation (3, 3) from stadia's camera axes to these axes.

        Examples:
            >>> (OPENGL.R_axes_camera @ [1, 2, 3]).tolist()
            [1.0, -2.0, -3.0]
        """
        return np.array([DIRECTIONS[self.x], DIRECTIONS[self.y], DIRECTIONS[self.z]])

    @property
    def R_camera_axes(self) -> Array:
        """The rotation (3, 3) from these axes to stadia's camera axes."""
        return self.R_axes_camera.T

    @property
    def T_axes_camera(self) -> Array:
        """The rotation `R_axes_camera` as a motion (4, 4)."""
        T = np.eye(4)
        T[:3, :3] = self.R_axes_camera
        return T

    @property
    def is_right_handed(self) -> bool:
        """Whether x, y and z are right-handed.

        Examples:
            >>> OPENGL.is_right_handed, UNITY.is_right_handed
            (True, False)
        """
        return bool(np.linalg.det(self.R_axes_camera) > 0)

    @property
    def directions(self) -> str:
        """The directions as a text.

        Examples:
            >>> OPENGL.directions
            'x right, y up, z backward'
        """
        return f"x {self.x}, y {self.y}, z {self.z}"

    @property
    def description(self) -> str:
        """The name with the directions and the programs that write them."""
        users = f", as {self.users} write them" if self.users else ""
        return f"{self.name} ({self.directions}{users})"


OPENCV = Axes("the camera axes of OpenCV", "right", "down", "forward")
OPENGL = Axes("the camera axes of OpenGL", "right", "up", "backward", "nerfstudio and Blender")
BODY = Axes("the axes of a LiDAR or a body", "forward", "left", "up")
NORTH_EAST_DOWN = Axes("the axes of a body in north-east-down", "forward", "right", "down")
LLFF = Axes("the camera axes of LLFF", "down", "right", "backward")
PYTORCH3D = Axes("the camera axes of PyTorch3D", "left", "up", "forward")
UNITY = Axes("the camera axes of Unity", "right", "up", "forward")
UNREAL = Axes("the camera axes of Unreal Engine", "forward", "right", "up")

AXES = {
    "opencv": OPENCV,
    "opengl": OPENGL,
    "body": BODY,
    "ned": NORTH_EAST_DOWN,
    "llff": LLFF,
    "pytorch3d": PYTORCH3D,
    "unity": UNITY,
    "unreal": UNREAL,
}
"""Axes by name.

Source: opengl: docs.nerf.studio/quickstart/data_conventions.html; body and ned: ROS REP 103; llff: README of
github.com/Fyusion/LLFF; pytorch3d: pytorch3d.org/docs/cameras; unity and unreal: the manuals of the engines.
"""

MISTAKEN_AXES = (OPENGL, BODY, NORTH_EAST_DOWN)
"""Axes that files have most often where OpenCV's are expected. A search tries them first and prefers them."""


def list_axes() -> list[Array]:
    """Return the 48 rotations and mirrored rotations by right angles, (3, 3) each, the identity first.

    Examples:
        >>> len(list_axes()), sum(np.linalg.det(R) > 0 for R in list_axes())
        (48, np.int64(24))
    """
    orders = permutations(range(3))
    signs = product((1.0, -1.0), repeat=3)
    return [np.diag(sign) @ np.eye(3)[list(order)] for order, sign in product(orders, signs)]


def describe_axes(R_axes_camera: Array) -> str:
    """Return the directions of axes as a text.

    R_axes_camera: (3, 3) rotation by right angles from stadia's camera axes to the described axes.

    Examples:
        >>> describe_axes(BODY.R_axes_camera)
        'x forward, y left, z up'
    """
    words = {direction: word for word, direction in DIRECTIONS.items()}
    rows = R_axes_camera.round().tolist()
    return ", ".join(f"{letter} {words[tuple(row)]}" for letter, row in zip("xyz", rows, strict=True))


class Direction(StrEnum):
    """What a pose maps: points of the camera to the world, or points of the world to the camera."""

    CAMERA_TO_WORLD = "camera-to-world"
    WORLD_TO_CAMERA = "world-to-camera"


class QuaternionOrder(StrEnum):
    """The place of w in a quaternion."""

    WXYZ = "w x y z"
    XYZW = "x y z w"

    @property
    def to_wxyz(self) -> list[int]:
        """The columns of w, x, y and z.

        Examples:
            >>> QuaternionOrder.XYZW.to_wxyz
            [3, 0, 1, 2]
        """
        return [0, 1, 2, 3] if self is QuaternionOrder.WXYZ else [3, 0, 1, 2]


def read_poses(T: Array, axes: Axes = OPENCV, direction: Direction = Direction.CAMERA_TO_WORLD) -> Array:
    """Return camera-to-world poses (..., 4, 4) with stadia's camera axes.

    T: (..., 4, 4) poses as a program writes them.
    axes: axes of its cameras.
    direction: direction of its poses.

    Examples:
        >>> read_poses(np.diag([1.0, -1, -1, 1]), OPENGL).tolist() == np.eye(4).tolist()
        True
    """
    T_world_axes = T if direction is Direction.CAMERA_TO_WORLD else invert_pose(T)
    return np.asarray(T_world_axes @ axes.T_axes_camera)


def write_poses(T_world_camera: Array, axes: Axes = OPENCV, direction: Direction = Direction.CAMERA_TO_WORLD) -> Array:
    """Return poses (..., 4, 4) as a program writes them. This inverts `read_poses`.

    T_world_camera: (..., 4, 4) camera-to-world poses with stadia's camera axes.
    axes: axes of the program's cameras.
    direction: direction of its poses.
    """
    T = T_world_camera @ axes.T_axes_camera.T
    return np.asarray(T if direction is Direction.CAMERA_TO_WORLD else invert_pose(T))


# -- Mistakes in poses. Each function undoes one.


def replace_rotations(T: Array, R: Array) -> Array:
    """Return poses (..., 4, 4) with rotations R (..., 3, 3) and the translations of T (..., 4, 4)."""
    changed = T.copy()
    changed[..., :3, :3] = R
    return changed


def transpose_rotations(T: Array) -> Array:
    """Transpose the rotations of poses (..., 4, 4), and keep the translations.

    Use it for rotations that are written by columns, and for conjugate quaternions.
    """
    return replace_rotations(T, T[..., :3, :3].swapaxes(-1, -2))


def turn_translations(T: Array) -> Array:
    """Replace the translation t of poses (..., 4, 4) by -R t.

    Use it for world-to-camera poses that are written with the position of the camera, and for camera-to-world poses
    that are written with the transposed rotation and the translation of the inverse.
    """
    changed = T.copy()
    changed[..., :3, 3] = -np.einsum("...ij,...j->...i", T[..., :3, :3], T[..., :3, 3])
    return changed


def reorder_quaternions(T: Array, meant: QuaternionOrder) -> Array:
    """Return poses (N, 4, 4) after correcting quaternions that were read in the wrong order.

    T: (N, 4, 4) poses as they were read.
    meant: the order that the file has. The file was read with the other order.

    Examples:
        >>> T = np.eye(4)[None]  # (w, x, y, z) = (1, 0, 0, 0) was read, and (x, y, z, w) = (1, 0, 0, 0) was meant
        >>> reorder_quaternions(T, QuaternionOrder.XYZW)[0, :3, :3].tolist()
        [[1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, -1.0]]
    """
    from scipy.spatial.transform import Rotation  # slow to import

    is_w_first = meant is QuaternionOrder.WXYZ
    written = Rotation.from_matrix(T[:, :3, :3]).as_quat(scalar_first=not is_w_first)
    return replace_rotations(T, Rotation.from_quat(written, scalar_first=is_w_first).as_matrix())


def mirror_poses(T: Array, axis: int) -> Array:
    """Return poses (..., 4, 4) M T M with M mirroring one axis of both the camera and the world.

    It makes right-handed poses of left-handed ones and the reverse.

    T: (..., 4, 4) poses.
    axis: 0 for x, 1 for y, 2 for z.

    Examples:
        >>> T = np.eye(4)
        >>> T[:3, 3] = 1, 2, 3
        >>> mirror_poses(T, 1)[:3, 3].tolist()
        [1.0, -2.0, 3.0]
    """
    M = make_mirror(axis)
    changed = replace_rotations(T, M @ T[..., :3, :3] @ M)
    changed[..., :3, 3] = T[..., :3, 3] @ M
    return changed


def make_mirror(axis: int) -> Array:
    """Return the matrix (3, 3) that mirrors one axis: 0 for x, 1 for y, 2 for z."""
    signs = np.ones(3)
    signs[axis] = -1
    return np.diag(signs)


# -- Mistakes in K. Each function undoes one.


def scale_K_to_images(K: Array, sizes: Array) -> Array:
    """Scale K (N, 3, 3) so that the principal point is in the middle of the image.

    Use it for K of images of another size.

    sizes: (N, 2) width and height of the images.
    """
    scale = sizes / (2 * np.maximum(K[:, :2, 2], 1e-3) + 1)
    scaled = K.copy()
    scaled[:, (0, 1), (0, 1)] *= scale
    return center_K(scaled, sizes)


def center_K(K: Array, sizes: Array) -> Array:
    """Return K (N, 3, 3) with the principal point in the middle of images of width and height `sizes` (N, 2)."""
    centered = K.copy()
    centered[:, :2, 2] = (sizes - 1) / 2
    return centered


def swap_sides_of_K(K: Array) -> Array:
    """Return K (N, 3, 3) with fx and fy swapped, and cx and cy."""
    swapped = K.copy()
    swapped[:, (0, 1), (0, 1)] = K[:, (1, 0), (1, 0)]
    swapped[:, :2, 2] = K[:, 1::-1, 2]
    return swapped


def multiply_K_by_sizes(K: Array, sizes: Array) -> Array:
    """Return K (N, 3, 3) in pixels from K in units of the image's width and height `sizes` (N, 2)."""
    scaled = K.copy()
    scaled[:, :2] *= sizes[:, :, None]
    return scaled
