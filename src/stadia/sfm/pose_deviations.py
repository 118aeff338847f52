"""Measure how well the matches of images determine the poses of a map."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from stadia.sfm.sparse_map import Array, SparseMap

MIN_SEEN = 15
"""Fewest observations of an image whose pose is refined; others keep the given pose."""

MIN_PART = 3
"""Fewest images that matches join and whose poses are refined."""

FREEDOMS = 7
"""Number of parameters of a similarity, which matches do not determine."""

MIN_NOISE_PX = 0.01
"""Least noise of a pixel that is assumed."""

CAUCHY = 2.0
"""Residual, in standard deviations, beyond which observations weigh less in the deviations of poses."""


def find_parts(sparse: SparseMap) -> list[NDArray[np.intp]]:
    """Return the rows of the images that points join, of each part with at least MIN_PART images.

    Images with fewer than MIN_SEEN observations belong to no part.
    """
    count, points = len(sparse.frames), len(sparse.points)
    seen = np.bincount(sparse.observed[:, 0], minlength=count)
    kept = sparse.observed[seen[sparse.observed[:, 0]] >= MIN_SEEN]
    graph = coo_matrix((np.ones(len(kept)), (kept[:, 0], count + kept[:, 1])), (count + points, count + points))
    label = connected_components(graph, directed=False)[1][:count]
    parts = (np.flatnonzero((label == number) & (seen >= MIN_SEEN)) for number in np.unique(label))
    return [part for part in parts if len(part) >= MIN_PART]


def measure_noise_px(sparse: SparseMap) -> float:
    """Return the robust standard deviation of a coordinate of the observations, pixels."""
    return float(1.4826 * np.median(np.abs(sparse.residuals_px()))) if len(sparse.observed) else float("nan")


def measure_deviations(sparse: SparseMap, cameras: NDArray[np.intp] | None = None) -> tuple[Array, Array, Array]:
    """Measure the standard deviation of each pose from the residuals and the geometry of its observations.

    The world is free: deviations are those after the best similarity alignment (the inner constraints of a free network
    adjustment), so that no image is taken as exact.

    sparse: an adjusted map.
    cameras: (F,) the camera of each image, from 0; with it, focal lengths count as unknown too.

    Returns (F,) rotations in degrees, (F,) positions in the unit of the map (both are root mean squares over the axes,
    NaN for images of no part), and the relative deviation of the focal length of each camera.
    """
    count, lenses = len(sparse.frames), 0 if cameras is None else int(cameras.max()) + 1
    degrees, positions, focal = np.full(count, np.nan), np.full(count, np.nan), np.full(lenses, np.inf)
    parts = find_parts(sparse)
    if not parts:
        return degrees, positions, focal
    S, unit = _eliminate_points(sparse, np.zeros(count, np.intp) if cameras is None else cameras, lenses)
    for part in parts:
        own = np.empty(0, np.intp) if cameras is None else np.unique(cameras[part])
        at = np.concatenate(((6 * part[:, None] + np.arange(6)).ravel(), 6 * count + own))
        values, vectors = np.linalg.eigh(S[np.ix_(at, at)])
        inverse = vectors[:, FREEDOMS:] / np.maximum(values[FREEDOMS:], 1e-12 * values[-1])
        variances = np.einsum("ij,ij->i", inverse, vectors[:, FREEDOMS:])
        of_poses = variances[: 6 * len(part)].reshape(-1, 2, 3).sum(-1)
        degrees[part], positions[part] = np.rad2deg(np.sqrt(of_poses[:, 0])), unit * np.sqrt(of_poses[:, 1])
        focal[own] = np.minimum(focal[own], np.sqrt(variances[6 * len(part) :]))
    return degrees, positions, focal


def _eliminate_points(sparse: SparseMap, cameras: NDArray[np.intp], lenses: int) -> tuple[Array, float]:
    """Return the information matrix of poses and focal lengths without points (the Schur complement), and its unit.

    Rows are 3 rotations (about the axes of the camera) and 3 positions in this unit of each image, then relative focal
    lengths.
    """
    count, points = len(sparse.frames), len(sparse.points)
    frame, point = sparse.observed.T
    R, inside = sparse.T_camera_world[frame, :3, :3], sparse.in_camera()
    unit = max(float(np.median(np.abs(inside[:, 2]))), 1e-12)
    x, y, z = (inside / unit).T
    zero = np.zeros(len(z))
    project = np.stack([np.stack([1 / z, zero, -x / z**2], -1), np.stack([zero, 1 / z, -y / z**2], -1)], 1)
    cross = np.stack([np.stack([zero, z, -y], -1), np.stack([-z, zero, x], -1), np.stack([y, -x, zero], -1)], 1)
    noise = max(measure_noise_px(sparse), MIN_NOISE_PX)
    misses = np.linalg.norm(sparse.residuals_px(), axis=1) / noise
    weight = sparse.camera.focal_px / noise / np.sqrt(1 + (misses / CAUCHY) ** 2)
    along = weight[:, None, None] * project
    J_point = along @ R
    rotations, positions = along @ cross, -J_point
    columns = [6 * frame[:, None] + np.arange(6)]
    J = [rotations, positions]
    if lenses:
        J.append(weight[:, None, None] * np.stack((x / z, y / z), -1)[..., None])
        columns.append(6 * count + cameras[frame][:, None])
    J_camera, at_camera = np.concatenate(J, 2), np.concatenate(columns, 1)
    by_camera = _stack_blocks(J_camera, at_camera, 6 * count + lenses)
    H_point = np.zeros((points, 3, 3))
    np.add.at(H_point, point, np.einsum("mki,mkj->mij", J_point, J_point))
    H_point += 1e-9 * np.trace(H_point, axis1=1, axis2=2)[:, None, None] * np.eye(3)
    whitened = J_point @ np.linalg.cholesky(np.linalg.inv(H_point))[point]
    mixed = by_camera.T @ _stack_blocks(whitened, 3 * point[:, None] + np.arange(3), 3 * points)
    return np.asarray((by_camera.T @ by_camera - mixed @ mixed.T).toarray()), unit


def _stack_blocks(blocks: Array, columns: NDArray[np.intp], width: int) -> Any:
    """Return a sparse matrix with the rows of the blocks (M, 2, K), at the given columns (M, K)."""
    rows = np.broadcast_to(np.arange(2 * len(blocks)).reshape(-1, 2, 1), blocks.shape)
    at = rows.ravel(), np.broadcast_to(columns[:, None], blocks.shape).ravel()
    return coo_matrix((blocks.ravel(), at), (2 * len(blocks), width)).tocsr()
