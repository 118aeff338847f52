"""Measure a camera's height above the road by a plane sweep over pairs of video frames.

Each tried height of the road plane maps one image onto the other (a homography); at the right height the road agrees.
The plane's normal is taken perpendicular to the direction of travel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.stats import theilslopes

from stadia.core.progress import TrackProgress
from stadia.data.frame_selection import spread_indices
from stadia.geometry.poses import invert_pose
from stadia.sfm.sparse_map import Array, LensCamera, SparseMap

if TYPE_CHECKING:
    from stadia.sfm.frame_stream import FrameStream

Gray = NDArray[np.floating]

HEIGHTS = np.geomspace(0.15, 6.0, 76)
"""Tried camera heights, as multiples of the distance that the camera moves between two frames; 5 % apart."""

NEAR, FAR, SIDE = 2.5, 12.0, 1.5
"""Part of the road that is compared, in multiples of the camera's height: from NEAR to FAR ahead, and up to SIDE to
each side.
"""

PLACES = 16  # places along a path at which pairs of frames are compared
MIN_KEY_STEP = 0.2  # share of the mean distance of two keyframes: with less, the camera stands, and the traffic moves
MIN_DRIFT_PLACES, DRIFT_CONFIDENCE = 10, 0.995
MIN_PAIRS = 8
MIN_AGREEMENT = 0.6  # mean correlation of the road at the best height
MIN_GAIN = 0.08  # gain in correlation over the median height: with less, the road is too even
MAX_SPREAD = 0.12  # deviation of ln height between pairs: above, they see no common plane
MIN_ALONG = 0.9  # cosine between most steps and the mean direction; a path without one follows no road
MIN_TEXTURE = 2.0  # gray levels of a block of the road
BLOCK_PX = 16
MIN_BLOCKS = 6  # fewest blocks of a road that have texture
STEPS = 40  # steps of a path whose directions are compared
LEVEL_DEG = 0.15
"""Standard deviation of the angle between the direction of travel and the road plane, degrees."""


@dataclass(frozen=True, slots=True, eq=False)
class RoadPlane:
    """The road plane below a camera, in the camera's axes: normal . X + height = 0 for points X of the road.

    normal: (3,) unit vector, from the road towards the camera.
    height: height of the camera over the road, in the unit of the trajectory.
    deviation: standard deviation of `height`.
    pitch_deg: angle of the camera's optical axis above the direction of travel, degrees.
    pitch_deviation_deg: standard deviation of `pitch_deg`.
    pairs: number of frame pairs that agree on the height.
    agreement: mean correlation of the road over the pairs, at the best height (1: equal images).
    drift: height in the last third of the trajectory over the height in the first third; 1 if the difference is not
        significant.
    """

    normal: Array
    height: float
    deviation: float
    pitch_deg: float
    pitch_deviation_deg: float
    pairs: int
    agreement: float
    drift: float


@dataclass(frozen=True, slots=True, eq=False)
class StraightFrame:
    """A gray image without lens distortion, and which of its pixels show the scene.

    gray: (h, w) image.
    shown: (h, w) uint8, 255 on pixels that show the scene, 0 on others.
    """

    gray: NDArray[np.uint8]
    shown: NDArray[np.uint8]

    @classmethod
    def straighten(cls, gray: NDArray[np.uint8], hidden: NDArray[np.bool_] | None, camera: LensCamera) -> StraightFrame:
        """Remove the lens distortion from a gray image and from its mask.

        gray: (H, W) image.
        hidden: (H, W), true on pixels that do not show the scene; or None.
        camera: camera of the image with its distortion.
        """
        shown = np.full(gray.shape, 255, np.uint8) if hidden is None else np.where(hidden, np.uint8(0), np.uint8(255))
        return cls(camera.undistort(gray), camera.undistort(shown)) if any(camera.distortion) else cls(gray, shown)


def find_road_plane(
    frames: Mapping[int, NDArray[np.uint8]],
    pairs: Sequence[tuple[int, int]],
    T_world_camera: Array,
    camera: LensCamera,
    hidden: Mapping[int, NDArray[np.bool_]] | None = None,
) -> RoadPlane | None:
    """Find the road plane below the camera from pairs of images.

    frames: gray images (h, w) by frame index, of all pairs.
    pairs: pairs of frame indices, from `choose_pairs`.
    T_world_camera: (N, 4, 4) poses of all frames, NaN if unknown.
    camera: camera of the images; its distortion is removed.
    hidden: masks (h, w) by frame index, true on pixels that do not show the static scene, such as a hood or moving
        things.

    Returns None if the camera does not travel along a road, or the road has too little texture.
    """
    direction = find_travel_direction(T_world_camera)
    if direction is None or len(pairs) < MIN_PAIRS:
        return None
    travel, pitch_deg, pitch_deviation_deg = direction
    normal = travel * travel[1] - np.array([0.0, 1, 0])
    normal /= np.linalg.norm(normal)
    seen = {
        index: StraightFrame.straighten(image, (hidden or {}).get(index), camera) for index, image in frames.items()
    }
    T = [invert_pose(T_world_camera[second]) @ T_world_camera[first] for first, second in pairs]
    compared = [(seen[a], seen[b], T_second_first) for (a, b), T_second_first in zip(pairs, T, strict=True)]
    curves, lengths = sweep_road(compared, camera.K, normal)
    heights = HEIGHTS[None] * lengths[:, None]
    grid = np.geomspace(heights[:, 0].max(), heights[:, -1].min(), 300)
    if grid[-1] <= grid[0]:
        return None
    at_grid = np.array(
        [np.interp(np.log(grid), np.log(row), curve) for row, curve in zip(heights, curves, strict=True)]
    )
    known = np.isfinite(at_grid).mean(1) > 0.5
    if known.sum() < MIN_PAIRS:
        return None
    at_grid = np.nan_to_num(at_grid[known])
    mean = at_grid.mean(0)
    best = int(mean.argmax())
    logs = np.log(grid[at_grid.argmax(1)]) - np.log(grid[best])
    spread = 1.4826 * float(np.median(np.abs(logs)))
    drift = _measure_drift(logs)
    steady = np.abs(logs - np.log(drift) * np.linspace(-0.75, 0.75, len(logs)))
    is_common = 1.4826 * np.median(steady) <= MAX_SPREAD
    is_inside = 0 < best < len(grid) - 1
    if not is_inside or mean[best] < MIN_AGREEMENT or mean[best] - np.median(mean) < MIN_GAIN or not is_common:
        return None
    agreeing = np.abs(logs) < 3 * MAX_SPREAD
    # a pitch that is wrong by d moves a road z ahead by z d, the nearest half of the compared part counts most
    by_pitch = np.radians(pitch_deviation_deg) * (NEAR + FAR) / 2
    height = float(grid[best] * np.exp(np.median(logs[agreeing]) / 2))
    deviation = height * float(np.hypot(spread / np.sqrt(agreeing.sum() / 2), by_pitch))
    count = int(agreeing.sum())
    return RoadPlane(normal, height, deviation, pitch_deg, pitch_deviation_deg, count, float(mean[best]), drift)


def _measure_drift(logs: Array) -> float:
    """Return the factor between the heights of the first and the last third, from ln height of each pair.

    1 if few places are known, or a slope of 0 is within the interval of Theil and Sen (1968).
    """
    places = logs[: len(logs) // 2 * 2].reshape(-1, 2).mean(1)  # two pairs of one place share a frame
    if len(places) < MIN_DRIFT_PLACES:
        return 1.0
    slope, _, low, high = theilslopes(places, np.linspace(-0.75, 0.75, len(places)), alpha=DRIFT_CONFIDENCE)
    return float(np.exp(slope)) if low * high > 0 else 1.0


def find_road(
    stream: FrameStream,
    sparse: SparseMap,
    camera: LensCamera,
    T_world_camera: Array,
    static: NDArray[np.bool_] | None,
    track: TrackProgress,
) -> RoadPlane | None:
    """Find the road plane below the camera of a drive.

    stream: the video frames.
    sparse: the map, whose keyframes set the distance between compared frames.
    camera: camera of the small frames.
    T_world_camera: (N, 4, 4) poses of all frames, NaN for lost ones.
    static: (h, w), true on pixels that show the same all along; or None.
    track: shows progress.

    Returns None for photos, without forward travel, or if no road is found.
    """
    if stream.photos is not None or find_travel_direction(T_world_camera) is None:
        return None
    pairs = choose_pairs(T_world_camera, sparse.frames.tolist())
    wanted = {index for pair in pairs for index in pair}
    frames, hidden = dict[int, NDArray[np.uint8]](), dict[int, NDArray[np.bool_]]()
    for frame in track(stream.select(wanted), len(wanted), "measuring the road"):
        frames[frame.index] = frame.gray
        if (mask := stream.find_hidden(frame.index, static)) is not None:
            hidden[frame.index] = mask
    return find_road_plane(frames, pairs, T_world_camera, camera, hidden)


def find_travel_direction(T_world_camera: Array) -> tuple[Array, float, float] | None:
    """Find the common direction of travel in the axes of the camera.

    T_world_camera: (N, 4, 4) poses, NaN if unknown.

    Returns the direction (3,) as a unit vector; the angle in degrees of the camera's optical axis above the direction
    of travel; and the standard deviation of this angle in degrees. None if the camera has no common direction, or it is
    not forward.

    Examples:
        >>> T = np.tile(np.eye(4), (5, 1, 1)); T[:, 2, 3] = range(5)
        >>> find_travel_direction(T)[0].tolist()
        [0.0, 0.0, 1.0]
    """
    places = _thin_path(T_world_camera)
    if len(places) < 4:
        return None
    T = T_world_camera[places]
    moved = T[1:, :3, 3] - T[:-1, :3, 3]
    local = np.einsum("nji,nj->ni", T[:-1, :3, :3], moved) / np.linalg.norm(moved, axis=1, keepdims=True)
    mean = np.median(local, axis=0)
    mean /= max(float(np.linalg.norm(mean)), 1e-12)
    if np.median(local @ mean) < MIN_ALONG or mean[2] < MIN_ALONG:
        return None
    pitches = np.degrees(np.arctan2(local[:, 1], local[:, 2]))
    pitch = float(np.median(pitches))
    spread = 1.4826 * float(np.median(np.abs(pitches - pitch)))
    # neighbors in time err together: a quarter of the steps counts
    return mean, pitch, float(np.hypot(spread / np.sqrt(max(len(pitches) / 4, 1)), LEVEL_DEG))


def _thin_path(T_world_camera: Array) -> list[int]:
    """Return frames at least a STEPS-th of the path apart, since a standing camera has no direction."""
    placed = np.flatnonzero(np.isfinite(T_world_camera).all((1, 2)))
    at = T_world_camera[placed, :3, 3]
    length = float(np.linalg.norm(np.diff(at, axis=0), axis=1).sum())
    kept = list[int]()
    for row, frame in enumerate(placed.tolist()):
        if not kept or np.linalg.norm(at[row] - T_world_camera[kept[-1], :3, 3]) > max(length / STEPS, 1e-12):
            kept.append(frame)
    return kept


def choose_pairs(T_world_camera: Array, key_frames: Sequence[int]) -> list[tuple[int, int]]:
    """Choose pairs of frames to compare at PLACES places of the trajectory.

    At each place, a frame is paired with those that are half and once the median distance between two keyframes ahead
    of it.

    T_world_camera: (N, 4, 4) poses of all frames, NaN if unknown.
    key_frames: indices of the keyframes.

    Examples:
        >>> T = np.tile(np.eye(4), (9, 1, 1)); T[:, 2, 3] = range(9)
        >>> choose_pairs(T, [0, 4, 8])[:2]
        [(0, 2), (0, 4)]
    """
    at, places = T_world_camera[:, :3, 3], _thin_path(T_world_camera)
    moved = np.linalg.norm(np.diff(at[list(key_frames)], axis=0), axis=1)
    moved = moved[moved > MIN_KEY_STEP * moved.mean()] if len(moved) else moved
    if not len(moved) or not places:
        return []
    apart = 0.99 * float(np.median(moved))  # equal steps differ by rounding
    pairs = list[tuple[int, int]]()
    for row in spread_indices(len(places), PLACES):
        start = places[row]
        distance = np.linalg.norm(at[start:] - at[start], axis=1)
        for share in (0.5, 1.0):
            far = np.flatnonzero(distance >= share * apart)
            pairs += [(start, start + int(far[0]))] if len(far) else []
    return list(dict.fromkeys(pairs))


def sweep_road(
    pairs: Sequence[tuple[StraightFrame, StraightFrame, Array]], K: Array, normal: Array
) -> tuple[Array, Array]:
    """Measure how well the road agrees between the images of each pair, at each tried height of the camera.

    pairs: for each pair, both images and T_second_first (4, 4), from the first camera to the second.
    K: (3, 3) of the images, pixels.
    normal: (3,) unit normal of the road in the camera's axes, towards the camera.

    Returns the correlations (P, len(HEIGHTS)), and the distances (P,) between the cameras of each pair.
    """
    curves, lengths = list[Array](), list[float]()
    height, width = pairs[0][0].gray.shape
    region = _find_road_region(height, width, K, normal)
    for first, second, T in pairs:
        lengths.append(float(np.linalg.norm(T[:3, 3])))
        curves.append(_sweep_pair(first, second, T, K, normal, region))
    return np.array(curves), np.array(lengths)


def _sweep_pair(
    first: StraightFrame, second: StraightFrame, T: Array, K: Array, normal: Array, region: NDArray[np.bool_]
) -> Array:
    """Return the mean correlation of the road's textured blocks at each height; NaN without texture."""
    length = float(np.linalg.norm(T[:3, 3]))
    rows, columns = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
    if len(rows) < BLOCK_PX or len(columns) < BLOCK_PX:
        return np.full(len(HEIGHTS), np.nan)
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    to_patch = np.array([[1.0, 0, -left], [0, 1, -top], [0, 0, 1]])
    patch = first.gray[top:bottom, left:right].astype(np.float32)
    mask = (region & (first.shown == 255))[top:bottom, left:right].astype(np.float32)
    inverse_K = np.linalg.inv(K)
    curve = np.empty(len(HEIGHTS))
    for number, height in enumerate(HEIGHTS * length):
        # a point of the plane: -n . X / height = 1, so t = -t n . X / height
        H = K @ (T[:3, :3] - np.outer(T[:3, 3], normal) / height) @ inverse_K @ np.linalg.inv(to_patch)
        warped, shown = (
            cv2.warpPerspective(
                image,
                H,
                (patch.shape[1], patch.shape[0]),
                flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                borderMode=cv2.BORDER_CONSTANT,
                borderValue=0,
            )
            for image in (second.gray, second.shown)
        )
        curve[number] = _correlate_blocks(patch, warped.astype(np.float32), mask * (shown == 255))
    return curve


def _find_road_region(height: int, width: int, K: Array, normal: Array) -> NDArray[np.bool_]:
    """Return (h, w), true on rays to the plane of height 1 within NEAR to FAR ahead and SIDE aside."""
    y, x = np.mgrid[:height, :width]
    rays = np.stack(((x - K[0, 2]) / K[0, 0], (y - K[1, 2]) / K[1, 1], np.ones((height, width))), -1)
    falling = np.maximum(-(rays @ normal), 1e-9)
    z = 1 / falling
    return (z > NEAR) & (z < FAR) & (np.abs(rays[..., 0] * z) < SIDE)


def _correlate_blocks(first: Gray, second: Gray, mask: Gray) -> float:
    """Return the mean correlation of blocks, weighted by the texture of the first image; NaN where little is seen."""
    window = (BLOCK_PX, BLOCK_PX)

    def average(values: Gray) -> Gray:
        return cv2.boxFilter(values, cv2.CV_32F, window)[BLOCK_PX // 2 :: BLOCK_PX // 2, BLOCK_PX // 2 :: BLOCK_PX // 2]

    share = average(mask)
    inside = share > 0.75
    share = np.maximum(share, 0.1)
    mean_first, mean_second = average(first * mask) / share, average(second * mask) / share
    variance_first = average(first**2 * mask) / share - mean_first**2
    variance_second = average(second**2 * mask) / share - mean_second**2
    covariance = average(first * second * mask) / share - mean_first * mean_second
    correlation = covariance / np.sqrt(np.maximum(variance_first, 1e-3) * np.maximum(variance_second, 1e-3) + 1.0)
    texture = np.where(inside & (variance_first > MIN_TEXTURE**2), np.sqrt(np.maximum(variance_first, 0)), 0)
    total = float(texture.sum())
    return float((correlation * texture).sum() / total) if np.count_nonzero(texture) >= MIN_BLOCKS else float("nan")
