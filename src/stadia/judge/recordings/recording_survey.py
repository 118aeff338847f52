"""Measure a recording on a few frames, lazily: matches, motions, depth."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.types import LEFT, RIGHT, Recording
from stadia.data.recordings import FLOW_WIDTH, shrink_to_gray

# -- two-view geometry: points are (N, 2) float64 pixels, K is (3, 3), T_b_a takes points of camera a to camera b

Array = NDArray[np.float64]

ESSENTIAL_PX = 1.0  # distance from the epipolar line of a match that agrees
POINTS_PX = 1.5  # the same from the projected point
PLANE_SHARE = 0.9  # share of matches that one homography explains: planes .97 to 1, scenes at most .77
SSIM_C1 = 0.01**2
SSIM_C2 = 0.03**2
SSIM_WINDOW = (7, 7)
MAX_DISPARITY_SHARE = 0.2  # largest disparity that a plane sweep tries, over the width
DISPARITIES = 24  # disparities that a plane sweep tries
MAX_WARPED_POINTS = 20_000
MIN_WIDTH = 640  # narrower images are enlarged before detection, since SIFT finds little in them
MAX_WIDTH = 1280  # wider images are reduced before detection, which is slow
MAX_FEATURES = 1500

RATIO = 0.8  # distance of the nearest descriptor over the second nearest (Lowe, IJCV 2004, 7.1)
MIN_CORNERS = 10  # corners that optical flow needs


@dataclass(frozen=True, slots=True)
class SiftFeatures:
    """SIFT features of an image.

    pixels: (N, 2) float64, x and y.
    descriptors: (N, 128) float32.
    """

    pixels: NDArray[np.float64]
    descriptors: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class FeatureMatches:
    """Matches between the features of two images.

    first_index: (M,) rows of the first image's features.
    first_px, second_px: (M, 2) float64.
    """

    first_index: NDArray[np.intp]
    first_px: NDArray[np.float64]
    second_px: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.first_index)

    def select(self, chosen: NDArray[np.bool_]) -> "FeatureMatches":
        """Return the chosen matches.

        chosen: (N,) bool.
        """
        return FeatureMatches(self.first_index[chosen], self.first_px[chosen], self.second_px[chosen])

    @property
    def displacement_px(self) -> float:
        """Median displacement from first to second; 0 without matches."""
        return float(np.median(np.linalg.norm(self.second_px - self.first_px, axis=1))) if len(self) else 0.0


def gray(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Convert (H, W, 3) RGB to (H, W)."""
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), dtype=np.uint8)


@cache
def _sift() -> cv2.SIFT:
    # Without the precise upscale, OpenCV's keypoints are a quarter of a pixel too far right and down.
    return cv2.SIFT.create(nfeatures=MAX_FEATURES, enable_precise_upscale=True)


def detect_features(image: NDArray[np.uint8], ignored: NDArray[np.bool_] | None = None) -> SiftFeatures:
    """Return SIFT features of an image, (H, W, 3) uint8 RGB, outside the ignored region (H, W)."""
    height, width = image.shape[:2]
    scale = float(np.clip(width, MIN_WIDTH, MAX_WIDTH) / width)
    gray_image = gray(image)
    if scale != 1:
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        gray_image = cv2.resize(gray_image, None, fx=scale, fy=scale, interpolation=method)
    keypoints, descriptors = _sift().detectAndCompute(gray_image, None)
    if descriptors is None:
        return SiftFeatures(np.zeros((0, 2)), np.zeros((0, 128), np.float32))
    scales = np.array([gray_image.shape[1] / width, gray_image.shape[0] / height])
    pixels = (np.array([point.pt for point in keypoints], dtype=np.float64) + 0.5) / scales - 0.5
    if ignored is None:
        return SiftFeatures(pixels, descriptors)
    column, row = pixels.round().astype(int).clip(0, (width - 1, height - 1)).T
    used = ~ignored[row, column]
    return SiftFeatures(pixels[used], descriptors[used])


def match_features(first: SiftFeatures, second: SiftFeatures) -> FeatureMatches:
    """Return mutual nearest neighbors that pass the ratio test."""
    if min(len(first.pixels), len(second.pixels)) < 2:
        return FeatureMatches(np.zeros(0, np.intp), np.zeros((0, 2)), np.zeros((0, 2)))
    a, b = first.descriptors, second.descriptors  # whole numbers up to 255: float32 has their products exactly
    squared = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1) - 2 * (a @ b.T)
    rows = np.arange(len(a))
    partners = squared.argmin(axis=1)
    nearest = squared[rows, partners]
    squared[rows, partners] = np.inf
    by_distance = np.flatnonzero(nearest < RATIO**2 * squared.min(axis=1))
    by_distance = by_distance[np.argsort(nearest[by_distance], kind="stable")]
    # If two features have one partner, the nearer one is kept.
    _, nearest_of_each = np.unique(partners[by_distance], return_index=True)
    kept = np.sort(by_distance[nearest_of_each])
    return FeatureMatches(kept, first.pixels[kept], second.pixels[partners[kept]])


def median_flow_px(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> float | None:
    """Return the median displacement of corners in pixels (Lucas and Kanade); None without corners."""
    corners = cv2.goodFeaturesToTrack(before, maxCorners=200, qualityLevel=0.01, minDistance=5)
    if corners is None or len(corners) < MIN_CORNERS:
        return None
    moved, found, _ = cv2.calcOpticalFlowPyrLK(before, after, corners, None, winSize=(15, 15), maxLevel=3)
    displacements = np.linalg.norm((moved - corners)[:, 0], axis=1)[found.ravel() > 0]
    return float(np.median(displacements)) if len(displacements) >= MIN_CORNERS else None


def pixel_rays(pixels: Array, K: Array) -> Array:
    """Map (N, 2) pixels to (N, 3) directions with z = 1."""
    return np.column_stack([pixels, np.ones(len(pixels))]) @ np.linalg.inv(K).T


def angle_deg(first: Array, second: Array) -> float:
    """Return the angle in degrees between two vectors (3,); 90 for a zero vector."""
    lengths = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(np.degrees(np.arccos(np.clip(first @ second / lengths, -1, 1)))) if lengths > 0 else 90.0


def rotation_vector_deg(R: Array) -> Array:
    """Convert a (3, 3) rotation to its axis times its angle in degrees."""
    return np.degrees(cv2.Rodrigues(R)[0].ravel())


def rotation_deg(R: Array) -> float:
    """Return the angle of a (3, 3) rotation."""
    return float(np.linalg.norm(rotation_vector_deg(R)))


def epipolar_distance_px(
    first_px: Array, second_px: Array, K_first: Array, K_second: Array, T_second_first: Array
) -> Array:
    """Compute the Sampson distances (N,) of matches to the epipolar geometry (Hartley and Zisserman, 2nd ed., 11.4.3).

    first_px, second_px: (N, 2) matched pixels (x, y) in the two images.
    K_first, K_second: (3, 3) intrinsics of the two images, pixels.
    T_second_first: (4, 4) motion from the first to the second camera.

    Examples:
        >>> K, T = np.array([[100.0, 0, 50], [0, 100, 40], [0, 0, 1]]), np.eye(4)
        >>> T[0, 3] = -0.5  # a rectified pair
        >>> first_px, second_px = np.array([[60.0, 40.0]]), np.array([[55.0, 41.0]])
        >>> epipolar_distance_px(first_px, second_px, K, K, T).round(2).tolist()
        [0.71]
    """
    x, y, z = T_second_first[:3, 3]
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    F = np.linalg.inv(K_second).T @ cross @ T_second_first[:3, :3] @ np.linalg.inv(K_first)
    first = np.column_stack([first_px, np.ones(len(first_px))])
    second = np.column_stack([second_px, np.ones(len(second_px))])
    lines_second, lines_first = first @ F.T, second @ F
    gradient = np.sqrt((lines_second[:, :2] ** 2).sum(1) + (lines_first[:, :2] ** 2).sum(1))
    return np.abs((second * lines_second).sum(1)) / np.maximum(gradient, 1e-12)


def triangulate(
    first_px: Array, second_px: Array, K_first: Array, K_second: Array, T_second_first: Array
) -> tuple[Array, Array]:
    """Return the depth z (N,) of matches in both cameras, by least squares; negative behind a camera.

    first_px, second_px: (N, 2) matched pixels.
    K_first, K_second: (3, 3) intrinsics.
    T_second_first: (4, 4) motion, in whose unit the depth is.
    """
    rotated, rays_second = pixel_rays(first_px, K_first) @ T_second_first[:3, :3].T, pixel_rays(second_px, K_second)
    across, offset = np.cross(rays_second, rotated), np.cross(rays_second, T_second_first[:3, 3])
    z_first = -(across * offset).sum(1) / np.maximum((across**2).sum(1), 1e-18)
    return z_first, z_first * rotated[:, 2] + T_second_first[2, 3]


def triangulate_inverse_depth(
    first_px: Array, second_px: Array, K_first: Array, K_second: Array, T_second_first: Array
) -> Array:
    """Compute the inverse depth 1 / z (N,) of matches in the first camera by least squares.

    It is 0 for a point at infinity, and negative for rays that diverge.

    first_px, second_px: (N, 2) matched pixels (x, y) in the two images.
    K_first, K_second: (3, 3) intrinsics of the two images, pixels.
    T_second_first: (4, 4) motion from the first to the second camera; the result has the inverse of its unit.

    Examples:
        >>> K, T = np.array([[100.0, 0, 50], [0, 100, 40], [0, 0, 1]]), np.eye(4)
        >>> T[0, 3] = -0.5
        >>> first_px, second_px = np.array([[60.0, 40.0]]), np.array([[55.0, 40.0]])
        >>> triangulate_inverse_depth(first_px, second_px, K, K, T).round(4).tolist()  # f b / d = 10 m
        [0.1]
    """
    rotated, rays_second = pixel_rays(first_px, K_first) @ T_second_first[:3, :3].T, pixel_rays(second_px, K_second)
    across, offset = np.cross(rays_second, rotated), np.cross(rays_second, T_second_first[:3, 3])
    return np.asarray(-(across * offset).sum(1) / np.maximum((offset**2).sum(1), 1e-18))


@dataclass(frozen=True, slots=True, eq=False)
class TwoViewMotion:
    """Camera motion between two frames by matches.

    R: (3, 3), t: (3,) of T_second_first; t has length 1 unless `metric`.
    inliers: (M,) matches that agree.
    parallax_px: median displacement that is not rotation.
    planar: whether all of them are on one plane, which two motions explain.
    """

    R: Array
    t: Array
    metric: bool
    inliers: NDArray[np.bool_]
    parallax_px: float
    planar: bool = False


def parallax_px(first_px: Array, second_px: Array, K: Array, R: Array) -> float:
    """Return the median displacement in pixels that remains after a rotation is removed; 0 without matches.

    first_px, second_px: (N, 2) matched pixels.
    K: (3, 3) intrinsics.
    R: (3, 3) rotation.
    """
    return float(np.median(rotation_residuals_px(first_px, second_px, K, R))) if len(first_px) else 0.0


def rotation_residuals_px(first_px: Array, second_px: Array, K: Array, R: Array) -> Array:
    """Return (M,) displacements of matches beyond a rotation."""
    turned = pixel_rays(first_px, K) @ R.T @ K.T
    return np.asarray(np.linalg.norm(turned[:, :2] / turned[:, 2:] - second_px, axis=1), dtype=np.float64)


def is_planar(first_px: Array, second_px: Array, grain_px: float) -> bool:
    """Return whether one homography explains the matches; then two essential matrices fit (Longuet-Higgins, 1986)."""
    H, mask = cv2.findHomography(first_px, second_px, cv2.RANSAC, ESSENTIAL_PX * grain_px)
    return H is not None and float(mask.mean()) >= PLANE_SHARE


def estimate_motion(first_px: Array, second_px: Array, K: Array, *, grain_px: float = 1.0) -> TwoViewMotion | None:
    """Estimate rotation and direction by the essential matrix (Nister, RANSAC); None if few matches agree."""
    if len(first_px) < 30:
        return None
    E, mask = cv2.findEssentialMat(
        first_px, second_px, K, method=cv2.RANSAC, prob=0.999, threshold=ESSENTIAL_PX * grain_px
    )
    if E is None or E.shape != (3, 3) or int(mask.sum()) < 20:
        return None
    agreeing = mask.ravel() > 0
    pixels = first_px[agreeing], second_px[agreeing]
    _, R, t, _ = cv2.recoverPose(E, *pixels, K)
    return TwoViewMotion(R, t.ravel(), False, agreeing, parallax_px(*pixels, K, R), is_planar(*pixels, grain_px))


def estimate_metric_motion(
    first_px: Array, second_px: Array, depth: Array, K_first: Array, K_second: Array, *, grain_px: float = 1.0
) -> TwoViewMotion | None:
    """Estimate rotation and translation by perspective-n-points in RANSAC, then refine; None if few matches agree.

    depth: (M,) z of the matches in the first camera, 0 = unknown.
    grain_px: precision of the matches, which scales tolerances.
    """
    known = depth > 0
    if int(known.sum()) < 20:
        return None
    unit = float(np.median(depth[known]))  # depth is scaled to about 1, so that any unit converges
    points, pixels = pixel_rays(first_px[known], K_first) * depth[known, None] / unit, second_px[known]
    ransac: dict[str, Any] = {"iterationsCount": 500, "reprojectionError": POINTS_PX * grain_px}
    found, rotation, t, chosen = cv2.solvePnPRansac(points, pixels, K_second, None, flags=cv2.SOLVEPNP_AP3P, **ransac)
    if not found or chosen is None or len(chosen) < 15:
        return None
    rows = chosen.ravel()
    rotation, t = cv2.solvePnPRefineLM(points[rows], pixels[rows], K_second, None, rotation, t)
    projected, _ = cv2.projectPoints(points, rotation, t, K_second, None)
    agreeing = np.zeros(len(depth), bool)
    agreeing[known] = np.linalg.norm(projected[:, 0] - pixels, axis=1) < POINTS_PX * grain_px
    R = cv2.Rodrigues(rotation)[0]
    parallax = parallax_px(first_px[agreeing], second_px[agreeing], K_first, R)
    return TwoViewMotion(R, t.ravel() * unit, True, agreeing, parallax)


def compute_gray_residual(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return (H, W) 0.85 (1 - SSIM) / 2 + 0.15 L1 of two gray images, SSIM over 7x7 windows."""
    a, b = first.astype(np.float32) / 255, second.astype(np.float32) / 255
    mean_a, mean_b = cv2.blur(a, SSIM_WINDOW), cv2.blur(b, SSIM_WINDOW)
    variance_a, variance_b = cv2.blur(a * a, SSIM_WINDOW) - mean_a**2, cv2.blur(b * b, SSIM_WINDOW) - mean_b**2
    covariance = cv2.blur(a * b, SSIM_WINDOW) - mean_a * mean_b
    ssim = (2 * mean_a * mean_b + SSIM_C1) * (2 * covariance + SSIM_C2)
    ssim /= (mean_a**2 + mean_b**2 + SSIM_C1) * (np.maximum(variance_a + variance_b, 0) + SSIM_C2)
    return np.asarray(0.85 * np.clip((1 - ssim) / 2, 0, 1) + 0.15 * np.abs(a - b), dtype=np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class PlaneSweep:
    """Both images and the right one warped to the left one, (h, w) gray; `residual` is between left and warped."""

    left: NDArray[np.uint8]
    right: NDArray[np.uint8]
    warped: NDArray[np.uint8]
    residual: float


def plane_sweep(left: NDArray[np.uint8], right: NDArray[np.uint8], sign: int) -> PlaneSweep:
    """Warp the right image (H, W) to the left one by the best of many planes.

    sign: 1, or -1 if swapped.
    """
    scale = min(1.0, 640 / left.shape[1])
    if scale < 1:
        left, right = (cv2.resize(p, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) for p in (left, right))
    most = max(2.0, MAX_DISPARITY_SHARE * left.shape[1])
    shifts = np.unique(np.geomspace(1, most, DISPARITIES).round().astype(int))
    interior = slice(int(shifts[-1]), left.shape[1] - int(shifts[-1]))
    least = np.full(left[:, interior].shape, np.inf, np.float32)
    warped = np.zeros(least.shape, np.uint8)
    for d in shifts:
        shifted = np.roll(right, sign * int(d), axis=1)
        here = compute_gray_residual(left, shifted)[:, interior]
        better = here < least
        least[better], warped[better] = here[better], shifted[:, interior][better]
    return PlaneSweep(left[:, interior], right[:, interior], warped, float(least.mean()))


def warp_identity_ratio(
    target: NDArray[np.uint8],
    source: NDArray[np.uint8],
    depth: NDArray[np.float32],
    K_target: Array,
    K_source: Array,
    T_source_target: Array,
) -> float | None:
    """Return mean |target - warped source| over mean |target - source|, at pixels with depth; None for few pixels.

    target, source: (H, W) gray images.
    depth: (H, W) depth of the target; 0 means unknown.
    K_target, K_source: (3, 3) intrinsics.
    T_source_target: (4, 4) motion in the unit of depth.
    """
    y, x = np.nonzero(depth > 0)
    if len(x) < 200:
        return None
    chosen = np.linspace(0, len(x) - 1, min(len(x), MAX_WARPED_POINTS)).astype(int)
    y, x = y[chosen], x[chosen]
    pixels = np.column_stack([x, y]).astype(np.float64)
    points = pixel_rays(pixels, K_target) * depth[y, x, None].astype(np.float64)
    moved = (points @ T_source_target[:3, :3].T + T_source_target[:3, 3]) @ K_source.T
    ahead = moved[:, 2] > 1e-9
    landed = moved[:, :2] / np.where(ahead, moved[:, 2], 1)[:, None]
    height, width = source.shape
    inside = ahead & (landed >= 0).all(1) & (landed[:, 0] <= width - 1) & (landed[:, 1] <= height - 1)
    if inside.mean() < 0.1 or inside.sum() < 100:
        return None
    target_soft, source_soft = (cv2.GaussianBlur(image.astype(np.float32), (3, 3), 0) for image in (target, source))
    here = target_soft[y[inside], x[inside]]
    spot = landed[inside].astype(np.float32)
    warped = cv2.remap(source_soft, spot[:, 0:1], spot[:, 1:2], cv2.INTER_LINEAR).ravel()
    unwarped = np.abs(here - source_soft[y[inside], x[inside]]).mean()
    return float(np.abs(here - warped).mean() / unwarped) if unwarped > 0.5 else None


# -- survey

MAX_ANCHORS = 6  # frames for geometry, spread over the recording
ENOUGH_MATCHES = 50  # matches between two frames of one place
MIN_DISPLACEMENT_SHARE = 0.02  # median displacement over the width at which two frames are far enough apart
GAPS = (1, 2, 4, 8, 16)  # distances in frames that are tried for two frames
MIN_DIRECTION_PARALLAX_PX = 2.0  # unit: `grain_px`. With less, a direction of motion is noise.
MIN_RIG_DISPARITY_PX = 2.0  # unit: `grain_px`. With less, half a pixel of noise is a quarter of the depth.
MAX_RIG_EPIPOLAR_PX = 1.5  # unit: `grain_px`. A match farther from its epipolar line is wrong, or its point moved.
ENOUGH_DEPTH_POINTS = 30  # matches with ground truth for whether one motion explains it
MIN_DEPTH_EXPLAINS = 0.45  # share of agreeing matches; clean truth .6 to .96, inverse depth .25 to .5
DEPTH_RADIUS_PX = 2  # distance from a match at which ground truth is read
MAX_KEPT = 12  # images, and depth maps, that are kept
MAX_IMAGE_CACHE_BYTES = 1_050_000_000  # five images of 8192x8192, which take seconds to decode
MAX_DEPTH_CACHE_BYTES = 1 << 28  # one depth map of 8192x8192


def spread_order(count: int) -> list[int]:
    """Return 0 ... count - 1, each far from the numbers before."""
    width = max(1, (count - 1).bit_length())
    return sorted(range(count), key=lambda i: int(f"{i:0{width}b}"[::-1], 2))


@dataclass(frozen=True, slots=True)
class Step:
    """Two frames of the left camera, far enough apart to measure the motion between them.

    by_matches: motion up to scale by the matches.
    by_rig, by_depth: metric motion by the rig, or by ground truth.
    depth_explains: share of the points of `by_matches` with ground truth that `by_depth` explains, too; None for too
        few. `by_depth` is None if it is below MIN_DEPTH_EXPLAINS.
    T_second_first: (4, 4) motion by the poses.
    rig_depth: (M,) depth of the first points by the rig, 0 if unknown.
    grain_px: pixels per pixel of the image for features; tolerances grow with it.
    """

    first: int
    second: int
    matches: FeatureMatches
    by_matches: TwoViewMotion | None
    by_rig: TwoViewMotion | None
    by_depth: TwoViewMotion | None
    depth_explains: float | None
    T_second_first: Array | None
    grain_px: float = 1.0
    rig_depth: Array | None = None

    @property
    def motions(self) -> tuple[TwoViewMotion, ...]:
        """Unique motions with enough parallax for a direction, the most reliable first."""
        known = [motion for motion in (self.by_rig, self.by_depth) if motion is not None]
        known.sort(key=lambda motion: -int(motion.inliers.sum()))
        every = known if self.by_matches is None or self.by_matches.planar else [*known, self.by_matches]
        return tuple(motion for motion in every if motion.parallax_px >= MIN_DIRECTION_PARALLAX_PX * self.grain_px)

    @property
    def measured(self) -> TwoViewMotion | None:
        """The most reliable motion."""
        return self.motions[0] if self.motions else None


@dataclass(frozen=True, slots=True)
class PairMatches:
    """Matches from the left to the right image of one instant."""

    index: int
    matches: FeatureMatches

    @property
    def disparity_px(self) -> Array:
        """(M,) x_left - x_right: above 0 for every static point of a rectified pair."""
        return self.matches.first_px[:, 0] - self.matches.second_px[:, 0]


@dataclass(frozen=True, slots=True)
class BaselineAgreement:
    """A baseline that agrees with poses or depth within a 95 % interval.

    is_close: whether E03 would stop outside of the interval.
    """

    baseline_m: float
    other: str
    low: float
    high: float
    count: int
    is_close: bool


def _keep_latest(read: Callable[..., Any], max_bytes: int) -> Callable[..., Any]:
    """Return a reader that keeps the latest arrays: MAX_KEPT, `max_bytes` in total, at least one."""
    kept: OrderedDict[tuple[int | str, ...], Any] = OrderedDict()

    def read_kept(*place: int | str) -> Any:
        if place in kept:
            kept.move_to_end(place)
            return kept[place]
        kept[place] = array = read(*place)
        while len(kept) > 1 and (
            len(kept) > MAX_KEPT or sum(getattr(a, "nbytes", 0) for a in kept.values()) > max_bytes
        ):
            kept.popitem(last=False)
        return array

    return read_kept


class RecordingSurvey:
    """Measurements of a recording, made when needed.

    one_camera: whether training uses one camera of two.
    """

    def __init__(self, recording: Recording, *, one_camera: bool = False) -> None:
        self.recording = recording
        self.one_camera = one_camera
        self.length = len(recording)
        count = min(MAX_ANCHORS, self.length)
        spread = np.linspace(0, self.length - 1, count + 2)[1:-1] if count > 2 else range(count)
        self.anchors = tuple(sorted({int(i) for i in spread}))
        self._read_image = _keep_latest(recording.image, MAX_IMAGE_CACHE_BYTES)
        self._read_valid_depth = _keep_latest(self._clean_depth, MAX_DEPTH_CACHE_BYTES)
        self._features: dict[tuple[int, str], SiftFeatures] = {}
        self.depth_rank_by_poses: tuple[tuple[float, int] | None] | None = None  # `rank_depth_with_poses` fills it.
        self.agreements: list[BaselineAgreement] = []  # `check_baseline` fills it.

    @property
    def stereo(self) -> bool:
        """Whether the recording has stereo pairs."""
        return RIGHT in self.recording.sides and self.recording.T_right_left is not None

    @property
    def T_right_left(self) -> Array:
        """(4, 4); only for a stereo recording."""
        return np.asarray(self.recording.T_right_left, dtype=np.float64)

    def image(self, index: int, side: str = LEFT) -> NDArray[np.uint8]:
        """Return (H, W, 3) uint8; the last few are kept."""
        image: NDArray[np.uint8] = self._read_image(index, side)
        return image

    def K(self, index: int, side: str = LEFT) -> Array:
        """(3, 3) float64."""
        return np.asarray(self.recording.camera(index, side).K.numpy(), dtype=np.float64)

    @cached_property
    def grain_px(self) -> float:
        """Pixels of these images per pixel of the image for features."""
        return max(1.0, self.recording.camera(self.anchors[0]).width / MAX_WIDTH)

    def depth(self, index: int) -> NDArray[np.float32] | None:
        """Return (H, W) ground truth of the left camera, 0 where invalid or if constant; None without a map."""
        depth: NDArray[np.float32] | None = self._read_valid_depth(index)
        return depth

    def _clean_depth(self, index: int) -> NDArray[np.float32] | None:
        depth = self.recording.depth_m(index, LEFT)
        if depth is None:
            return None
        known = np.isfinite(depth) & (depth > 0)
        is_valid = known.any() and float(np.ptp(depth[known])) > 0
        return np.where(known & is_valid, depth, 0).astype(np.float32)

    def features(self, index: int, side: str = LEFT) -> SiftFeatures:
        """Return the SIFT features of an image, computed once."""
        key = (index, side)
        if key not in self._features:
            self._features[key] = detect_features(self.image(index, side), self.recording.ignored(side))
        return self._features[key]

    @cached_property
    def pairs(self) -> list[PairMatches]:
        """Left to right matches at the anchors; empty for one camera."""
        if RIGHT not in self.recording.sides:
            return []
        return [self.match_pair(i) for i in self.anchors]

    def match_pair(self, index: int, shift: int = 0) -> PairMatches:
        """Match the left image of a frame to the right image `shift` frames later."""
        return PairMatches(index, match_features(self.features(index), self.features(index + shift, RIGHT)))

    def match_shifted(self, shift: int) -> list[PairMatches]:
        """Match the left image at each anchor to the right image `shift` frames later, if there is one."""
        return [self.match_pair(i, shift) for i in self.anchors if 0 <= i + shift < self.length]

    def rig_depth(self, pair: PairMatches) -> Array:
        """Return (M,) depth of the left points by the rig; 0 off the epipolar line or for a small disparity."""
        rig = self.K(pair.index), self.K(pair.index, RIGHT), self.T_right_left
        z, z_right = triangulate(pair.matches.first_px, pair.matches.second_px, *rig)
        distances_px = epipolar_distance_px(pair.matches.first_px, pair.matches.second_px, *rig)
        clear = np.abs(pair.disparity_px) > MIN_RIG_DISPARITY_PX * self.grain_px
        good = (distances_px < MAX_RIG_EPIPOLAR_PX * self.grain_px) & (z > 0) & (z_right > 0) & clear
        return np.where(good, z, 0.0)

    @property
    def row_offsets_px(self) -> Array:
        """Return y_left - y_right (N,) of all matches of the stereo pairs."""
        return np.concatenate([pair.matches.first_px[:, 1] - pair.matches.second_px[:, 1] for pair in self.pairs])

    @property
    def median_row_offset_px(self) -> float:
        """Return the median |y_left - y_right| of the matches: 0 for a rectified pair, NaN without matches."""
        offsets_px = self.row_offsets_px
        return float(np.median(np.abs(offsets_px))) if len(offsets_px) else float("nan")

    @cached_property
    def steps(self) -> list[Step]:
        """Motion from each anchor to a later frame, if the motion is large enough."""
        by_index = {pair.index: pair for pair in self.pairs} if self.stereo else {}
        steps = [self._step(i, by_index.get(i)) for i in self.anchors]
        return [step for step in steps if step is not None]

    def measure_steps_between(self) -> list[Step]:
        """Return the motion from the frames halfway between the anchors."""
        middles = sorted({(a + b) // 2 for a, b in pairwise((*self.anchors, self.length - 1))} - {*self.anchors})
        steps = [self._step(i, self.match_pair(i)) for i in middles]
        return [step for step in steps if step is not None]

    def _step(self, first: int, pair: PairMatches | None) -> Step | None:
        if (following := self._find_second_frame(first)) is None:
            return None
        second, matches = following
        cameras, pixels = (self.K(first), self.K(second)), (matches.first_px, matches.second_px)
        by_rig = by_depth = explains = rig_depth = None
        if pair is not None:
            by_row = dict(zip(pair.matches.first_index.tolist(), self.rig_depth(pair).tolist(), strict=True))
            rig_depth = np.array([by_row.get(row, 0.0) for row in matches.first_index.tolist()])
            by_rig = estimate_metric_motion(*pixels, rig_depth, *cameras, grain_px=self.grain_px)
        second_px = self.see_by_first(pixels[1], *cameras)
        by_matches = estimate_motion(pixels[0], second_px, cameras[0], grain_px=self.grain_px)
        if (truth := self.depth(first)) is not None:
            known = sample_depth(truth, matches.first_px)
            by_depth = estimate_metric_motion(*pixels, known, *cameras, grain_px=self.grain_px)
            counted = (known > 0) & by_matches.inliers if by_matches is not None else np.zeros(len(known), bool)
            if counted.sum() >= ENOUGH_DEPTH_POINTS:
                explains = float(by_depth.inliers[counted].mean()) if by_depth is not None else 0.0
                by_depth = by_depth if explains >= MIN_DEPTH_EXPLAINS else None
        given = self.given_motion(first, second)
        return Step(first, second, matches, by_matches, by_rig, by_depth, explains, given, self.grain_px, rig_depth)

    @staticmethod
    def see_by_first(second_px: Array, K_first: Array, K_second: Array) -> Array:
        """Return (M, 2) the pixels of the second frame as the first frame's camera would see their rays."""
        if np.array_equal(K_first, K_second):
            return second_px
        change = K_first @ np.linalg.inv(K_second)
        return np.asarray(second_px @ change[:2, :2].T + change[:2, 2])

    def given_motion(self, first: int, second: int) -> Array | None:
        """Return (4, 4) T_second_first from the poses; None if one is missing or not finite."""
        T_world_first, T_world_second = (self.recording.T_world_camera(i, LEFT) for i in (first, second))
        if T_world_first is None or T_world_second is None or not np.isfinite([T_world_first, T_world_second]).all():
            return None
        return np.asarray(np.linalg.solve(T_world_second, T_world_first), dtype=np.float64)

    def _find_second_frame(self, first: int) -> tuple[int, FeatureMatches] | None:
        """Find a later frame (at the end an earlier one) with enough displacement and matches."""
        if self.length == 1:
            return None
        neighbor = first + 1 if first + 1 < self.length else first - 1
        flow = median_flow_px(shrink_to_gray(self.image(first)), shrink_to_gray(self.image(neighbor)))
        wanted = MIN_DISPLACEMENT_SHARE * FLOW_WIDTH / max(flow or 0.0, 1e-3)
        widest = next((gap for gap in GAPS if gap >= wanted), GAPS[-1])
        for gap in reversed(GAPS[: GAPS.index(widest) + 1]):
            second = first + gap if first + gap < self.length else first - gap
            if second >= 0:
                matches = match_features(self.features(first), self.features(second))
                if len(matches) >= ENOUGH_MATCHES:
                    min_px = MIN_DISPLACEMENT_SHARE / 3 * self.image(first).shape[1]
                    return (second, matches) if matches.displacement_px > min_px else None
        return None


def sample_depth(depth: NDArray[np.float32], pixels: Array) -> Array:
    """Return (M,) the nearest depth within DEPTH_RADIUS_PX; 0 if unknown, or between two surfaces (10 % apart)."""
    height, width = depth.shape
    reach = range(-DEPTH_RADIUS_PX, DEPTH_RADIUS_PX + 1)
    x, y = np.round(pixels[:, 0]).astype(int), np.round(pixels[:, 1]).astype(int)
    offsets = np.array([(dx, dy) for dy in reach for dx in reach])
    offsets = offsets[np.argsort((offsets**2).sum(1), kind="stable")]
    around_x, around_y = x[:, None] + offsets[:, 0], y[:, None] + offsets[:, 1]
    inside = (around_x >= 0) & (around_x < width) & (around_y >= 0) & (around_y < height)
    around = depth[np.clip(around_y, 0, height - 1), np.clip(around_x, 0, width - 1)].astype(np.float64)
    known = inside & (around > 0)
    nearest = around[np.arange(len(pixels)), known.argmax(1)]
    least, most = np.where(known, around, np.inf).min(1), np.where(known, around, 0).max(1)
    return np.where(known.any(1) & (most <= 1.1 * least), nearest, 0.0)
