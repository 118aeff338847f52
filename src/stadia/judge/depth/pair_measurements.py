"""Measure how well predicted depth explains the motion of matches between two video frames of one moving camera.

Two motions of the camera explain the same matches if depth is unknown, so each depth is given the motion that fits it
best. The distance of the matches from their projections remains. Constant depth, the depth of the rows alone, and the
mean map of all video frames are fitted in the same way.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.geometry.image_features import detect_features, match_features
from stadia.geometry.two_views import TwoViewMotion, epipolar_distance_px, estimate_motion, pixel_rays

Array = NDArray[np.float64]

MATCH_WIDTH = 640
"""Image width, pixels, that distances between matches refer to."""

MIN_MATCH_WIDTH = 128
"""Smallest width of matched images, pixels."""

MIN_STATIC_MATCHES = 30
"""Fewest matches of static points in a pair."""

MAX_FITTED_MATCHES = 400
"""Most matches of a pair in the fit of the motion; of more, every n-th counts."""

MIN_SIGNAL_PX = 0.4
"""Smallest distance, pixels, that a baseline such as constant depth leaves beyond the noise of the matches.

Below it the pair cannot distinguish depth from the baseline: matches are accurate to about .3 pixels.
"""

OF_SAMPSON_DISTANCE = 2.47
"""Median distance of matches from their true place over their median Sampson distance, for equal noise in both images.

The median length of a 2-D error is 1.75 times the median of its absolute component; the Sampson distance shares it
between two images, which divides it by the square root of 2.
"""

MIN_LEFT_PX = 0.05
"""Smallest distance, pixels, that depth is said to leave beyond the noise, so that ratios of errors exist."""

START_LENGTHS = (0.0, 0.03, 0.2)
"""Start lengths of the translation, in units of the median depth, for the refinement of the motion."""

MAX_BACKWARD_PX = 1.5
"""Farthest, pixels, that the match of a static point may move against the direction of its parallax.

A car that pulls away moves so, as if it were beyond infinity. Such cars condemned the depth that LiDAR measured (KITTI
raw).
"""

MIN_FORWARD = 0.8
"""Smallest share of the translation that is along the view, so that points which move against it are cars.

Across the view, a small error of the rotation moves far points backward.
"""

CONFIDENCE = 0.95
"""Chance that the true error of a comparison is above its lower bound, and below its upper bound."""

MAX_ITERATIONS = 20  # reweighted solutions of the motion that fits the matches
HUBER_PX = 1.0
"""Distance, pixels, beyond which a match pulls with constant force."""

MIN_INVERSE_DEPTH = 1e-3
"""Smallest inverse depth over its median."""


@dataclass(frozen=True, slots=True)
class MeasuredPair:
    """Hold what the matches of two video frames are off by, in pixels at MATCH_WIDTH; medians over matches.

    matches: number of matches that agree with one motion.
    noise_px: distance that remains with the best depth for each match.
    error_px: distance that remains with predicted depth.
    baselines_px: distance that remains with each baseline, by its name.
    """

    matches: int
    noise_px: float
    error_px: float
    baselines_px: Mapping[str, float] = field(default_factory=dict)

    def find_signal(self, baseline: str) -> float:
        """Return the distance, pixels, that a baseline leaves beyond the noise; 0 without this baseline."""
        return max(self.baselines_px.get(baseline, 0.0) - self.noise_px, 0.0)


@dataclass(frozen=True, slots=True)
class BaselineComparison:
    """Compare predicted depth with a baseline over the pairs that can distinguish them.

    error: distance that predicted depth leaves beyond the noise, divided by the distance that the baseline leaves,
        both summed over pairs; 0 if depth explains all motion, 1 if it is not better than the baseline.
    deviation: standard deviation of the error over pairs (jackknife); None for one pair.
    pairs: number of pairs.
    matches: number of matches of these pairs.
    signal_px: distance that the baseline leaves beyond the noise, median over pairs.
    """

    error: float
    deviation: float | None
    pairs: int
    matches: int
    signal_px: float


def compare_pairs(pairs: Iterable[MeasuredPair], baseline: str) -> BaselineComparison | None:
    """Compare predicted depth with a baseline; None if no pair can distinguish them.

    pairs: the measured pairs.
    baseline: name of the baseline.

    Example:
        >>> pair = MeasuredPair(90, noise_px=0.3, error_px=0.4, baselines_px={"constant": 1.3})
        >>> round(compare_pairs([pair] * 5, "constant").error, 3)
        0.1
    """
    told = [pair for pair in pairs if pair.find_signal(baseline) >= MIN_SIGNAL_PX]
    if not told:
        return None
    left = np.array([max(pair.error_px - pair.noise_px, MIN_LEFT_PX) for pair in told])
    signal = np.array([pair.find_signal(baseline) for pair in told])
    error = left.sum() / signal.sum()
    deviation = None
    if len(told) > 1:
        without = (left.sum() - left) / (signal.sum() - signal)
        deviation = float(np.sqrt((len(told) - 1) * np.mean((without - without.mean()) ** 2)))
    return BaselineComparison(
        error=float(error),
        deviation=deviation,
        pairs=len(told),
        matches=sum(pair.matches for pair in told),
        signal_px=float(np.median(signal)),
    )


def find_margin(deviation: float, pairs: int) -> float:
    """Return how far the error of a comparison may be below or above the true one, each with a chance of 5 %.

    Few pairs also measure their deviation badly, so the margin has Student's distribution.

    deviation: standard deviation of the error.
    pairs: number of pairs, at least 2.

    Example:
        >>> [round(find_margin(0.1, pairs), 2) for pairs in (4, 20)]
        [0.24, 0.17]
    """
    from scipy.special import stdtrit  # slow to import

    return float(deviation * stdtrit(pairs - 1, CONFIDENCE))


def match_images(
    first: NDArray[np.uint8], second: NDArray[np.uint8], K: Array
) -> tuple[Array, Array, TwoViewMotion] | None:
    """Return matches (N, 2) of static points, and the motion of the camera that they agree with; None if few agree.

    first, second: (H, W, 3) uint8 images.
    K: (3, 3) intrinsics of the first image in pixels.
    """
    if first.shape[1] < MIN_MATCH_WIDTH:
        return None
    matches = match_features(detect_features(first), detect_features(second))
    motion = estimate_motion(matches.first_px, matches.second_px, K)
    if motion is None:
        return None
    motion = select_static(motion, matches.first_px, matches.second_px, K, width=first.shape[1])
    chosen = np.flatnonzero(motion.inliers)
    if len(chosen) < MIN_STATIC_MATCHES:
        return None
    chosen = chosen[:: -(-len(chosen) // MAX_FITTED_MATCHES)]
    return matches.first_px[chosen], matches.second_px[chosen], motion


def select_static(motion: TwoViewMotion, first_px: Array, second_px: Array, K: Array, *, width: int) -> TwoViewMotion:
    """Return a motion along the view without the inliers that move against it; any other motion unchanged.

    Of the inliers that move in one direction and those that move in the other, the majority is static. Its direction
    becomes that of the motion.

    motion: motion of the camera from the first to the second image, with its inliers.
    first_px, second_px: (N, 2) matches in the first and the second image, pixels.
    K: (3, 3) intrinsics of the images.
    width: width of the images, pixels.
    """
    if abs(motion.t[2]) < MIN_FORWARD * np.linalg.norm(motion.t):
        return motion
    parallax = measure_parallax(first_px, second_px, K, motion) * MATCH_WIDTH / width
    forward, backward = (motion.inliers & (sign * parallax > MAX_BACKWARD_PX) for sign in (1, -1))
    if backward.sum() > forward.sum():
        return replace(motion, t=-motion.t, inliers=motion.inliers & ~forward)
    return replace(motion, inliers=motion.inliers & ~backward)


def measure_parallax(first_px: Array, second_px: Array, K: Array, motion: TwoViewMotion) -> Array:
    """Return how far each match (N,) moved, pixels, in the direction in which a static point moves.

    The displacement is measured from the place of a point at infinity. It is negative for a point that moves against
    the camera, which no static scene explains.

    first_px, second_px: (N, 2) matches in the first and the second image, pixels.
    K: (3, 3) intrinsics of the images.
    motion: motion of the camera from the first to the second image.

    Example:
        >>> forward = TwoViewMotion(np.eye(3), np.array([0, 0, -1.0]), False, np.ones(2, bool), 2.0)
        >>> first, second = np.array([[10.0, 0], [10, 0]]), np.array([[12.0, 0], [8, 0]])
        >>> measure_parallax(first, second, np.eye(3), forward).round(3).tolist()
        [2.0, -2.0]
    """
    far = pixel_rays(first_px, K) @ motion.R.T @ K.T
    far_px = far[:, :2] / far[:, 2:]
    shift = K @ motion.t
    direction = (shift[:2] - far_px * shift[2]) / far[:, 2:]
    direction /= np.maximum(np.linalg.norm(direction, axis=1, keepdims=True), 1e-12)
    return np.asarray(((second_px - far_px) * direction).sum(1), np.float64)


def measure_pair(
    first_px: Array,
    second_px: Array,
    *,
    K: Array,
    K_second: Array,
    motion: TwoViewMotion,
    inverse_depth: Array,
    baselines: Mapping[str, Array],
    width: int,
) -> MeasuredPair:
    """Measure what predicted depth and each baseline leave unexplained of the motion of matches.

    first_px, second_px: (N, 2) matches in the first and the second image, pixels.
    K, K_second: (3, 3) intrinsics of the two images.
    motion: a motion of the camera that the matches agree with.
    inverse_depth: (N,) predicted inverse depth at the matches in the first image.
    baselines: (N,) inverse depth at the same matches, by name.
    width: width of the images, pixels.
    """
    unit = MATCH_WIDTH / width
    rays = pixel_rays(first_px, K)

    def fit(values: Array) -> tuple[Array, Array, float]:
        relative = np.maximum(values / np.median(values), MIN_INVERSE_DEPTH)
        starts = [(motion.R, length * motion.t) for length in START_LENGTHS]
        starts.append((np.eye(3), np.zeros(3)))
        fits = [fit_motion(rays, second_px, K_second, relative, R, t, HUBER_PX / unit) for R, t in starts]
        R, t, distances, _ = min(fits, key=lambda found: found[3])
        return R, t, unit * float(np.median(distances))

    R, t, error_px = fit(inverse_depth)
    lines = [(motion.R, motion.t)] + ([(R, t)] if np.linalg.norm(t) > 0 else [])
    sampson = [
        float(np.median(epipolar_distance_px(first_px, second_px, K, K_second, _stack(*found)))) for found in lines
    ]
    return MeasuredPair(
        matches=len(first_px),
        noise_px=min(unit * OF_SAMPSON_DISTANCE * min(sampson), error_px),
        error_px=error_px,
        baselines_px={name: fit(values)[2] for name, values in baselines.items()},
    )


def _stack(R: Array, t: Array) -> Array:
    return np.block([[R, t[:, None]], [np.zeros((1, 3)), np.ones((1, 1))]])


def fit_motion(
    rays: Array, pixels: Array, K: Array, inverse_depth: Array, R: Array, t: Array, huber_px: float
) -> tuple[Array, Array, Array, float]:
    """Refine the motion of a camera by Levenberg-Marquardt, so that rays with depth project to pixels.

    rays: (N, 3) rays of the first camera, z = 1.
    pixels: (N, 2) in the second image.
    K: (3, 3) intrinsics of the second image.
    inverse_depth: (N,) inverse depth along the rays, in any unit; the translation is in the same unit of depth.
    R, t: (3, 3) and (3,) motion from the first to the second camera to start from.
    huber_px: distance beyond which a match pulls with constant force.

    Returns R, t, the distances (N,) in pixels, and the mean cost.
    """
    damping = 1e-4
    points, residual = _project(rays, pixels, K, inverse_depth, R, t)
    distances, weights, cost = _weigh(residual, huber_px)
    for _ in range(MAX_ITERATIONS):
        jacobian = _differentiate(points, K, inverse_depth, t)
        weighted = jacobian * np.repeat(weights, 2)[:, None]
        normal, gradient = weighted.T @ jacobian, weighted.T @ residual.ravel()
        step = -np.linalg.solve(normal + np.diag(damping * np.diag(normal) + 1e-9), gradient)
        tried_R, tried_t = cv2.Rodrigues(step[:3])[0] @ R, t + step[3:]
        tried_points, tried_residual = _project(rays, pixels, K, inverse_depth, tried_R, tried_t)
        tried_distances, tried_weights, tried_cost = _weigh(tried_residual, huber_px)
        if not tried_cost < cost:
            damping *= 8
            if damping > 1e6:
                break
            continue
        is_done = cost - tried_cost < 1e-5 * cost
        R, t, points, residual = tried_R, tried_t, tried_points, tried_residual
        distances, weights, cost = tried_distances, tried_weights, tried_cost
        damping = max(damping / 5, 1e-9)
        if is_done:
            break
    return R, t, distances, cost


def _project(rays: Array, pixels: Array, K: Array, inverse_depth: Array, R: Array, t: Array) -> tuple[Array, Array]:
    """Return the points (N, 3) in the second camera multiplied by inverse depth, and projection minus pixel (N, 2)."""
    points = rays @ R.T + inverse_depth[:, None] * t
    points[:, 2] = np.maximum(points[:, 2], 1e-3)
    projected = points @ K.T
    return points, projected[:, :2] / projected[:, 2:] - pixels


def _weigh(residual: Array, huber_px: float) -> tuple[Array, Array, float]:
    """Return distances (N,), Huber's weights (N,) and the mean cost of residuals (N, 2)."""
    distances = np.linalg.norm(residual, axis=1)
    is_near = distances < huber_px
    cost = np.where(is_near, distances**2 / 2, huber_px * (distances - huber_px / 2))
    return distances, np.where(is_near, 1.0, huber_px / np.maximum(distances, 1e-9)), float(cost.mean())


def _differentiate(points: Array, K: Array, inverse_depth: Array, t: Array) -> Array:
    """Return the derivative (2 N, 6) of the projected pixels by a small rotation and by the translation."""
    x, y, z = points.T
    by_point = np.zeros((len(points), 2, 3))
    by_point[:, 0, 0], by_point[:, 0, 1], by_point[:, 0, 2] = K[0, 0] / z, K[0, 1] / z, -K[0, 0] * x / z**2
    by_point[:, 1, 1], by_point[:, 1, 2] = K[1, 1] / z, -K[1, 1] * y / z**2
    turned = points - inverse_depth[:, None] * t
    by_turn = np.zeros((len(points), 3, 3))
    by_turn[:, 0, 1], by_turn[:, 0, 2], by_turn[:, 1, 2] = turned[:, 2], -turned[:, 1], turned[:, 0]
    by_turn -= by_turn.transpose(0, 2, 1)
    jacobian = np.concatenate([by_point @ by_turn, by_point * inverse_depth[:, None, None]], axis=2)
    return np.asarray(jacobian.reshape(-1, 6), np.float64)


def sample_map(values: NDArray[np.float32], pixels: Sequence[Array] | Array, size: tuple[int, int]) -> Array:
    """Return the values (N,) of a map (h, w) at pixels (N, 2) of an image of (height, width), bilinear."""
    rows, columns = values.shape
    height, width = size
    spots = ((np.asarray(pixels) + 0.5) * (columns / width, rows / height) - 0.5).astype(np.float32)
    read = cv2.remap(values, spots[:, 0:1], spots[:, 1:2], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(read, np.float64).ravel()
