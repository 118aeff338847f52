"""Measure a recording on a few frames, lazily: matches, motions, depth."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stadia.core.types import LEFT, RIGHT, Recording
from stadia.data.frame_selection import FLOW_WIDTH, shrink_to_gray
from stadia.geometry.image_features import (
    MAX_SIFT_WIDTH,
    FeatureMatches,
    SiftFeatures,
    detect_features,
    match_features,
    median_flow_px,
)
from stadia.geometry.two_views import (
    TwoViewMotion,
    epipolar_distance_px,
    estimate_metric_motion,
    estimate_motion,
    triangulate,
)

# -- two-view geometry: points are (N, 2) float64 pixels, K is (3, 3), T_b_a takes points of camera a to camera b

Array = NDArray[np.float64]


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
        return np.asarray(self.recording.camera(index, side).K, dtype=np.float64)

    @cached_property
    def grain_px(self) -> float:
        """Pixels of these images per pixel of the image for features."""
        return max(1.0, self.recording.camera(self.anchors[0]).width / MAX_SIFT_WIDTH)

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
