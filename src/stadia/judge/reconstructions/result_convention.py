"""The conventions that the poses and the camera of a result may have, their names and fixes, and how to undo one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stadia.geometry.conventions import (
    AXES,
    MISTAKEN_AXES,
    OPENCV,
    Axes,
    Direction,
    QuaternionOrder,
    center_K,
    describe_axes,
    list_axes,
    make_mirror,
    multiply_K_by_sizes,
    read_poses,
    reorder_quaternions,
    scale_K_to_images,
    swap_sides_of_K,
    transpose_rotations,
    turn_translations,
    write_poses,
)
from stadia.geometry.poses import invert_pose
from stadia.io.records.formats import Format
from stadia.io.records.reconstruction import Reconstruction
from stadia.sfm.image_matches import ImageMatches
from stadia.sfm.match_triangulation import PosedImages, pose_images, scale_intrinsics
from stadia.sfm.sparse_map import Array

MIRROR = make_mirror(0)


def _of_inverse(change: Callable[[Array], Array]) -> Callable[[Array], Array]:
    return lambda T: invert_pose(change(invert_pose(T)))


def _to_w_first(T: Array) -> Array:
    return reorder_quaternions(T, QuaternionOrder.WXYZ)


def _to_w_last(T: Array) -> Array:
    return reorder_quaternions(T, QuaternionOrder.XYZW)


POSE_CHANGES: Mapping[str, Callable[[Array], Array]] = {
    "given": lambda T: T,
    "inverted": invert_pose,
    "w first": _to_w_first,
    "w last": _to_w_last,
    "transposed": transpose_rotations,
    "turned": turn_translations,
    "w first, inverse": _of_inverse(_to_w_first),
    "w last, inverse": _of_inverse(_to_w_last),
    "transposed, inverse": _of_inverse(transpose_rotations),
    "turned, inverse": _of_inverse(turn_translations),
}
"""Mistakes in poses by name, and the function that undoes the mistake in poses (N, 4, 4) as the format writes them.

Those with "inverse" were made before the poses were inverted, as by a converter of world-to-camera poses.
"""


def _negate_translations(signs: Sequence[float], T: Array) -> Array:
    """Return matrices (N, 4, 4) whose translations have other signs along the axes."""
    changed = T.copy()
    changed[:, :3, 3] *= signs
    return changed


def _transpose_and_negate(signs: Sequence[float], T: Array) -> Array:
    return _negate_translations(signs, transpose_rotations(T))


HALF_TURNS: Mapping[str, tuple[float, float, float]] = {
    "x and y": (-1.0, -1.0, 1.0),
    "y and z": (1.0, -1.0, -1.0),
    "x and z": (-1.0, 1.0, -1.0),
    "all axes": (-1.0, -1.0, -1.0),
}
"""Axes along which translations have another sign than rotations: only one of both was converted between programs."""

HALF_CHANGES: Mapping[str, Callable[[Array], Array]] = {
    **{f"half {axes}": partial(_negate_translations, signs) for axes, signs in HALF_TURNS.items()},
    **{f"transposed half {axes}": partial(_transpose_and_negate, signs) for axes, signs in HALF_TURNS.items()},
}
"""Rare mistakes as in POSE_CHANGES: poses of which rotation or translation alone was converted to other axes."""


def list_half_turned() -> list[Convention]:
    """Return the conventions of HALF_CHANGES, each as it is and with the other axes of its rotations."""
    found = list[Convention]()
    for poses in HALF_CHANGES:
        signs = HALF_TURNS[poses.partition("half ")[2]]
        axes = [GIVEN.axes] + [tuple(np.diag(signs).ravel().tolist())] * int(np.prod(signs) > 0)
        found += [Convention(poses=poses, axes=one) for one in axes]
    return found


C2W, W2C = Direction.CAMERA_TO_WORLD, Direction.WORLD_TO_CAMERA

POSE_TEXTS: Mapping[tuple[str, Direction], tuple[str, str]] = {
    ("inverted", C2W): ("the poses are inverted: world-to-camera in place of camera-to-world", "invert each pose"),
    ("inverted", W2C): ("the poses are inverted: camera-to-world in place of world-to-camera", "invert each pose"),
    **{("w first", direction): ("the quaternions have w first, and the format has it last",
                                "write x, y, z, w in place of w, x, y, z") for direction in Direction},
    **{("w last", direction): ("the quaternions have w last, and the format has it first",
                               "write w, x, y, z in place of x, y, z, w") for direction in Direction},
    ("transposed", C2W): ("the rotations are transposed (conjugate quaternions) next to right positions",
                          "transpose each rotation, and keep the position"),
    ("transposed", W2C): ("the rotations are transposed (conjugate quaternions) next to right translations",
                          "transpose each rotation, and keep the translation"),
    ("turned", C2W): ("the positions of camera-to-world poses are translations of world-to-camera", "write c = -R t"),
    ("turned", W2C): ("the translations of world-to-camera poses are positions of the camera", "write t = -R c"),
}  # fmt: skip
"""What poses of a direction have, and the fix, by mistake and direction."""

OTHER = {C2W: W2C, W2C: C2W}


def _find_side_factors(sizes: Array) -> Array:
    """Return factors (N, 3, 1) on the rows of K that undo a scaling by sizes whose sides are exchanged."""
    ratio = sizes[:, 1] / sizes[:, 0]
    return np.stack((ratio, 1 / ratio, np.ones(len(ratio))), -1)[:, :, None]


TURNED_RIGHT, TURNED_LEFT = "turned right", "turned left"
QUARTER_TURNS: Mapping[str, tuple[float, ...]] = {
    TURNED_RIGHT: (0.0, -1, 0, 1, 0, 0, 0, 0, 1),
    TURNED_LEFT: (0.0, 1, 0, -1, 0, 0, 0, 0, 1),
}
"""`Convention.axes` of images that were turned by 90 degrees after poses and K were written, by name of the camera."""


def _turn_K(K: Array, sizes: Array, *, is_right: bool) -> Array:
    """Return K (N, 3, 3) of turned images, of K that was scaled to their sizes (N, 2) as if they were not turned."""
    lying = K * _find_side_factors(sizes)
    lying[:, :2, 2] = (K[:, :2, 2] + 0.5) * _find_side_factors(sizes)[:, :2, 0] - 0.5
    turned = swap_sides_of_K(lying)
    axis = 0 if is_right else 1
    turned[:, axis, 2] = sizes[:, axis] - 1 - turned[:, axis, 2]
    return turned


CAMERA_CHANGES: Mapping[str, tuple[str, str, Callable[[Array, Array], Array]]] = {
    "given": ("", "", lambda K, sizes: K),
    "size": ("K belongs to images of another size", "scale K to the size of the images", scale_K_to_images),
    "center": ("the principal point differs from the images'", "put it in the middle of the image", center_K),
    "swapped": ("K has width and height swapped", "swap fx with fy and cx with cy",
                lambda K, sizes: swap_sides_of_K(K)),
    "sides": ("the file has width and height of the images exchanged", "exchange them",
              lambda K, sizes: K * _find_side_factors(sizes)),
    TURNED_RIGHT: ("the images are turned by 90 degrees clockwise against poses and K",
                   "turn the images back, or the camera axes and K as the images", partial(_turn_K, is_right=True)),
    TURNED_LEFT: ("the images are turned by 90 degrees counter-clockwise against poses and K",
                  "turn the images back, or the camera axes and K as the images", partial(_turn_K, is_right=False)),
    "normalized": ("K is in units of the image size", "multiply it by width and height", multiply_K_by_sizes),
}  # fmt: skip
"""Mistakes in K by name: what the file has, the fix, and the function of K (N, 3, 3) and image sizes (N, 2) that undoes
the mistake.
"""


@dataclass(frozen=True, slots=True)
class Convention:
    """A possible convention of a reconstruction; the defaults are the format's own.

    poses: name in POSE_CHANGES: what is wrong in the poses as the format writes them.
    axes: (9,) the signed rotation from the axes of the file's camera to x right, y down, z forward, row by row, in
        addition to the format's. A determinant of -1 is a mirrored image.
    order: "given", "reversed", "by name" (image names sorted as text), "by number" (image names in natural order, where
        the format sorts them as text), or "shifted".
    shift: delay of the poses in images ("shifted").
    offset_s: delay of the times of poses, seconds.
    camera: name in CAMERA_CHANGES.
    size_factor: factor on all of K, which belongs to images of another size.
    focal_factor: factor of the focal length alone.
    """

    poses: str = "given"
    axes: tuple[float, ...] = (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0)
    order: str = "given"
    shift: int = 0
    offset_s: float = 0.0
    camera: str = "given"
    size_factor: float = 1.0
    focal_factor: float = 1.0

    @property
    def R(self) -> Array:
        """Return `axes` as a matrix (3, 3)."""
        return np.array(self.axes, np.float64).reshape(3, 3)

    @property
    def is_mirrored(self) -> bool:
        """Return whether images are mirrored."""
        return bool(np.linalg.det(self.R) < 0)

    @property
    def changes_camera(self) -> bool:
        """Return whether K differs."""
        return name_camera(self)[:3] != name_camera(GIVEN)[:3]

    def count_changes(self, axes: Axes = OPENCV) -> float:
        """Return how many things differ from the format's own convention; rare ones count more.

        axes: the camera axes of the format.
        """
        is_turned = not np.array_equal(self.R, np.eye(3)) and not np.array_equal(self.R, MIRROR)
        is_turned &= self.camera not in QUARTER_TURNS  # which are one change
        rare = is_turned and not any(np.array_equal(self.R, known) for known in list_named_turns(axes))
        return (
            (self.poses != "given")
            + 0.1 * (self.poses not in ("given", "inverted"))
            + 0.02 * self.poses.endswith("inverse")
            + is_turned
            + 0.5 * rare
            + self.is_mirrored
            + (self.order != "given")
            + 0.001 * abs(self.shift)
            + (self.offset_s != 0)
            + (self.camera != "given")
            - 0.01 * (self.camera == "sides")  # the sizes in the file speak for it
            + (self.size_factor != 1)
            + 1.2 * (self.focal_factor != 1)
        )


GIVEN = Convention()


def list_named_turns(axes: Axes) -> list[Array]:
    """Return the turns (3, 3) of `Convention.R` for files that have well-known camera axes in place of the format's, or
    these axes turned the wrong way.

    axes: the camera axes of the format.
    """
    known = (OPENCV, *MISTAKEN_AXES)
    return [R @ axes.R_axes_camera for one in known for R in (one.R_camera_axes, one.R_axes_camera)]


def change_poses(T_camera_world: Array, convention: Convention, format: Format) -> Array:
    """Return world-to-camera poses (N, 4, 4) after undoing the mistakes in poses and axes of a convention.

    T_camera_world: (N, 4, 4) poses as read; NaN for images without a pose.
    convention: the convention.
    format: how the file writes poses.
    """
    changed, known = T_camera_world.copy(), np.isfinite(T_camera_world).all(axis=(1, 2))
    if convention.poses != "given":
        written = write_poses(invert_pose(T_camera_world[known]), format.axes, format.direction)
        change = {**POSE_CHANGES, **HALF_CHANGES}[convention.poses]
        T_world_camera = read_poses(change(written), format.axes, format.direction)
        changed[known] = invert_pose(T_world_camera)
    turn = np.eye(4)
    turn[:3, :3] = convention.R
    changed[known] = turn @ changed[known]
    return changed


def name_camera(convention: Convention) -> tuple[Any, ...]:
    """Return what a convention changes of the camera, as a key: conventions with one key have the same rays."""
    return convention.camera, convention.size_factor, convention.focal_factor, convention.is_mirrored


def order_rows(count: int, convention: Convention, names: Sequence[str]) -> NDArray[np.intp]:
    """Return for each of `count` images the row of its pose by the convention's order; -1 without one.

    count: number of images.
    convention: the convention.
    names: their names in natural order.

    Examples:
        >>> order_rows(3, Convention(order="shifted", shift=1), "abc").tolist()
        [1, 2, -1]
    """
    rows = np.arange(count)
    match convention.order:
        case "reversed":
            return rows[::-1].copy()
        case "by name":
            return np.argsort(np.argsort(np.array(names), kind="stable"), kind="stable")
        case "by number":
            return np.argsort(np.array(names), kind="stable")
        case "shifted":
            moved = rows + convention.shift
            return np.where((moved >= 0) & (moved < count), moved, -1)
    return rows


def change_camera(K: Array, sizes: Array, convention: Convention) -> Array:
    """Return intrinsics (N, 3, 3) as a convention has them.

    K: (N, 3, 3) as given, in pixels of the images as they are.
    sizes: (N, 2) width and height of the images.
    convention: the convention.
    """
    changed = CAMERA_CHANGES[convention.camera][2](K, sizes).copy()
    if convention.size_factor != 1:
        changed = scale_intrinsics(changed, np.full(sizes.shape, convention.size_factor))
    changed[:, (0, 1), (0, 1)] *= convention.focal_factor
    if convention.is_mirrored:
        changed[:, 0, 2] = sizes[:, 0] - 1 - changed[:, 0, 2]
    return changed


def list_flat_axes() -> list[tuple[float, ...]]:
    """Return the 48 signed permutations of three axes, row by row, the identity first; half of them mirror."""
    return [tuple(R.ravel().tolist()) for R in list_axes()]


def describe_convention(convention: Convention, reconstruction: Reconstruction, posed: PosedImages) -> tuple[str, str]:
    """Return what the file has according to a convention, and the fix.

    convention: the convention.
    reconstruction: cameras and poses as read.
    posed: its images.
    """
    parts, format = list[tuple[str, str]](), reconstruction.pose_format
    if convention.poses != "given":
        parts.append(_describe_poses(convention.poses, format))
    if convention.is_mirrored:
        fix = "mirror the images back, or the poses and K: M T M with M = diag(-1, 1, 1)"
        parts.append(("the images are mirrored, or the world is left-handed", fix))
    turn = convention.R @ MIRROR if convention.is_mirrored else convention.R
    if not np.array_equal(turn, np.eye(3)) and convention.camera not in QUARTER_TURNS:
        parts.append(_describe_axes(turn, format))
    match convention.order:
        case "reversed":
            parts.append(("the list of poses is in reverse order", "reverse it"))
        case "by name":
            parts.append(("poses are in the order of image names as text (10 before 2)", "sort them by number"))
        case "by number":
            what = "poses are in the order of the images' numbers, and the format's is that of names as text"
            parts.append((what, "sort them by the names as text (10 before 2)"))
        case "shifted":
            late = "late" if convention.shift > 0 else "early"
            what = f"the list of poses is shifted: poses are {abs(convention.shift)} images {late}"
            parts.append((what, f"give image k the pose of image k {convention.shift:+d}"))
    if convention.offset_s:
        late = "late" if convention.offset_s > 0 else "early"
        what = f"the clocks differ: poses are {abs(convention.offset_s):.2f} s {late}"
        parts.append((what, f"add {-convention.offset_s:+.2f} s to the times of the poses"))
    if convention.camera != "given":
        parts.append(_describe_camera(convention, posed))
    if convention.size_factor != 1:
        width, height = (round(float(side / convention.size_factor)) for side in np.median(posed.sizes, axis=0))
        parts.append((f"{CAMERA_CHANGES['size'][0]}: {width}x{height}", CAMERA_CHANGES["size"][1]))
    if convention.focal_factor != 1:
        focal_px = float(np.median(posed.K[:, 0, 0])) * convention.focal_factor
        what = f"the focal length is wrong: {np.median(posed.K[:, 0, 0]):.0f} px"
        parts.append((what, f"use about {focal_px:.0f} px, or calibrate the camera"))
    return "; ".join(part[0] for part in parts), "; then ".join(part[1] for part in parts)


def _describe_poses(mistake: str, format: Format) -> tuple[str, str]:
    transposed, is_half, axes = mistake.partition("half ")
    if is_half:
        what = f"the rotations and the translations have different axes: {axes} of the translations have the other sign"
        fix = f"negate {axes} of the translations of the {format.direction} matrices"
        if not transposed:
            return what, fix
        return f"{what}, and the rotations are transposed (as PyTorch3D has them)", f"transpose each rotation; {fix}"
    name, _, inverse = mistake.partition(", ")
    what, fix = POSE_TEXTS[name, OTHER[format.direction] if inverse else format.direction]
    if name.startswith("w ") and "qw" not in format.columns:
        other = {"w first": "w last", "w last": "w first"}[name]
        what = f"the rotations were made of quaternions in the wrong order: {name}, read as {other}"
        fix = "make them again of the quaternions"
    if not inverse:
        return what, fix
    return f"{what}, and the poses were inverted after that", f"invert each pose; {fix}; invert it again"


def _describe_axes(turn: Array, format: Format) -> tuple[str, str]:
    """Return which camera axes the file has, and how to turn its poses as they are written."""
    native = format.axes.R_axes_camera
    R_axes_camera = native @ turn.T  # of the file
    is_w2c = format.direction is W2C
    factor = native @ R_axes_camera.T if is_w2c else R_axes_camera @ native.T
    rows = "; ".join(" ".join(f"{value:.0f}" for value in row + 0.0) for row in factor)
    side = "left" if is_w2c else "right"
    fix = f"turn the camera axes: multiply the {format.direction} matrices from the {side} by [{rows}]"
    own = f"not the axes of the format ({format.axes.directions})"
    known = {one.name: one for one in (OPENCV, *MISTAKEN_AXES, *AXES.values())}.values()
    if (axes := next((one for one in known if np.array_equal(R_axes_camera, one.R_axes_camera)), None)) is not None:
        return f"the poses have {axes.description}, {own}", fix
    if (axes := next((one for one in known if np.array_equal(R_axes_camera, one.R_camera_axes)), None)) is not None:
        return f"the poses have axes turned the wrong way: the inverse of {axes.description}, {own}", fix
    return f"the poses have the camera axes {describe_axes(R_axes_camera)}, {own}", fix


def _describe_camera(convention: Convention, posed: PosedImages) -> tuple[str, str]:
    what, fix, _ = CAMERA_CHANGES[convention.camera]
    x, y = posed.K[0, :2, 2]
    if convention.camera == "size":
        return f"{what}: about {round(2 * x + 1)}x{round(2 * y + 1)}", fix
    return (f"{what}: ({x:.0f}, {y:.0f})" if convention.camera == "center" else what), fix


def apply_convention(reconstruction: Reconstruction, matches: ImageMatches, convention: Convention) -> Reconstruction:
    """Return the reconstruction with a convention's mistakes undone, in the conventions of its format.

    reconstruction: cameras and poses as read.
    matches: the images.
    convention: what the file has.
    """
    posed = pose_images(reconstruction, matches)
    changed = reconstruction
    if convention.order != "given":
        names = [matches.names[index] for index in posed.images]
        rows = order_rows(len(posed.images), convention, names)
        kept = np.flatnonzero(rows >= 0)
        changed = reconstruction.rows(posed.rows[kept])
        changed = replace(changed, T_camera_world=reconstruction.T_camera_world[posed.rows[rows[kept]]])
        if not any(reconstruction.names):
            changed = replace(changed, names=tuple(matches.names[index] for index in posed.images[kept]))
    if convention.offset_s and changed.times_s is not None:
        offset_ns = round(convention.offset_s * 1e9)
        times_ns = None if changed.times_ns is None else changed.times_ns - offset_ns
        changed = replace(changed, times_s=changed.times_s - convention.offset_s, times_ns=times_ns)
    T = change_poses(changed.T_camera_world, convention, reconstruction.pose_format)
    if convention.is_mirrored:
        T[:, :3, :3] = T[:, :3, :3] @ MIRROR
    changed = replace(changed, T_camera_world=T)
    if name_camera(convention) != name_camera(GIVEN):
        sizes = np.tile(np.median(matches.sizes, axis=0).astype(np.int64), (len(changed), 1))
        known = np.where(changed.sizes > 0, changed.sizes, sizes)
        K = change_camera(scale_intrinsics(changed.K, sizes / known), sizes.astype(np.float64), convention)
        changed = replace(changed, K=K, sizes=sizes)
    return changed
