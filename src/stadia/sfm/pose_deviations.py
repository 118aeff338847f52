"""Measure how well the matches of images determine the poses of a map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import block_diag
from scipy.sparse import coo_matrix, csr_matrix, triu, vstack

from stadia.geometry.poses import find_centers, hat
from stadia.sfm.sparse_map import Array, SparseMap

MIN_SEEN = 15
"""Fewest points that two images have in common from which a part grows."""

MIN_KNOWN = 10
"""Fewest points of two or more images of a part that another image sees, which joins the part; others keep the given
pose.
"""

MIN_PART = 3
"""Fewest images that matches join and whose poses are refined."""

FREEDOMS = 7
"""Number of parameters of a similarity, which matches do not determine."""

MIN_NOISE_PX = 0.01
"""Least noise of a pixel that is assumed."""

CAUCHY = 2.0
"""Residual, in standard deviations, beyond which observations weigh less in the deviations of poses."""

SHARED_PX, SHARED_DEG, SHARED_LENGTH_PX = 0.15, 10.0, 20.0
"""Error that neighboring features share, pixels of 640, if they are seen at this angle from the middle of all views of
their points, and the distance of such neighbors, pixels of 640.

Where the view changes, features of a slanted or curved surface move together, and poses follow them: residuals hide
it. Calibrated with rendered objects and drives, whose poses are known.
"""

SHARED_DRAWS, WAVES = 32, 48
"""Numbers of draws of shared errors, and of the waves that each of them consists of."""


def find_parts(sparse: SparseMap) -> list[NDArray[np.intp]]:
    """Return the rows of the images of each part whose form points determine, with at least MIN_PART images.

    A part starts from a pair of images, and takes each image that sees at least MIN_KNOWN points which two of its
    images see: a point of only two images tells nothing of the scale between them and others. It takes an earlier part
    that has two of its images.
    """
    count, total = len(sparse.frames), len(sparse.points)
    sees = coo_matrix((np.ones(len(sparse.observed)), tuple(sparse.observed.T)), (count, total)).tocsr()
    seen_by, pairs = sees.tocsc(), triu(sees @ sees.T, 1).tocoo()
    order = np.argsort(-pairs.data, kind="stable")[: int((pairs.data >= MIN_SEEN).sum())]
    label = np.zeros(count, np.intp)  # number of the part of each image; 0 for none
    for number, new in enumerate(np.column_stack((pairs.row, pairs.col))[order], 1):
        if label[new].any():
            continue
        inside, times, known = np.zeros(count, bool), np.zeros(total), np.zeros(count)
        while len(new):
            inside[new] = True
            before, times = times, times + np.asarray(sees[new].sum(0)).ravel()
            known += np.asarray(seen_by[:, (before < 2) & (times >= 2)].sum(1)).ravel()
            is_taken = np.bincount(label[inside], minlength=number + 1) >= 2
            is_taken[0] = False
            new = np.flatnonzero(~inside & ((known >= MIN_KNOWN) | is_taken[label]))
        label[inside & ((label == 0) | is_taken[label])] = number
    parts = (np.flatnonzero(label == number) for number in np.unique(label[label > 0]))
    return [part for part in parts if len(part) >= MIN_PART]


def select_observations(sparse: SparseMap, kept: NDArray[np.bool_]) -> SparseMap:
    """Reduce a map to some observations, and to the points that at least two of them see.

    sparse: the map.
    kept: (M,) whether each observation is kept.
    """
    count = np.bincount(sparse.observed[kept, 1], minlength=len(sparse.points))
    kept = kept & (count >= 2)[sparse.observed[:, 1]]
    number = np.cumsum(count >= 2) - 1
    return replace(
        sparse,
        points=sparse.points[count >= 2],
        colors=sparse.colors[count >= 2],
        observed=np.column_stack((sparse.observed[kept, 0], number[sparse.observed[kept, 1]])),
        xy=sparse.xy[kept],
    )


def measure_noise_px(sparse: SparseMap) -> float:
    """Return the robust standard deviation of a coordinate of the observations, pixels."""
    return float(1.4826 * np.median(np.abs(sparse.residuals_px()))) if len(sparse.observed) else float("nan")


@dataclass(frozen=True, slots=True, eq=False)
class PoseCovariance:
    """The covariance of the poses of a part of a map, and of its cameras.

    The world is free: the covariance is the one after the best similarity alignment (the inner constraints of a free
    network adjustment), so that no image is taken as exact.

    rows: (N,) rows of the images in the map.
    of_poses: (6 N, 6 N) covariance of 3 rotations about the axes of the camera (radians) and 3 coordinates of the
        position (unit of the map) of each image.
    cameras: numbers of the cameras of these images.
    of_cameras: (C, 5, 5) covariance of the parameters of each camera, in the order of FREE; NaN for those that were
        not free.
    """

    rows: NDArray[np.intp]
    of_poses: Array
    cameras: NDArray[np.intp]
    of_cameras: Array

    @property
    def of_rotations(self) -> Array:
        """The covariance (3 N, 3 N) of the rotations, radians squared."""
        return self._select(0)

    @property
    def of_positions(self) -> Array:
        """The covariance (3 N, 3 N) of the positions, in the unit of the map squared."""
        return self._select(1)

    def _select(self, kind: int) -> Array:
        at = np.arange(len(self.of_poses)).reshape(-1, 2, 3)[:, kind].ravel()
        return self.of_poses[np.ix_(at, at)]

    @property
    def deviations_deg(self) -> Array:
        """The standard deviation (N,) of the angle of each rotation, degrees."""
        return np.rad2deg(np.sqrt(np.diag(self.of_rotations).reshape(-1, 3).sum(1)))

    @property
    def deviations(self) -> Array:
        """The standard deviation (N,) of the distance of each position, in the unit of the map."""
        return np.sqrt(np.diag(self.of_positions).reshape(-1, 3).sum(1))


FREE = {"focal": (0,), "center": (1, 2), "aspect": (3,), "lens": (4,)}
"""Parameters of cameras that may be free, and their numbers: the logarithm of the focal length, the principal point (x,
y) over the focal length, the logarithm of fy over fx, and the coefficient k of a lens that moves a point at the radius
r by k r^3.
"""

PARAMETERS = 5

KNOWN = (0.005, 0.002, 0.002, 0.001, 0.002)
"""Standard deviations of these parameters of a given camera that matches do not change: its own errors bend the poses
that fit. Chosen so that the poses of 20 images of a walk agree with those of all its 186, whose focal length is 1.4 %
from the maker's.
"""


def measure_covariances(
    sparse: SparseMap,
    cameras: NDArray[np.intp] | None = None,
    free: Sequence[str] = (),
    *,
    shared_px: float = SHARED_PX,
    known: Sequence[str] = (),
) -> list[PoseCovariance]:
    """Measure the covariance of the poses from the residuals and the geometry of their observations.

    sparse: an adjusted map.
    cameras: (F,) the camera of each image, from 0; None takes one camera for all images.
    free: parameters of the cameras that count as unknown too, keys of FREE.
    known: parameters of the cameras that count as known up to KNOWN, keys of FREE.
    shared_px: errors that neighboring features share, as `draw_shared_errors` takes them.

    Returns the covariance of each part of the map.
    """
    count = len(sparse.frames)
    cameras = np.zeros(count, np.intp) if cameras is None else cameras
    parts = find_parts(sparse)
    if not parts:
        return []
    sparse = select_observations(sparse, np.isin(sparse.observed[:, 0], np.concatenate(parts)))
    lens = np.array(sorted(number for name in {*free, *known} for number in FREE[name]), np.intp)
    is_free = np.isin(lens, [number for name in free for number in FREE[name]])
    prior = np.where(is_free, 0.0, 1 / np.array(KNOWN)[lens])
    S, scores = _eliminate_points(sparse, cameras, lens, shared_px)
    unit = _find_unit(sparse)
    G = _find_gauge(sparse, unit)
    rows, numbers = np.concatenate(parts), np.arange(len(lens))
    own = np.unique(cameras[rows])
    at = np.concatenate(
        ((6 * rows[:, None] + np.arange(6)).ravel(), (6 * count + len(lens) * own[:, None] + numbers).ravel())
    )
    starts = 6 * np.cumsum([0, *(len(part) for part in parts)])
    of_parts = [np.linalg.qr(G[(6 * part[:, None] + np.arange(6)).ravel()])[0] for part in parts]
    gauge = block_diag(*of_parts, np.zeros((len(at) - starts[-1], 0)))
    prior = np.diag(np.concatenate((np.zeros(starts[-1]), np.tile(prior, len(own)))))
    M = S[np.ix_(at, at)] + prior**2
    strength = np.trace(M) / len(M)
    M = M + strength * gauge @ gauge.T + 1e-12 * strength * np.eye(len(M))
    C = np.linalg.inv(M) - gauge @ gauge.T / strength
    own_scores = scores[:, at]
    C = C @ ((own_scores.T @ own_scores).toarray() + prior**2) @ C
    found = list[PoseCovariance]()
    for part, start, stop in zip(parts, starts, starts[1:], strict=False):
        units = np.tile([1.0, 1, 1, unit, unit, unit], len(part))
        of_own = np.unique(cameras[part])
        of_cameras = np.full((len(of_own), PARAMETERS, PARAMETERS), np.nan)
        for row, camera in enumerate(of_own):
            of = starts[-1] + len(lens) * np.searchsorted(own, camera) + numbers[is_free]
            of_cameras[row][np.ix_(lens[is_free], lens[is_free])] = C[np.ix_(of, of)]
        of_poses = C[start:stop, start:stop] * units * units[:, None]
        found.append(PoseCovariance(part, of_poses, of_own, of_cameras))
    return found


def measure_camera_deviations(
    sparse: SparseMap, cameras: NDArray[np.intp], free: Sequence[str], noise: tuple[float, float]
) -> Array:
    """Return the standard deviations (C, PARAMETERS) of the parameters of cameras if poses are right up to their noise.

    sparse: a map whose `free` parameters were adjusted.
    cameras: (F,) the camera of each image, from 0.
    free: parameters of the cameras, keys of FREE; the deviations of others are infinite.
    noise: standard deviations of each coordinate of a rotation, radians, and of a position, in the unit of the map.
    """
    count, lens = len(sparse.frames), np.array(sorted(number for name in free for number in FREE[name]), np.intp)
    S, scores = _eliminate_points(sparse, cameras, lens, SHARED_PX)
    is_seen = np.diag(S)[6 * count :] > 0
    of_poses = np.maximum(np.repeat((noise[0], noise[1] / _find_unit(sparse)), 3), 1e-9) ** -2
    prior = np.diag(np.concatenate((np.tile(of_poses, count), np.where(is_seen, 0.0, 1.0))))
    C = np.linalg.inv(S + prior)
    C = C @ ((scores.T @ scores).toarray() + prior) @ C
    found = np.full((int(cameras.max()) + 1, PARAMETERS), np.inf)
    found[:, lens] = np.where(is_seen, np.sqrt(np.diag(C)[6 * count :]), np.inf).reshape(len(found), -1)
    return found


def _find_gauge(sparse: SparseMap, unit: float) -> Array:
    """Return the changes (6 F, 7) of all poses by a translation, a rotation and a scale of the world."""
    R, centers = sparse.T_camera_world[:, :3, :3], find_centers(sparse.T_camera_world)
    centers = (centers - centers.mean(0)) / unit
    G = np.zeros((len(R), 2, 3, FREEDOMS))
    G[:, 1, :, :3] = np.eye(3)
    G[:, 0, :, 3:6] = -R
    G[:, 1, :, 3:6] = -hat(centers)
    G[:, 1, :, 6] = centers
    return G.reshape(-1, FREEDOMS)


def _linearize(sparse: SparseMap, cameras: NDArray[np.intp], lens: NDArray[np.intp]) -> tuple[Any, Any, Array, Array]:
    """Return how poses and cameras change the residuals (2 M, ...), how points do (2 M, 3 P; orthonormal columns), the
    residuals (2 M,) that points leave, and the weights (M,) of the observations, over the noise of a pixel.

    Columns are 3 rotations (about the axes of the camera) and 3 positions, in units of `_find_unit`, of each image, and
    then of each camera the parameters whose numbers in FREE are `lens`.
    """
    count, points = len(sparse.frames), len(sparse.points)
    frame, point = sparse.observed.T
    R, inside = sparse.T_camera_world[frame, :3, :3], sparse.in_camera()
    x, y, z = (inside / _find_unit(sparse)).T
    zero = np.zeros(len(z))
    project = np.stack([np.stack([1 / z, zero, -x / z**2], -1), np.stack([zero, 1 / z, -y / z**2], -1)], 1)
    cross = np.stack([np.stack([zero, z, -y], -1), np.stack([-z, zero, x], -1), np.stack([y, -x, zero], -1)], 1)
    noise = max(measure_noise_px(sparse), MIN_NOISE_PX)
    residuals = sparse.residuals_px() / noise
    misses = np.linalg.norm(residuals, axis=1)
    weight = 1 / np.sqrt(1 + (misses / CAUCHY) ** 2)
    strength = (weight * sparse.camera.focal_px / noise)[:, None, None]
    along = strength * project
    J_point = along @ R
    rotations, positions = along @ cross, -J_point
    columns = [6 * frame[:, None] + np.arange(6)]
    J = [rotations, positions]
    width = 6 * count + len(lens) * (int(cameras.max()) + 1)
    if len(lens):
        u, v = x / z, y / z
        squared = u**2 + v**2
        one = np.ones(len(z))
        by_lens = np.stack([(u, v), (one, zero), (zero, one), (-u / 2, v / 2), (squared * u, squared * v)])
        J.append(strength * by_lens[lens].transpose(2, 1, 0))
        columns.append(6 * count + len(lens) * cameras[frame][:, None] + np.arange(len(lens)))
    by_camera = _stack_blocks(np.concatenate(J, 2), np.concatenate(columns, 1), width)
    H_point = np.zeros((points, 3, 3))
    np.add.at(H_point, point, np.einsum("mki,mkj->mij", J_point, J_point))
    H_point += 1e-9 * np.trace(H_point, axis1=1, axis2=2)[:, None, None] * np.eye(3)
    whitened = J_point @ np.linalg.cholesky(np.linalg.inv(H_point))[point]
    by_point = _stack_blocks(whitened, 3 * point[:, None] + np.arange(3), 3 * points)
    left = (weight[:, None] * residuals).ravel()
    return by_camera, by_point, left - by_point @ (by_point.T @ left), weight / noise


def _eliminate_points(
    sparse: SparseMap, cameras: NDArray[np.intp], lens: NDArray[np.intp], shared_px: float
) -> tuple[Array, Any]:
    """Return the information matrix of poses and cameras without points (the Schur complement), and the score of each
    point and of each draw of shared errors (a sparse matrix with one row each), in the order of `_linearize`.
    """
    by_camera, by_point, left, weight = _linearize(sparse, cameras, lens)
    mixed = by_camera.T @ by_point
    of_points = _sum_rows(by_camera.multiply(left[:, None]), np.repeat(sparse.observed[:, 1], 2), len(sparse.points))
    shared = draw_shared_errors(sparse, shared_px) * weight[:, None, None]
    flat = shared.reshape(len(left), -1) / np.sqrt(SHARED_DRAWS)
    scores = vstack((of_points, csr_matrix((by_camera.T @ flat - mixed @ (by_point.T @ flat)).T)))
    return np.asarray((by_camera.T @ by_camera - mixed @ mixed.T).toarray()), scores


def _find_unit(sparse: SparseMap) -> float:
    """Return the unit of positions in which rotations and positions count alike: the median depth of the points."""
    return max(float(np.median(np.abs(sparse.in_camera()[:, 2]))), 1e-12)


def _sum_rows(rows: Any, numbers: NDArray[np.intp], count: int) -> Any:
    """Return the sums (count, ...) of the rows of a sparse matrix that have the same number."""
    of_number = (np.ones(len(numbers)), (numbers, np.arange(len(numbers))))
    return coo_matrix(of_number, (count, len(numbers))).tocsr() @ rows


def draw_shared_errors(sparse: SparseMap, shared_px: float = SHARED_PX) -> Array:
    """Draw errors of observations that neighboring features of an image share, and that grow with the change of view.

    sparse: a map.
    shared_px: root mean square of these errors at SHARED_DEG from the middle of all views, pixels of 640.

    Returns errors (M, 2, SHARED_DRAWS), pixels.
    """
    frame, point = sparse.observed.T
    rays = find_centers(sparse.T_camera_world)[frame] - sparse.points[point]
    rays /= np.maximum(np.linalg.norm(rays, axis=1), 1e-300)[:, None]
    middle = np.zeros((len(sparse.points), 3))
    np.add.at(middle, point, rays)
    middle /= np.maximum(np.linalg.norm(middle, axis=1), 1e-300)[:, None]
    angles = np.rad2deg(np.arccos(np.clip((rays * middle[point]).sum(1), -1.0, 1.0)))
    px = max(sparse.camera.center_px) / 320  # of a pixel of 640
    random = np.random.default_rng(0)
    directions = random.standard_normal((WAVES, 2)) / (SHARED_LENGTH_PX * px)
    waves = np.sqrt(2 / WAVES) * np.cos(sparse.xy @ directions.T + random.uniform(0, 2 * np.pi, WAVES))
    waves *= (shared_px * px * angles / SHARED_DEG)[:, None]
    drawn = np.empty((len(frame), 2 * SHARED_DRAWS))
    for row in np.unique(frame):
        seen = frame == row
        drawn[seen] = waves[seen] @ random.standard_normal((WAVES, 2 * SHARED_DRAWS))
    return drawn.reshape(-1, 2, SHARED_DRAWS)


def _stack_blocks(blocks: Array, columns: NDArray[np.intp], width: int) -> Any:
    """Return a sparse matrix with the rows of the blocks (M, 2, K), at the given columns (M, K)."""
    rows = np.broadcast_to(np.arange(2 * len(blocks)).reshape(-1, 2, 1), blocks.shape)
    at = rows.ravel(), np.broadcast_to(columns[:, None], blocks.shape).ravel()
    return coo_matrix((blocks.ravel(), at), (2 * len(blocks), width)).tocsr()
