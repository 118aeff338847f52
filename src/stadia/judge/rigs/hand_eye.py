"""Calibrate hand and eye: the pose of a camera on the hand of a robot, or next to it, with its deviation.

A camera on the hand sees a fixed world: T_base_hand T_hand_camera = T_base_world T_world_camera for each image. With
X = T_hand_camera and Z = T_base_world this is A X = Z B. A camera next to the robot sees a world on the hand, such as a
target: then A is T_hand_base, X is T_base_camera and Z is T_hand_world, and the equation is the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stadia.geometry.poses import from_rotation_translation, hat, invert_pose, se3_exp, so3_log

Array = NDArray[np.float64]

MIN_POSES = 8
"""Fewest poses whose residuals show an accuracy: with fewer, right poses are taken for wrong ones."""

MIN_HAND_TURN_DEG = 1.5
"""Least rotation about a second axis, root mean square over pairs of poses: chosen, five times what a target shows."""

MIN_HAND_TURN_SIGMA = 8.0
"""The same in deviations of a rotation, so that noise is no second axis."""

WRONG_SIGMA = 6.0
"""Residual of a wrong pair of poses, in deviations of the others."""

MEDIAN_OF_CHI3 = 1.538
"""Median length of a vector of three normal numbers with deviation 1."""

MAX_ROUNDS = 30


@dataclass(frozen=True, slots=True, eq=False)
class HandEyeFit:
    """A calibration of hand and eye.

    T_hand_camera: (4, 4) X, its translation in the unit of the camera poses.
    T_base_world: (4, 4) Z, in the same unit.
    factor: units of the camera poses in a unit of the log.
    covariance: (13, 13) of small motions (translation, rotation vector in radians) of X and of Z in their own axes, and
        of the factor.
    rotations: (N, 3) residuals of (A X)^-1 Z B as rotation vectors, radians.
    positions: (N, 3) its translations in the unit of the camera poses.
    rotation_sigma, position_sigma: deviation of one coordinate of both.
    is_used: (N,) pairs of poses that are not wrong.
    """

    T_hand_camera: Array
    T_base_world: Array
    factor: float
    covariance: Array
    rotations: Array
    positions: Array
    rotation_sigma: float
    position_sigma: float
    is_used: NDArray[np.bool_]

    @property
    def deviation_deg(self) -> float:
        """Return the deviation of the rotation of X, as an angle in degrees."""
        return float(np.degrees(np.sqrt(np.trace(self.covariance[3:6, 3:6]))))

    @property
    def deviation(self) -> float:
        """Return the deviation of the translation of X, as a length in the unit of the camera poses."""
        return float(np.sqrt(np.trace(self.covariance[:3, :3])))

    @property
    def factor_deviation(self) -> float:
        """Return the deviation of the factor; 0 if it was given."""
        return float(np.sqrt(self.covariance[12, 12]))


def solve_rotations(A: Array, B: Array, weights: Array) -> tuple[Array, Array]:
    """Return the rotations X and Z (..., 3, 3) that fit A X = Z B best, in closed form.

    A, B: (..., N, 3, 3) rotations.
    weights: (..., N) weight of each pair.

    Source: Shah, Solving the robot-world/hand-eye calibration problem using the Kronecker product, 2013.
    """
    summed = np.einsum("...n,...nij,...nkl->...ikjl", weights, A, B)
    K = summed.reshape(*summed.shape[:-4], 9, 9)
    U, _, Vt = np.linalg.svd(K)
    Z, X = (flat.reshape(*flat.shape[:-1], 3, 3) for flat in (U[..., 0], Vt[..., 0, :]))
    sign = np.sign(np.linalg.det(X))[..., None, None]
    return _find_rotation(X * sign), _find_rotation(Z * sign)


def _find_rotation(M: Array) -> Array:
    U, _, Vt = np.linalg.svd(M)
    U[..., :, 2] *= np.linalg.det(U @ Vt)[..., None]
    return U @ Vt


def solve_translations(
    A: Array, B: Array, Z: Array, weights: Array, *, factor: float | None
) -> tuple[Array, Array, float]:
    """Return the translations of X and Z (3,), and the factor of the log's unit, by linear least squares.

    A, B: (N, 4, 4) poses.
    Z: (3, 3) rotation.
    weights: (N,).
    factor: units of B in a unit of A; None solves for it.
    """
    count, root = len(A), np.sqrt(weights)
    right = B[:, :3, 3] @ Z.T
    rows = np.zeros((count, 3, 7))
    rows[:, :, :3] = A[:, :3, :3]
    rows[:, :, 3:6] = -np.eye(3)
    rows[:, :, 6] = A[:, :3, 3]
    if factor is not None:
        right = right - factor * A[:, :3, 3]
        rows = rows[:, :, :6]
    rows, right = rows * root[:, None, None], right * root[:, None]
    found = np.asarray(np.linalg.lstsq(rows.reshape(3 * count, -1), right.ravel())[0], np.float64)
    return found[:3], found[3:6], float(found[6]) if factor is None else factor


def scale_positions(A: Array, factor: float) -> Array:
    """Return poses (..., 4, 4) with positions times a factor."""
    return from_rotation_translation(A[..., :3, :3], factor * A[..., :3, 3])


def find_residuals(A: Array, B: Array, X: Array, Z: Array, factor: float) -> tuple[Array, Array]:
    """Return rotation vectors (N, 3) in radians and translations (N, 3) of (A X)^-1 Z B."""
    E = invert_pose(scale_positions(A, factor) @ X) @ Z @ B
    return so3_log(E[:, :3, :3]), E[:, :3, 3]


def solve_hand_eye(A: Array, B: Array, *, factor: float | None = 1.0) -> HandEyeFit:
    """Solve A X = Z B for X and Z by robust non-linear least squares, from a closed form.

    Pairs of poses that miss by more than WRONG_SIGMA deviations take no part.

    A: (N, 4, 4) poses of the robot, at least 3.
    B: (N, 4, 4) T_world_camera.
    factor: units of B in a unit of A; None solves for it.

    Examples:
        >>> A = se3_exp(np.random.default_rng(0).normal(size=(9, 6)))
        >>> X, Z = se3_exp(np.array([0.1, 0, 0, 0, 0, 1.0])), se3_exp(np.array([0, 2.0, 0, 0.5, 0, 0]))
        >>> fit = solve_hand_eye(A, invert_pose(Z) @ A @ X)
        >>> np.allclose(fit.T_hand_camera, X)
        True
    """
    weights = np.ones(len(A))
    X, Z, scale, rotations, positions = _solve_closed(A, B, weights, factor)
    for _ in range(10):
        rotation_sigma, position_sigma = _find_sigmas(rotations, positions)
        weights = _find_weights(rotations, positions, rotation_sigma, position_sigma)
        X, Z, scale, rotations, positions = _solve_closed(A, B, weights, factor)
    parameters = 12 if factor is not None else 13
    is_used = _find_used(rotations, positions)
    covariance, before = np.zeros((13, 13)), np.inf
    rotation_sigma = position_sigma = 1.0
    for _ in range(MAX_ROUNDS):
        J = find_jacobian(A, B, X, positions)[:, :, :parameters]
        rotation_sigma = _measure_sigma(rotations[is_used], 6)
        position_sigma = _measure_sigma(positions[is_used], parameters - 6)
        W = 1 / np.repeat([rotation_sigma, position_sigma], 3) ** 2
        J = J[is_used]
        residuals = np.hstack([rotations, positions])[is_used]
        H = np.einsum("nip,i,niq->pq", J, W, J)
        unit = 1 / np.sqrt(np.maximum(np.diag(H), 1e-300))
        inverse = np.linalg.pinv(H * np.outer(unit, unit), rcond=1e-13) * np.outer(unit, unit)
        step = -inverse @ np.einsum("nip,i,ni->p", J, W, residuals)
        X, Z = X @ se3_exp(step[:6]), Z @ se3_exp(step[6:12])
        scale += step[12] if parameters == 13 else 0.0
        rotations, positions = find_residuals(A, B, X, Z, scale)
        covariance[:parameters, :parameters] = inverse
        size = float(np.sqrt(step @ H @ step))
        if size < 1e-6 or size >= before:
            used = _find_used(rotations, positions)
            if (used == is_used).all():
                break
            is_used = used
            size = np.inf
        before = size
    return HandEyeFit(X, Z, scale, covariance, rotations, positions, rotation_sigma, position_sigma, is_used)


def _solve_closed(A: Array, B: Array, weights: Array, factor: float | None) -> tuple[Array, Array, float, Array, Array]:
    R_X, R_Z = solve_rotations(A[:, :3, :3], B[:, :3, :3], weights)
    t_X, t_Z, scale = solve_translations(A, B, R_Z, weights, factor=factor)
    X, Z = from_rotation_translation(R_X, t_X), from_rotation_translation(R_Z, t_Z)
    rotations, positions = find_residuals(A, B, X, Z, scale)
    return X, Z, scale, rotations, positions


TINY_SIGMA = 1e-9
"""Least deviation of a residual, so that exact data can be divided by it."""


def _find_sigmas(rotations: Array, positions: Array) -> tuple[float, float]:
    """Return robust deviations of coordinates; of six parameters fit, residuals are smaller than the noise."""
    smaller = np.sqrt(max(1 - 6 / rotations.size, 0.1))
    rotation, position = (
        max(float(np.median(np.linalg.norm(one, axis=1))) / MEDIAN_OF_CHI3 / smaller, TINY_SIGMA)
        for one in (rotations, positions)
    )
    return rotation, position


def _find_weights(rotations: Array, positions: Array, rotation_sigma: float, position_sigma: float) -> Array:
    squared = (rotations**2).sum(1) / rotation_sigma**2 + (positions**2).sum(1) / position_sigma**2
    return np.asarray(1 / (1 + squared / 20) ** 2)  # Geman and McClure; 20 is far in a chi square of 6


def _find_used(rotations: Array, positions: Array) -> NDArray[np.bool_]:
    """Return the pairs of poses (N,) that are not wrong."""
    sigmas = _find_sigmas(rotations, positions)
    lengths = np.stack([np.linalg.norm(one, axis=1) for one in (rotations, positions)])
    return np.asarray((lengths <= WRONG_SIGMA * np.array(sigmas)[:, None] + 10 * TINY_SIGMA).all(axis=0))


def _measure_sigma(residuals: Array, parameters: float) -> float:
    free = max(residuals.size - parameters, 1)
    return max(float(np.sqrt((residuals**2).sum() / free)), TINY_SIGMA)


def find_jacobian(A: Array, B: Array, X: Array, positions: Array) -> Array:
    """Return the derivative (N, 6, 13) of rotation and position residuals by small motions of X, Z, and the factor."""
    count = len(A)
    J = np.zeros((count, 6, 13))
    J[:, :3, 3:6] = -np.eye(3)
    J[:, 3:, :3] = -np.eye(3)
    J[:, 3:, 3:6] = hat(positions)
    back = B[:, :3, :3].mT
    J[:, :3, 9:12] = back
    J[:, 3:, 6:9] = back
    J[:, 3:, 9:12] = -back @ hat(B[:, :3, 3])
    J[:, 3:, 12] = -np.einsum("ji,njk,nk->ni", X[:3, :3], A[:, :3, :3].mT, A[:, :3, 3])
    return J


def find_correlation(residuals: Array) -> float:
    """Return how many neighbors share their error: 1 for independent ones, more for a video.

    residuals: (N, C) in the order of time.

    Examples:
        >>> find_correlation(np.random.default_rng(0).normal(size=(500, 6))) < 1.5
        True
    """
    centered = residuals - residuals.mean(0)
    power = (centered**2).sum(0)
    total = 1.0
    for lag in range(1, len(residuals) // 4):
        shared = float(((centered[lag:] * centered[:-lag]).sum(0) / np.maximum(power, 1e-300)).mean())
        if shared < MIN_SHARED:
            break
        total += 2 * shared
    return total


MIN_SHARED = 0.1
"""Least correlation of two errors that counts."""


def explain_motion(B: Array, rotation_sigma: float) -> str:
    """Return why the motion of a camera does not determine a calibration; "" if it does.

    B: (N, 4, 4) T_world_camera.
    rotation_sigma: deviation of a coordinate of a rotation, radians.
    """
    if len(B) < MIN_POSES:
        return f"{len(B)} poses are too few; take at least {MIN_POSES}, better 15"
    turns_deg = measure_turns_deg(B)
    least_deg = max(MIN_HAND_TURN_DEG, float(np.degrees(MIN_HAND_TURN_SIGMA * rotation_sigma)))
    if turns_deg[0] < least_deg:
        return f"the hand turns by {turns_deg[0]:.1f} degrees only; turn it by 30 degrees about two axes"
    if turns_deg[1] < least_deg:
        return (
            f"the hand turns about one axis only ({turns_deg[1]:.1f} degrees about a second one); "
            "turn it by 30 degrees about two axes"
        )
    return ""


def measure_turns_deg(B: Array) -> Array:
    """Return (3,) the rotations between poses about their three main axes, root mean squares in degrees, largest first.

    B: (N, 4, 4) poses.

    Examples:
        >>> twists = np.zeros((2, 6))
        >>> twists[1, 5] = 0.1
        >>> measure_turns_deg(se3_exp(twists)).round(2).tolist()
        [5.73, 0.0, 0.0]
    """
    rows = np.unique(np.linspace(0, len(B) - 1, 80).astype(int))
    first, second = np.triu_indices(len(rows), 1)
    turns = so3_log(B[rows[first], :3, :3].mT @ B[rows[second], :3, :3])
    scatter = turns.T @ turns / max(len(turns), 1)
    return np.degrees(np.sqrt(np.linalg.eigvalsh(scatter).clip(0)))[::-1]
