"""Measure how well the matches of images determine the poses of a map."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, block_diag, cholesky, solve_triangular
from scipy.sparse import bsr_matrix, coo_matrix, csr_matrix, diags, eye, triu, vstack
from scipy.sparse.csgraph import reverse_cuthill_mckee

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
    """The covariance of the poses of a part of a map.

    The world is free: the covariance is the one after the best similarity alignment (the inner constraints of a free
    network adjustment), so that no image is taken as exact.

    rows: (N,) rows of the images in the map.
    root: (N, 6, K) root of the covariance of 3 rotations about the axes of the camera (radians) and 3 coordinates of
        the position (unit of the map) of each image: the covariance of two numbers is the product of their K entries.
    """

    rows: NDArray[np.intp]
    root: Array

    @property
    def of_rotations(self) -> Array:
        """The root (N, 3, K) of the covariance of the rotations, radians."""
        return self.root[:, :3]

    @property
    def of_positions(self) -> Array:
        """The root (N, 3, K) of the covariance of the positions, in the unit of the map."""
        return self.root[:, 3:]

    @property
    def deviations_deg(self) -> Array:
        """The standard deviation (N,) of the angle of each rotation, degrees."""
        return np.rad2deg(np.linalg.norm(self.of_rotations, axis=(1, 2)))

    @property
    def deviations(self) -> Array:
        """The standard deviation (N,) of the distance of each position, in the unit of the map."""
        return np.linalg.norm(self.of_positions, axis=(1, 2))


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


MAX_COLUMNS = 1500
"""Most columns of the root of a covariance. Of more unknown numbers, the errors of points are added up with random
signs, which changes deviations by about 2 %.
"""

NEAREST = 0.01
"""Least distance of a point in front of a camera, as a share of the median distance. One at the camera itself moves by
any number of pixels, and rounding would decide what it determines.
"""

BATCH = 16384
"""Number of observations that are differentiated at one time."""


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
    shared_px: errors that neighboring features share, as `SharedErrors` takes them.

    Returns the covariance of each part of the map.
    """
    cameras = np.zeros(len(sparse.frames), np.intp) if cameras is None else cameras
    parts = find_parts(sparse)
    if not parts:
        return []
    own = _join_parts(sparse, parts, cameras, _Parameters(free, known), shared_px)
    count = len(own.mixed)
    gradients = np.column_stack((_add_up_scores(own.scores), own.shared, own.prior))
    solved = own.solve(np.column_stack((gradients[:count], own.mixed)))
    root, by_camera = np.split(solved, [gradients.shape[1]], 1)
    of_cameras = np.linalg.solve(own.cameras - own.mixed.T @ by_camera, gradients[count:] - own.mixed.T @ root)
    root -= by_camera @ of_cameras + own.gauge @ (own.gauge.T @ gradients[:count]) / own.strength
    root = root.reshape(-1, 6, root.shape[1])
    root[:, 3:] *= own.unit
    stops = np.cumsum([len(part) for part in parts])[:-1]
    return [PoseCovariance(part, of_part) for part, of_part in zip(parts, np.split(root, stops), strict=True)]


def measure_free_cameras(
    sparse: SparseMap, cameras: NDArray[np.intp], free: Sequence[str], known: Sequence[str] = ()
) -> Array:
    """Return the standard deviations (C, PARAMETERS) of the parameters of cameras if poses are unknown too.

    sparse, cameras, free, known: as for `measure_covariances`. The deviations of cameras of no part, and of parameters
        that are not free, are infinite.
    """
    parameters, found = _Parameters(free, known), np.full((int(cameras.max()) + 1, PARAMETERS), np.inf)
    parts = find_parts(sparse)
    if parts:
        own = _join_parts(sparse, parts, cameras, parameters, SHARED_PX)
        by_camera = own.solve(own.mixed)
        inverse = np.linalg.inv(own.cameras - own.mixed.T @ by_camera)
        moved = np.concatenate((-by_camera @ inverse, inverse))  # by one unit of each gradient
        variances = sum(
            np.square(effect).sum(0) for effect in (own.scores @ moved, own.shared.T @ moved, own.prior.T @ moved)
        )
        deviations = np.sqrt(variances).reshape(-1, len(parameters.numbers))
        at = np.unique(cameras[np.concatenate(parts)])
        found[np.ix_(at, parameters.numbers[parameters.is_free])] = deviations[:, parameters.is_free]
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
    lens = _Parameters(free, ()).numbers
    own = _eliminate_points(sparse, cameras, lens, SHARED_PX)
    is_seen = np.diag(own.cameras) > 0
    of_poses = np.maximum(np.repeat((noise[0], noise[1] / own.unit), 3), 1e-9) ** -2
    prior = np.concatenate((np.tile(of_poses, len(sparse.frames)), np.where(is_seen, 0.0, 1.0)))
    count = len(own.mixed)
    least = 1e-12 * own.poses.diagonal().mean()
    by_camera = _solve(own.poses + diags(prior[:count] + least), own.mixed)
    inverse = np.linalg.inv(own.cameras + np.diag(prior[count:]) - own.mixed.T @ by_camera)
    moved = np.concatenate((-by_camera @ inverse, inverse))
    variances = np.square(own.scores @ moved).sum(0) + np.square(own.shared.T @ moved).sum(0) + prior @ moved**2
    found = np.full((int(cameras.max()) + 1, PARAMETERS), np.inf)
    found[:, lens] = np.where(is_seen, np.sqrt(variances), np.inf).reshape(len(found), -1)
    return found


class _Parameters:
    """The parameters of cameras that count.

    numbers: (L,) their numbers in FREE.
    is_free: (L,) whether each is free.
    weight: (L,) over their deviations; 0 if they are free.
    """

    def __init__(self, free: Sequence[str], known: Sequence[str]) -> None:
        """Take names, keys of FREE, of free parameters and of those that are known up to KNOWN."""
        self.numbers = np.array(sorted(number for name in {*free, *known} for number in FREE[name]), np.intp)
        self.is_free = np.isin(self.numbers, [number for name in free for number in FREE[name]])
        self.weight = np.where(self.is_free, 0.0, 1 / np.array(KNOWN)[self.numbers])


@dataclass(frozen=True, slots=True, eq=False)
class _Information:
    """What observations determine of F images and N parameters of cameras, without points (the Schur complement).

    The numbers of each image are 3 rotations (about the axes of the camera) and 3 positions (in `unit`).

    poses: sparse (6 F, 6 F) information of the images.
    mixed: (6 F, N) information of images and cameras.
    cameras: (N, N) information of the cameras.
    scores: sparse (P, 6 F + N) gradient of each point.
    shared: (6 F + N, SHARED_DRAWS) gradient of each draw of shared errors.
    unit: the unit of positions: rotations and positions count alike in the median depth of the points.
    """

    poses: Any
    mixed: Array
    cameras: Array
    scores: Any
    shared: Array
    unit: float


@dataclass(frozen=True, slots=True, eq=False)
class _JointInformation(_Information):
    """The information of all parts, whose images follow each other.

    prior: (6 F + N, N) gradient of a deviation of each known parameter.
    gauge: (6 F, G) orthonormal changes of the world of each part.
    fixed: (G,) numbers of images that fix these worlds.
    strength: information that is added to the changes of the worlds.
    """

    prior: Array
    gauge: Array
    fixed: NDArray[np.intp]
    strength: float

    def solve(self, right: Array) -> Array:
        """Solve A x = right (6 F, K) for the information A of the images and of their worlds.

        A matrix in which a few numbers fix the worlds is sparse; its solution is turned into that of A (Woodbury).
        """
        count = self.gauge.shape[1]
        changes = np.zeros((len(right), 2 * count))
        changes[:, :count] = self.gauge
        changes[self.fixed, count + np.arange(count)] = 1
        added = np.full(len(right), 1e-12 * self.strength)
        added[self.fixed] += self.strength
        solved = _solve(self.poses + diags(added), np.column_stack((right, changes)))
        found, of_changes = np.split(solved, [right.shape[1]], 1)
        inner = np.diag(np.repeat((1, -1), count) / self.strength) + changes.T @ of_changes
        return np.asarray(found - of_changes @ np.linalg.solve(inner, changes.T @ found))


def _join_parts(
    sparse: SparseMap,
    parts: Sequence[NDArray[np.intp]],
    cameras: NDArray[np.intp],
    parameters: _Parameters,
    shared_px: float,
) -> _JointInformation:
    """Return the information of the images of all parts and of their cameras."""
    rows, numbers = np.concatenate(parts), np.arange(len(parameters.numbers))
    sparse = select_observations(sparse, np.isin(sparse.observed[:, 0], rows))
    whole = _eliminate_points(sparse, cameras, parameters.numbers, shared_px)
    own = np.unique(cameras[rows])
    poses = (6 * rows[:, None] + np.arange(6)).ravel()
    of_cameras = (len(numbers) * own[:, None] + numbers).ravel()
    every = np.concatenate((poses, whole.poses.shape[0] + of_cameras))
    weight = np.tile(parameters.weight, len(own))
    information = whole.cameras[np.ix_(of_cameras, of_cameras)] + np.diag(weight**2)
    of_poses = whole.poses[poses][:, poses]
    strength = float((of_poses.diagonal().sum() + np.trace(information)) / len(every))
    G = _find_gauge(sparse, whole.unit).reshape(len(sparse.frames), 6, -1)
    changes = [G[part].reshape(6 * len(part), -1) for part in parts]
    starts = 6 * np.cumsum([0, *(len(part) for part in parts[:-1])])
    return _JointInformation(
        of_poses,
        whole.mixed[np.ix_(poses, of_cameras)],
        information + 1e-12 * strength * np.eye(len(weight)),
        whole.scores[:, every],
        whole.shared[every],
        whole.unit,
        prior=np.concatenate((np.zeros((len(poses), len(weight))), np.diag(weight))),
        gauge=block_diag(*(np.linalg.qr(change)[0] for change in changes)),
        fixed=np.concatenate([start + _choose_fixed(change) for start, change in zip(starts, changes, strict=True)]),
        strength=strength,
    )


def _choose_fixed(gauge: Array) -> NDArray[np.intp]:
    """Return FREEDOMS rows of changes (6 F, FREEDOMS) that fix the world: the image in the middle of the list, and a
    coordinate of the image that a scale moves the farthest from it.
    """
    first = 6 * (len(gauge) // 12)
    scale = gauge[:, -1].reshape(-1, 6)
    return np.append(first + np.arange(6), np.abs(scale - scale[first // 6]).argmax())


def _add_up_scores(scores: Any) -> Array:
    """Return a root (W, K) of the covariance of the gradient, from the gradients (P, W) of points."""
    points, count = scores.shape
    if count <= MAX_COLUMNS:
        squared = (scores.T @ scores).toarray()
        return cholesky(squared + 1e-12 * np.trace(squared) / count * np.eye(count), lower=True)
    random = np.random.default_rng(0)
    signs = random.choice((-1.0, 1.0), points), (random.integers(MAX_COLUMNS, size=points), np.arange(points))
    return (coo_matrix(signs, (MAX_COLUMNS, points)).tocsr() @ scores).toarray().T


RIDGES = (0.0, 1e-12, 1e-9, 1e-6, 1e-5, 1e-4, 1e-3)
"""Shares of its diagonal that are added to a matrix which rounding makes indefinite, one after the other."""


def _solve(A: Any, right: Array) -> Array:
    """Solve A x = right (N, K) for a sparse positive definite A, whose diagonal is first scaled to 1.

    Images that only turn leave some changes of poses nearly free, so rounding may make A indefinite.
    """
    diagonal = A.diagonal()
    scale = 1 / np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
    scaled, scaled_right = diags(scale) @ A @ diags(scale), scale[:, None] * right
    for ridge in RIDGES:
        with suppress(LinAlgError):
            return np.asarray(scale[:, None] * _solve_blocks(scaled + ridge * eye(len(scale)), scaled_right))
    raise LinAlgError("the matrix is not positive definite")


def _solve_blocks(A: Any, right: Array) -> Array:
    """Solve A x = right (N, K) for a sparse positive definite A, by the Cholesky factor of its blocks.

    In an order in which rows are near the rows that they share images with, only neighboring blocks have entries.
    """
    order = reverse_cuthill_mckee(A.tocsr(), symmetric_mode=True)
    A, solved = A.tocsr()[order][:, order], right[order]
    entries = A.tocoo()
    width = int(np.abs(entries.row - entries.col).max(initial=0)) + 1
    spans = [slice(start, start + width) for start in range(0, len(order), width)]
    roots, below = list[Array](), list[Array]()
    for number, span in enumerate(spans):
        block = A[span, span].toarray()
        if number:
            last = spans[number - 1]
            below.append(solve_triangular(roots[-1], A[last, span].toarray(), lower=True).T)
            block -= below[-1] @ below[-1].T
            solved[span] -= below[-1] @ solved[last]
        roots.append(cholesky(block, lower=True))
        solved[span] = solve_triangular(roots[-1], solved[span], lower=True)
    for number, span in reversed(list(enumerate(spans))):
        if number + 1 < len(spans):
            solved[span] -= below[number].T @ solved[spans[number + 1]]
        solved[span] = solve_triangular(roots[number], solved[span], lower=True, trans=1)
    found = np.empty_like(solved)
    found[order] = solved
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


def _eliminate_points(
    sparse: SparseMap, cameras: NDArray[np.intp], lens: NDArray[np.intp], shared_px: float
) -> _Information:
    """Return what observations determine of all images and of the parameters `lens` of each camera, numbers in FREE."""
    unit = max(float(np.median(np.abs(sparse.in_camera()[:, 2]))), 1e-12)
    sparse = select_observations(sparse, sparse.in_camera()[:, 2] > NEAREST * unit)
    order = np.argsort(sparse.observed[:, 1], kind="stable")
    sparse = replace(sparse, observed=sparse.observed[order], xy=sparse.xy[order])
    count, points, parameters = len(sparse.frames), len(sparse.points), len(lens) * (int(cameras.max()) + 1)
    poses, width = 6 * count, 6 * count + parameters
    inside = sparse.in_camera()
    noise = max(measure_noise_px(sparse), MIN_NOISE_PX)
    residuals = sparse.residuals_px() / noise
    robust = 1 / np.sqrt(1 + (np.linalg.norm(residuals, axis=1) / CAUCHY) ** 2)
    errors = SharedErrors(sparse, shared_px)
    of_poses, mixed, of_cameras = csr_matrix((poses, poses)), np.zeros((poses, parameters)), np.zeros((parameters,) * 2)
    shared, scores = np.zeros((width, SHARED_DRAWS)), list[Any]([csr_matrix((0, width))])
    starts = np.searchsorted(sparse.observed[:, 1], np.arange(points + 1))
    stops = np.unique(np.append(np.searchsorted(starts, np.arange(0, len(order), BATCH)), points))
    for first, last in pairwise(stops.tolist()):
        at, bounds = np.arange(starts[first], starts[last]), starts[first : last + 1] - starts[first]
        frame, point = sparse.observed[at, 0], sparse.observed[at, 1] - first
        weight = sparse.camera.focal_px / noise * robust[at]
        J_camera, J_point = _differentiate(inside[at] / unit, sparse.T_camera_world[frame, :3, :3], weight, lens)
        H_point = np.add.reduceat(J_point.swapaxes(1, 2) @ J_point, bounds[:-1])
        H_point += 1e-9 * np.trace(H_point, axis1=1, axis2=2)[:, None, None] * np.eye(3)
        whitened = (J_point @ np.linalg.cholesky(np.linalg.inv(H_point))[point]).swapaxes(1, 2)
        J_pose, J_lens = J_camera[:, :, :6], J_camera[:, :, 6:]
        by_point = whitened @ J_camera
        numbers = poses + len(lens) * cameras[frame][:, None] + np.arange(len(lens))
        columns = np.column_stack((6 * frame[:, None] + np.arange(6), numbers))
        own = bsr_matrix((J_pose, frame, np.arange(len(at) + 1)), (2 * len(at), poses))
        Y = bsr_matrix((by_point[:, :, :6], frame, bounds), (3 * (last - first), poses))
        of_poses = of_poses + (own.T @ own - Y.T @ Y).tocsr()
        if parameters:
            own_lens = _stack_blocks(J_lens, np.arange(len(at)), numbers - poses, (2 * len(at), parameters))
            Y_lens = _stack_blocks(by_point[:, :, 6:], point, numbers - poses, (3 * (last - first), parameters))
            mixed += (own.T @ own_lens - Y.T @ Y_lens).toarray()
            of_cameras += (own_lens.T @ own_lens - Y_lens.T @ Y_lens).toarray()
        drawn = np.concatenate((residuals[at, :, None], errors.draw(at) / noise), 2) * robust[at, None, None]
        of_point = np.add.reduceat(whitened @ drawn, bounds[:-1])
        gradients = J_camera.swapaxes(1, 2) @ drawn - by_point.swapaxes(1, 2) @ of_point[point]
        size = columns.shape[1]
        scores.append(csr_matrix((gradients[:, :, 0].ravel(), columns.ravel(), size * bounds), (last - first, width)))
        to_columns = csr_matrix(
            (np.ones(columns.size), columns.ravel(), np.arange(columns.size + 1)), (columns.size, width)
        )
        shared += to_columns.T @ gradients[:, :, 1:].reshape(columns.size, SHARED_DRAWS)
    shared /= np.sqrt(SHARED_DRAWS)
    return _Information(of_poses, mixed, of_cameras, vstack(scores).tocsr(), shared, unit)


def _differentiate(inside: Array, R: Array, weight: Array, lens: NDArray[np.intp]) -> tuple[Array, Array]:
    """Return the derivatives of pixels by the numbers of their image and camera (M, 2, 6 + L), and by points (M, 2, 3).

    inside: (M, 3) points in the axes of their cameras.
    R: (M, 3, 3) rotations from the world to the cameras.
    weight: (M,) factors.
    lens: (L,) numbers of parameters of cameras in FREE.
    """
    x, y, z = inside.T
    zero, one = np.zeros(len(z)), np.ones(len(z))
    project = np.stack([np.stack([1 / z, zero, -x / z**2], -1), np.stack([zero, 1 / z, -y / z**2], -1)], 1)
    cross = np.stack([np.stack([zero, z, -y], -1), np.stack([-z, zero, x], -1), np.stack([y, -x, zero], -1)], 1)
    along = weight[:, None, None] * project
    J_point = along @ R
    u, v = x / z, y / z
    squared = u**2 + v**2
    by_lens = np.stack([(u, v), (one, zero), (zero, one), (-u / 2, v / 2), (squared * u, squared * v)])
    return np.concatenate((along @ cross, -J_point, (weight * by_lens[lens]).transpose(2, 1, 0)), 2), J_point


class SharedErrors:
    """Errors of observations that neighboring features of an image share, and that grow with the change of view."""

    def __init__(self, sparse: SparseMap, shared_px: float = SHARED_PX) -> None:
        """Draw the waves that they consist of.

        sparse: a map.
        shared_px: root mean square of these errors at SHARED_DEG from the middle of all views, pixels of 640.
        """
        self.sparse = sparse
        frame, point = sparse.observed.T
        rays = find_centers(sparse.T_camera_world)[frame] - sparse.points[point]
        rays /= np.maximum(np.linalg.norm(rays, axis=1), 1e-300)[:, None]
        middle = np.zeros((len(sparse.points), 3))
        np.add.at(middle, point, rays)
        middle /= np.maximum(np.linalg.norm(middle, axis=1), 1e-300)[:, None]
        angles = np.rad2deg(np.arccos(np.clip((rays * middle[point]).sum(1), -1.0, 1.0)))
        px = max(sparse.camera.center_px) / 320  # of a pixel of 640
        random = np.random.default_rng(0)
        self.sizes = shared_px * px * angles / SHARED_DEG
        self.directions = random.standard_normal((WAVES, 2)) / (SHARED_LENGTH_PX * px)
        self.phases = random.uniform(0, 2 * np.pi, WAVES)
        self.amplitudes = np.zeros((len(sparse.frames), WAVES, 2 * SHARED_DRAWS))
        for row in np.unique(frame):
            self.amplitudes[row] = random.standard_normal((WAVES, 2 * SHARED_DRAWS))

    def draw(self, at: NDArray[np.intp]) -> Array:
        """Return errors (M, 2, SHARED_DRAWS) of some observations, pixels."""
        waves = np.sqrt(2 / WAVES) * np.cos(self.sparse.xy[at] @ self.directions.T + self.phases)
        waves *= self.sizes[at, None]
        frame, drawn = self.sparse.observed[at, 0], np.empty((len(at), 2 * SHARED_DRAWS))
        order = np.argsort(frame, kind="stable")
        for rows in np.split(order, np.flatnonzero(np.diff(frame[order])) + 1):
            drawn[rows] = waves[rows] @ self.amplitudes[frame[rows[0]]]
        return drawn.reshape(-1, 2, SHARED_DRAWS)


def _stack_blocks(blocks: Array, rows: NDArray[np.intp], columns: NDArray[np.intp], shape: tuple[int, int]) -> Any:
    """Return a sparse matrix that adds up blocks (M, H, W) at their rows of blocks (M,) and their columns (M, W)."""
    of_rows = blocks.shape[1] * rows[:, None, None] + np.arange(blocks.shape[1])[:, None]
    at = [np.broadcast_to(index, blocks.shape).ravel() for index in (of_rows, columns[:, None])]
    return coo_matrix((blocks.ravel(), at), shape).tocsr()
