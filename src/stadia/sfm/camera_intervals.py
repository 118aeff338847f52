"""Measure how exactly a map determines its camera: focal length, center, lens, and readout time of the rows."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from stadia.sfm.sparse_map import Array, LensCamera, SparseMap

PARAMETERS = ("focal_px", "center_x_px", "center_y_px", "k1", "k2", "p1", "p2")

INFLATION = 4.0
"""Factor on standard deviations from the residuals: nearby residuals are correlated, and no real lens fits the
distortion model exactly.
"""

MAX_FOCAL_DEVIATION = 0.04
"""Largest relative standard deviation of a focal length that is reported as estimated."""

MIN_FOCAL_DEVIATION = 0.01
"""Relative standard deviation that is added (in squares) to the one of every focal length.

Rolling shutters and lenses that the model does not describe move a focal length of a real video by up to 3 %: the
intervals of nine recordings with a known focal length (7-Scenes, TUM, a HoloLens, a phone) hold it with this value,
and of six with half of it.
"""

MAX_USED_DEVIATION = 0.1
"""Largest relative standard deviation of a focal length that a map uses; above it, an assumed field of view is better.
"""

MIN_TURN_DEG = 15.0
"""Smallest rotation between two keyframes, degrees, with which a focal length is reported as estimated. With less
rotation, rolling shutter and unusual lenses influence it more.
"""

MIN_NEAR = 1e-3
"""Smallest depth of an observed point that counts, as a share of the median depth: derivatives of a wrong point at the
camera would outweigh all others.
"""

_STEP = 1e-6
"""Relative step of numerical derivatives: about the square root of the rounding of float64."""


@dataclass(frozen=True, slots=True)
class LensIntervals:
    """Standard deviations of the parameters of a camera.

    deviations: standard deviation by the names in PARAMETERS; 0 for a parameter that was held fixed, very large for one
        that the images do not determine.
    turn_deg: largest rotation between two keyframes, degrees.
    """

    deviations: dict[str, float]
    turn_deg: float

    def widen_focal(self, deviation_px: float) -> LensIntervals:
        """Return a copy with an independent standard deviation, pixels, added in squares to the focal length's."""
        focal_px = float(np.hypot(self.deviations["focal_px"], deviation_px))
        return replace(self, deviations={**self.deviations, "focal_px": focal_px})

    def is_focal_usable(self, camera: LensCamera) -> bool:
        """Return whether the estimated focal length of `camera` is more accurate than an assumed one (see
        MAX_USED_DEVIATION).
        """
        return self.deviations["focal_px"] <= MAX_USED_DEVIATION * camera.focal_px

    def is_focal_determined(self, camera: LensCamera) -> bool:
        """Return whether the focal length of `camera` is accurate enough, and the camera turned enough, to report it as
        estimated.
        """
        deviation = self.deviations["focal_px"] / camera.focal_px
        return deviation <= MAX_FOCAL_DEVIATION and self.turn_deg >= MIN_TURN_DEG


def measure_lens(sparse: SparseMap, free: tuple[str, ...] = ("focal_px", "k1", "k2")) -> LensIntervals:
    """Estimate the standard deviations of camera parameters in a map, while all poses and points are free too.

    sparse: the map.
    free: names of the parameters that were adjusted; all other parameters get the deviation 0.
    """
    information, _ = eliminate_scene(sparse, differentiate_lens(sparse, free))
    deviations = dict.fromkeys(PARAMETERS, 0.0)
    deviations |= dict(zip(free, np.sqrt(np.diag(invert_information(information))).tolist(), strict=True))
    return LensIntervals(deviations, sparse.measure_turn_deg())


def eliminate_scene(sparse: SparseMap, J: Array) -> tuple[Array, Array]:
    """Eliminate poses and points from the normal equations of a bundle adjustment, so that only L parameters remain.

    sparse: the map.
    J: (M, 2, L), derivatives of the M projected pixels with respect to the L parameters.

    Returns the information matrix (L, L) of the parameters and the gradient (L,) of the cost.
    """
    J_pose, J_point = _differentiate_poses(sparse)
    residuals = sparse.residuals_px()
    noise_px = max(sparse.measure_noise_px(), 1e-2)
    weight = 1 / np.sqrt(1 + (residuals.ravel() / (3 * noise_px)) ** 2) / noise_px
    depth = sparse.in_camera()[:, 2]
    weight *= np.repeat(depth > MIN_NEAR * np.median(depth), 2)
    frames, points, count = len(sparse.frames), len(sparse.points), J.shape[-1]
    rows = np.arange(2 * len(residuals)).reshape(-1, 2)
    A = sp.csr_matrix(J.reshape(-1, count) * weight[:, None])
    B = _place(J_pose, rows, sparse.observed[:, 0], 6, frames).multiply(weight[:, None]).tocsr()
    C = _place(J_point, rows, sparse.observed[:, 1], 3, points).multiply(weight[:, None]).tocsr()
    cameras = sp.hstack([A, B]).tocsr()
    blocks = np.zeros((points, 3, 3))
    of_point = J_point * weight.reshape(-1, 2)[:, :, None]
    np.add.at(blocks, sparse.observed[:, 1], np.einsum("mki,mkj->mij", of_point, of_point))
    inverses = np.linalg.pinv(blocks, rcond=1e-10, hermitian=True)
    inverse = sp.bsr_matrix(
        (inverses, np.arange(points), np.arange(points + 1)), shape=(3 * points, 3 * points)
    ).tocsr()
    to_points = (cameras.T @ C).tocsr() @ inverse
    reduced = np.asarray((cameras.T @ cameras - to_points @ (C.T @ cameras)).todense())
    weighted = residuals.ravel() * weight
    gradient = cameras.T @ weighted - to_points @ (C.T @ weighted)
    of_poses = reduced[:count, count:] @ _pseudo_inverse(reduced[count:, count:])
    return reduced[:count, :count] - of_poses @ reduced[count:, :count], gradient[:count] - of_poses @ gradient[count:]


def invert_information(information: Array) -> Array:
    """Return the covariance (L, L) of parameters from their information matrix (L, L), enlarged by INFLATION squared.

    Undetermined parameters get a very large variance.
    """
    scale = np.sqrt(np.maximum(np.diag(information), 1e-30))
    values, vectors = np.linalg.eigh(information / np.outer(scale, scale))
    return INFLATION**2 * (vectors / np.maximum(values, 1e-9)) @ vectors.T / np.outer(scale, scale)


def _pseudo_inverse(symmetric: Array) -> Array:
    scale = np.sqrt(np.maximum(np.diag(symmetric), 1e-30))
    values, vectors = np.linalg.eigh(symmetric / np.outer(scale, scale))
    kept = values > 1e-9 * values[-1]
    kept[:7] = False
    return (vectors[:, kept] / values[kept]) @ vectors[:, kept].T / np.outer(scale, scale)


def _place(J: Array, rows: NDArray[np.int64], column: NDArray[np.int64], size: int, count: int) -> sp.csr_matrix:
    """Return (2M, size count) sparse from blocks (M, 2, size) in the block columns `column` (M,)."""
    columns = (column[:, None] * size + np.arange(size))[:, None, :].repeat(2, 1)
    place = rows[:, :, None].repeat(size, 2)
    return sp.csr_matrix((J.ravel(), (place.ravel(), columns.ravel())), shape=(rows.size, size * count))


def differentiate_lens(sparse: SparseMap, names: tuple[str, ...]) -> Array:
    """Differentiate the M projected pixels of a map with respect to N camera parameters; returns (M, 2, N).

    sparse: the map.
    names: names of the parameters, from PARAMETERS.
    """
    inside = sparse.in_camera()
    x, y = inside[:, 0] / inside[:, 2], inside[:, 1] / inside[:, 2]
    squared, f = x**2 + y**2, sparse.camera.focal_px
    zero, one = np.zeros_like(x), np.ones_like(x)
    direction = (sparse.camera.project(inside) - np.array(sparse.camera.center_px)) / f
    by_name = {
        "focal_px": direction,
        "center_x_px": np.column_stack((one, zero)),
        "center_y_px": np.column_stack((zero, one)),
        "k1": f * np.column_stack((x * squared, y * squared)),
        "k2": f * np.column_stack((x * squared**2, y * squared**2)),
        "p1": f * np.column_stack((2 * x * y, squared + 2 * y**2)),
        "p2": f * np.column_stack((squared + 2 * x**2, 2 * x * y)),
    }
    return np.stack([by_name[name] for name in names], -1)


def _differentiate_poses(sparse: SparseMap) -> tuple[Array, Array]:
    """Return derivatives of the pixels by each camera's turn and shift (M, 2, 6), and by the point (M, 2, 3)."""
    inside = sparse.in_camera()
    J = np.empty((len(inside), 2, 3))
    base = sparse.camera.project(inside)
    for axis in range(3):
        step = _STEP * np.abs(inside[:, 2])
        moved = inside.copy()
        moved[:, axis] += step
        J[:, :, axis] = (sparse.camera.project(moved) - base) / step[:, None]
    cross = np.zeros((len(inside), 3, 3))
    x, y, z = inside.T
    cross[:, 0, 1], cross[:, 0, 2], cross[:, 1, 2] = z, -y, x
    cross[:, 1, 0], cross[:, 2, 0], cross[:, 2, 1] = -z, y, -x
    R = sparse.T_camera_world[sparse.observed[:, 0], :3, :3]
    return np.concatenate((J @ cross, J), -1), J @ R


# -- rolling shutter

MIN_READOUT_FRAMES = 0.15
"""Smallest time from the readout of the first image row to the last, in frame intervals, that is reported as a rolling
shutter.
"""


MIN_DEVIATIONS = 3.0
"""A readout time of fewer standard deviations may be zero: three are exceeded by chance in .3 % of the maps."""


MIN_ROW_KEY_FRAMES = 4
"""Fewest keyframes whose motion separates the readout time from the lens."""


MAX_ROW_KEY_FRAMES = 120
"""Keyframes that are used at most: more take longer and hardly change the result."""


_LENS = ("focal_px", "k1", "k2")


@dataclass(frozen=True, slots=True)
class RowReadout:
    """Time that the sensor takes from the readout of the first image row to the last (rolling shutter).

    frames: this time in frame intervals; negative if the last row is read first.
    deviation: standard deviation of `frames`.
    """

    frames: float
    deviation: float

    @property
    def is_rolling(self) -> bool:
        """Return whether the shutter rolls.

        It does if the readout time exceeds MIN_READOUT_FRAMES and MIN_DEVIATIONS standard deviations.
        """
        return abs(self.frames) > max(MIN_READOUT_FRAMES, MIN_DEVIATIONS * self.deviation)


def measure_readout(sparse: SparseMap) -> RowReadout | None:
    """Return the readout time of the rows, of the first MAX_ROW_KEY_FRAMES keyframes.

    Poses and points of the map are fitted for `sparse.readout`, and the result adds to it. None for fewer than
    MIN_ROW_KEY_FRAMES.
    """
    if len(sparse.frames) < MIN_ROW_KEY_FRAMES:
        return None
    first = sparse.observed[:, 0] < MAX_ROW_KEY_FRAMES
    sparse = replace(
        sparse,
        frames=sparse.frames[:MAX_ROW_KEY_FRAMES],
        T_camera_world=sparse.T_camera_world[:MAX_ROW_KEY_FRAMES],
        observed=sparse.observed[first],
        xy=sparse.xy[first],
    )
    J = np.concatenate((sparse.differentiate_rows()[..., None], differentiate_lens(sparse, _LENS)), -1)
    information, gradient = eliminate_scene(sparse, J)
    step = np.linalg.lstsq(information, -gradient, rcond=1e-12)[0]
    deviation = float(np.sqrt(invert_information(information)[0, 0]))
    return RowReadout(sparse.readout + float(step[0]), deviation)
