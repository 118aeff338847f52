"""Intervals of a camera's focal length, center and distortion from a bundle adjustment.

The information about the camera is what remains of the normal equations after points and poses are eliminated by Schur
complements (Triggs et al., Bundle Adjustment, 1999, section 6).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from stadia.sfm.sparse_map import Array, LensCamera, SparseMap

PARAMETERS = ("focal_px", "center_x_px", "center_y_px", "k1", "k2", "p1", "p2")

INFLATION = 4.0
"""Factor of the deviations by residuals: neighboring residuals err together, and no lens fits its model."""

MAX_FOCAL_DEVIATION = 0.04
"""Largest relative deviation of a claimed focal length."""

MIN_FOCAL_DEVIATION = 0.005
"""Relative deviation that every focal length has in addition."""

MAX_USED_DEVIATION = 0.1
"""Largest relative deviation of a focal length that a map uses without claiming it."""

MIN_TURN_DEG = 15.0
"""A focal length is claimed from this turn on; below, rolling shutters and unusual lenses weigh more."""

_STEP = 1e-6


@dataclass(frozen=True, slots=True)
class LensIntervals:
    """Standard deviations of the camera's parameters, by name in PARAMETERS; infinite if unknown.

    turn_deg: largest turn between two key frames.
    """

    deviations: dict[str, float]
    turn_deg: float

    def widen_focal(self, deviation_px: float) -> LensIntervals:
        """Return the intervals with one more deviation of the focal length."""
        focal_px = float(np.hypot(self.deviations["focal_px"], deviation_px))
        return replace(self, deviations={**self.deviations, "focal_px": focal_px})

    def is_focal_usable(self, camera: LensCamera) -> bool:
        """Return whether the focal length is more accurate than an assumed one."""
        return self.deviations["focal_px"] <= MAX_USED_DEVIATION * camera.focal_px

    def is_focal_determined(self, camera: LensCamera) -> bool:
        """Return whether the motion determines the focal length."""
        deviation = self.deviations["focal_px"] / camera.focal_px
        return deviation <= MAX_FOCAL_DEVIATION and self.turn_deg >= MIN_TURN_DEG


def measure_lens(sparse: SparseMap, free: tuple[str, ...] = ("focal_px", "k1", "k2")) -> LensIntervals:
    """Return the deviations of the `free` parameters, with all poses and points free."""
    information, _ = eliminate_scene(sparse, differentiate_lens(sparse, free))
    deviations = dict.fromkeys(PARAMETERS, 0.0)
    deviations |= dict(zip(free, np.sqrt(np.diag(invert_information(information))).tolist(), strict=True))
    return LensIntervals(deviations, measure_turn_deg(sparse))


def eliminate_scene(sparse: SparseMap, J: Array) -> tuple[Array, Array]:
    """Return the information (L, L) about parameters and their gradient (L,), with all poses and points free.

    J: (M, 2, L), derivatives of the projected pixels by the parameters.
    """
    J_pose, J_point = _differentiate_poses(sparse)
    residuals = sparse.residuals_px()
    noise_px = max(sparse.measure_noise_px(), 1e-2)
    weight = 1 / np.sqrt(1 + (residuals.ravel() / (3 * noise_px)) ** 2) / noise_px
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
    """Return the covariance (L, L) of parameters, with INFLATION; very large if undetermined."""
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
    """Return the derivatives (M, 2, N) of M projected pixels with respect to N camera parameters.

    names: names of the parameters.
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


def measure_turn_deg(sparse: SparseMap) -> float:
    """Return the largest turn between two key frames, degrees."""
    R = sparse.T_camera_world[:, :3, :3]
    cosine = (np.einsum("aij,bij->ab", R, R) - 1) / 2
    return float(np.degrees(np.arccos(np.clip(cosine.min(initial=1.0), -1, 1))))


MIN_READOUT_FRAMES = 0.15
"""Least readout time of the rows, in frames, that counts as a rolling shutter."""

MIN_DEVIATIONS = 3.0
MIN_FRAMES, MAX_FRAMES = 4, 120
MIN_DEPTH_SHARE = 0.25
"""Least depth of a point in the neighboring frames, relative to its own: nearer ones leave the image."""

_LENS = ("focal_px", "k1", "k2")


@dataclass(frozen=True, slots=True)
class RowReadout:
    """Time from the first row to the last, in frames, and its standard deviation."""

    frames: float
    deviation: float

    @property
    def is_rolling(self) -> bool:
        """Return whether the shutter rolls: the time is long, and certain."""
        return abs(self.frames) > max(MIN_READOUT_FRAMES, MIN_DEVIATIONS * self.deviation)


def measure_readout(sparse: SparseMap, T_camera_world: Array) -> RowReadout | None:
    """Return the readout time of the rows, of the first MAX_FRAMES key frames; None for fewer than MIN_FRAMES.

    T_camera_world: (N, 4, 4) of all frames, NaN if unknown.
    """
    if len(sparse.frames) < MIN_FRAMES:
        return None
    first = sparse.observed[:, 0] < MAX_FRAMES
    sparse = replace(
        sparse,
        frames=sparse.frames[:MAX_FRAMES],
        T_camera_world=sparse.T_camera_world[:MAX_FRAMES],
        observed=sparse.observed[first],
        xy=sparse.xy[first],
    )
    J_rows = differentiate_rows(sparse, T_camera_world)
    J = np.concatenate((J_rows[..., None], differentiate_lens(sparse, _LENS)), -1)
    information, gradient = eliminate_scene(sparse, J)
    step = np.linalg.lstsq(information, -gradient, rcond=1e-12)[0]
    return RowReadout(float(step[0]), float(np.sqrt(invert_information(information)[0, 0])))


def differentiate_rows(sparse: SparseMap, T_camera_world: Array) -> Array:
    """Return (M, 2), derivatives of the projected pixels by the readout time in frames; 0 next to unknown frames.

    T_camera_world: (N, 4, 4) of all frames, NaN if unknown.
    """
    points, depth = sparse.points[sparse.observed[:, 1]], sparse.in_camera()[:, 2]
    frames = sparse.frames[sparse.observed[:, 0]]
    ends = np.clip(frames - 1, 0, None), np.clip(frames + 1, None, len(T_camera_world) - 1)
    shown = list[Array]()
    is_seen = np.ones(len(points), bool)
    for end in ends:
        T = T_camera_world[end]
        inside = np.einsum("mij,mj->mi", T[:, :3, :3], points) + T[:, :3, 3]
        is_seen &= inside[:, 2] > MIN_DEPTH_SHARE * depth
        shown.append(sparse.camera.project(np.where(is_seen[:, None], inside, 1.0)))
    motion = np.where(is_seen[:, None], shown[1] - shown[0], 0.0) / (ends[1] - ends[0])[:, None]
    return motion * (sparse.xy[:, 1] / (sparse.camera.height - 1) - 0.5)[:, None]
