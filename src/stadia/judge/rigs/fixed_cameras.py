"""Measure whether a fixed camera moved, zoomed, or is covered, by the background of two recordings.

A camera that stays at its place and turns or zooms maps pixels of the one image to the other by K' R K^-1, whatever the
scene is. Matches of the background give R and K', with their deviations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.data.video.static_parts import sample_frames
from stadia.geometry.image_features import FeatureMatches, detect_features, gray, match_features
from stadia.geometry.poses import hat, so3_exp, so3_log
from stadia.geometry.two_views import find_epipolar_inliers, pixel_rays
from stadia.judge.error import Measured
from stadia.judge.rigs.edge_matches import find_edge_directions, match_edges

Array = NDArray[np.float64]
Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]

BACKGROUND_FRAMES = 15
"""Frames of a recording whose median is its background."""

MAX_BACKGROUND_WIDTH = 1280
"""Largest width of a background; larger images are reduced."""

MOVING_LEVELS = 14.0
"""Mean absolute difference from the background, gray levels, of a pixel that something moves over."""

LIGHT_SHARE = 0.08
"""Side of the surroundings in which light changes all pixels alike, as a share of the image's width."""

MIN_BACKGROUND_MATCHES = 20
"""Fewest matches that agree on a motion of the camera."""

MATCH_PX = 3.0
"""Distance from the motion of the camera of a match that agrees, pixels of images of 640."""

MIN_NEAR_SHARE = 0.5
"""Share of the matches of one homography that a turn and a zoom must explain."""

FEATURE_PX, EDGE_PX = 0.05, 0.3
"""Deviation that all matches share, pixels of images of 640: light moves edges, and compression moves pixels. Second:
that of matches by edges, between day and night.
"""

VIEW_CELLS = (12, 16)
"""Rows and columns of the grid of cells by which errors that neighbors share, and covered parts, are found."""

MIN_CELL_TEXTURE = 3.0
"""Least deviation of the details of a cell, gray levels, that can be compared."""

MIN_CELL_CORRELATION, MIN_CELL_EDGES = 0.2, 0.1
"""Correlation of details, and of directions of edges, below which a cell shows something else: another light changes
one of them in a third of the cells of some days, and both in few.
"""

FINE_PX, COARSE_PX = 1.0, 4.0
"""Widths of blurs, pixels of images of 640, between which sharpness is compared."""


@dataclass(frozen=True, slots=True, eq=False)
class Background:
    """What stays in a recording of a fixed camera.

    image: (H, W, 3) RGB median of frames.
    moving: (H, W) whether something moved there.
    size: width and height of the frames, pixels.
    """

    image: Image
    moving: Mask
    size: tuple[int, int]


MAX_OTHER_SHAPE = 0.01
"""Largest logarithm of the ratio of width to height over the former one."""


@dataclass(frozen=True, slots=True, eq=False)
class ViewChange:
    """How the view of a camera changed; None for what could not be measured.

    reason: why the motion is not measured; "" otherwise.
    rotation_deg: turn about x (up is positive), y (right is positive) and z (clockwise), degrees.
    angle_deg: angle of the rotation.
    shift_px: root mean square displacement of the pixels of an image by the rotation and zoom, pixels of the frames.
    zoom_share: focal length over the former one, less 1.
    parallax_share: share of the matches that only a motion of the camera's place explains.
    matches: number of matches that agree.
    is_by_edges: whether they are patches with the same directions of edges, as between day and night; then sharpness
        and what is covered cannot be compared.
    sharpness: ratio of fine to coarse details over the former one.
    stops: brightness over the former one, as its logarithm to base 2.
    covered_share: share of the image, where details were, in the largest part that shows something else.
    homography: (3, 3) from pixels of the former background to the new one.
    """

    reason: str = ""
    rotation_deg: tuple[Measured, Measured, Measured] | None = None
    angle_deg: Measured | None = None
    shift_px: Measured | None = None
    zoom_share: Measured | None = None
    parallax_share: float = 0.0
    matches: int = 0
    is_by_edges: bool = False
    sharpness: float | None = None
    stops: float | None = None
    covered_share: float | None = None
    homography: Array | None = None


def read_background(source: Path) -> Background:
    """Return the background of a video, a folder of images, or an image.

    Raises DataError for files that cannot be read.
    """
    frames = list(sample_frames(source, BACKGROUND_FRAMES))
    if not frames:
        raise DataError(source, found="no image", expected="a video or images of a fixed camera", fix="check the path")
    return make_background(frames)


def make_background(frames: Sequence[Image]) -> Background:
    """Return the background of frames (H, W, 3) of one size."""
    height, width = frames[0].shape[:2]
    scale = min(MAX_BACKGROUND_WIDTH / width, 1.0)
    if scale < 1:
        size = round(width * scale), round(height * scale)
        frames = [np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), np.uint8) for frame in frames]
    stack = np.stack(frames)
    median = np.median(stack, axis=0).astype(np.uint8)
    if len(frames) < 3:
        return Background(median, np.zeros(median.shape[:2], np.bool_), (width, height))
    off = np.mean([_find_difference(gray(frame), gray(median)) for frame in stack], axis=0)
    moving = (off > MOVING_LEVELS).astype(np.uint8)
    grown = cv2.dilate(moving, np.ones((9, 9), np.uint8)) > 0
    return Background(median, grown, (width, height))


def _find_difference(frame: NDArray[np.uint8], median: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return how much (H, W) of each of two images a gain and an offset of the light do not explain, gray levels.

    A thing without details is explained by the background's details times 0, so the larger one of both ways counts.
    """
    one, other = (cv2.blur(image.astype(np.float32), (3, 3)) for image in (frame, median))
    side = (2 * round(LIGHT_SHARE * frame.shape[1] / 2) + 1,) * 2
    means = [cv2.blur(image, side) for image in (one, other)]
    shared = cv2.blur(one * other, side) - means[0] * means[1]
    unexplained = []
    for image, mean, by, mean_by in ((one, *means[:1], other, means[1]), (other, means[1], one, means[0])):
        gain = shared / (cv2.blur(by * by, side) - mean_by**2 + 1.0)
        unexplained.append(np.abs(image - mean - gain * (by - mean_by)))
    return np.asarray(np.minimum(np.maximum(*unexplained), np.abs(one - other)), np.float32)


def match_backgrounds(first: Background, second: Background) -> FeatureMatches:
    """Return the matches of two backgrounds, outside of what moves, in pixels of each."""
    features = [detect_features(one.image, one.moving) for one in (first, second)]
    return match_features(*features)


def measure_view(first: Background, second: Background, K: Array, *, only_edges: bool = False) -> ViewChange:
    """Measure how the view changed from the first to the second background of a camera.

    K: (3, 3) intrinsics of the first background in its pixels.
    only_edges: whether directions of edges are matched even if features find enough partners.
    """
    height, width = first.image.shape[:2]
    shapes = [one.size[0] / one.size[1] for one in (first, second)]
    if abs(np.log(shapes[1] / shapes[0])) > MAX_OTHER_SHAPE:
        before, now = (f"{one.size[0]}x{one.size[1]}" for one in (first, second))
        return ViewChange(reason=f"frames are {now} and were {before}: cut them as before")
    matches = match_backgrounds(first, second)
    unit = max(width, height) / 640
    H, agreeing = _find_homography(matches, MATCH_PX * unit)
    needs_edges = only_edges or agreeing.sum() < MIN_BACKGROUND_MATCHES
    by_edges = _match_by_edges(first, second) if needs_edges else None
    if by_edges is not None:
        matches, H = by_edges
        agreeing = np.ones(len(matches), np.bool_)
    if H is None or agreeing.sum() < MIN_BACKGROUND_MATCHES:
        reason = f"{int(agreeing.sum())} matches of the background agree, at least {MIN_BACKGROUND_MATCHES} are needed"
        return ViewChange(reason=reason, matches=int(agreeing.sum()))
    ratio = second.image.shape[1] / width  # frames of another size count as the same camera
    shared_px = (FEATURE_PX if by_edges is None else EDGE_PX) * unit
    fitted = _fit_turn(matches.select(agreeing), K, H, ratio, max_px=MATCH_PX * unit, shared_px=shared_px)
    if fitted is None:
        return ViewChange(reason="the motion of the background is no rotation and no zoom", matches=int(agreeing.sum()))
    turn, zoom, covariance, count = fitted
    to_second = _make_homography(K, turn, zoom, ratio)
    epipolar = find_epipolar_inliers(matches.first_px, matches.second_px, 1.0 * unit)
    near = _miss(matches, K, turn, zoom, ratio) < MATCH_PX * unit
    parallax = float((epipolar & ~near).sum() / max(epipolar.sum(), 1))
    to_frames = first.size[0] / width
    degrees = np.degrees(turn)
    deviations = np.degrees(np.sqrt(np.diag(covariance)[:3]))
    measured = [Measured(float(value), float(sigma)) for value, sigma in zip(degrees, deviations, strict=True)]
    angle = float(np.linalg.norm(degrees))
    direction = degrees / angle if angle > 0 else np.array([1.0, 0, 0])
    spread = np.degrees(np.sqrt(float((direction @ covariance[:3, :3] @ direction).clip(0))))
    sharpness, stops, covered = _compare_pixels(first, second, to_second, unit)
    is_alike = by_edges is None
    return ViewChange(
        rotation_deg=(measured[0], measured[1], measured[2]),
        angle_deg=Measured(angle, float(spread)),
        shift_px=_measure_shift(K, turn, zoom, covariance, (width, height), to_frames),
        zoom_share=Measured(float(np.expm1(zoom)), float(np.exp(zoom) * np.sqrt(covariance[3, 3]))),
        parallax_share=parallax,
        matches=count,
        is_by_edges=not is_alike,
        sharpness=sharpness if is_alike else None,
        stops=stops,
        covered_share=covered if is_alike else None,
        homography=to_second,
    )


def _match_by_edges(first: Background, second: Background) -> tuple[FeatureMatches, Array] | None:
    """Return matches by the directions of edges, in pixels of each background, and their motion (3, 3)."""
    height, width = first.image.shape[:2]
    other = cv2.resize(gray(second.image), (width, height), interpolation=cv2.INTER_AREA)
    found = match_edges(gray(first.image), np.asarray(other, np.uint8))
    if found is None:
        return None
    matches, H = found
    ratio = second.image.shape[1] / width
    return replace(matches, second_px=(matches.second_px + 0.5) * ratio - 0.5), _resize(ratio) @ H


def _resize(ratio: float) -> Array:
    """Return (3, 3) from pixels of an image to those of the same image at another size."""
    resized = np.diag([ratio, ratio, 1.0])
    resized[:2, 2] = (ratio - 1) / 2
    return resized


def _find_homography(matches: FeatureMatches, max_px: float) -> tuple[Array | None, Mask]:
    none = np.zeros(len(matches), np.bool_)
    if len(matches) < MIN_BACKGROUND_MATCHES:
        return None, none
    try:
        H, mask = cv2.findHomography(matches.first_px, matches.second_px, cv2.USAC_MAGSAC, max_px, maxIters=5000)
    except cv2.error:  # OpenCV raises an assertion if every sample is degenerate
        return None, none
    return (None, none) if H is None else (np.asarray(H, np.float64), mask.ravel() > 0)


def _make_homography(K: Array, turn: Array, zoom: float, ratio: float) -> Array:
    """Return (3, 3) from pixels of the first to pixels of the second image; points turn opposite to the camera."""
    zoomed = K.copy()
    zoomed[:2, :2] *= np.exp(zoom)
    return np.asarray(_resize(ratio) @ zoomed @ so3_exp(turn).T @ np.linalg.inv(K), np.float64)


def _project(points: Array, H: Array) -> Array:
    mapped = np.column_stack([points, np.ones(len(points))]) @ H.T
    return np.asarray(mapped[:, :2] / mapped[:, 2:], np.float64)


def _miss(matches: FeatureMatches, K: Array, turn: Array, zoom: float, ratio: float) -> Array:
    H = _make_homography(K, turn, zoom, ratio)
    return np.asarray(np.linalg.norm(_project(matches.first_px, H) - matches.second_px, axis=1))


def _fit_turn(
    matches: FeatureMatches, K: Array, H: Array, ratio: float, *, max_px: float, shared_px: float
) -> tuple[Array, float, Array, int] | None:
    """Return the turn of the camera (3,) in radians, the logarithm of the zoom, their covariance (4, 4), and a count.

    Matches far from the motion count little (Cauchy). Errors of a cell of the image are shared (sandwich covariance),
    and all matches share one of shared_px.
    """
    M = np.linalg.inv(K) @ _resize(1 / ratio) @ H @ K
    M = M / np.cbrt(np.linalg.det(M))
    U, _, Vt = np.linalg.svd(M)
    R = U @ np.diag([1, 1, np.linalg.det(U @ Vt)]) @ Vt
    turn, zoom = -so3_log(R), 0.0
    first, second = matches.first_px, matches.second_px
    H_now, J, sigma, weights = np.eye(3), np.zeros((0, 2, 4)), 1.0, np.ones(len(first))
    residuals = np.zeros((len(first), 2))
    for step_number in range(40):
        H_now = _make_homography(K, turn, zoom, ratio)
        residuals = _project(first, H_now) - second
        lengths = np.linalg.norm(residuals, axis=1)
        sigma = max(1.4826 * float(np.median(lengths)) / 1.2, 0.01)
        weights = 1 / (1 + (lengths / (2 * sigma)) ** 2)
        J = _find_derivatives(first, K, turn, zoom, ratio)
        A = np.einsum("nip,n,niq->pq", J, weights, J)
        step = -np.linalg.solve(A + 1e-12 * np.trace(A) * np.eye(4), np.einsum("nip,n,ni->p", J, weights, residuals))
        turn = so3_log(so3_exp(turn) @ so3_exp(step[:3]))
        zoom += float(step[3])
        if step_number > 4 and np.abs(step).max() < 1e-9:
            break
    near = np.linalg.norm(residuals, axis=1) < max_px
    if near.sum() < max(MIN_BACKGROUND_MATCHES, MIN_NEAR_SHARE * len(first)):
        return None
    A = np.einsum("nip,n,niq->pq", J, weights, J)
    inverse = np.linalg.inv(A)
    span = np.ptp(first, axis=0) + 1e-9
    place = ((first - first.min(0)) / span * (np.array(VIEW_CELLS[::-1]) - 1e-6)).astype(int)
    cell = place[:, 1] * VIEW_CELLS[1] + place[:, 0]
    scores = np.zeros((VIEW_CELLS[0] * VIEW_CELLS[1], 4))
    np.add.at(scores, cell, np.einsum("nip,n,ni->np", J, weights, residuals))
    cells = len(np.unique(cell))
    covariance = inverse @ scores.T @ scores @ inverse * cells / max(cells - 4, 1)
    covariance += inverse * shared_px**2 * len(first) / 10  # as if a tenth of the cells had this error alone
    return turn, zoom, covariance, int(near.sum())


def _find_derivatives(points: Array, K: Array, turn: Array, zoom: float, ratio: float) -> Array:
    """Return derivatives (N, 2, 4) of projected points by a further turn of the camera and by the logarithm of zoom."""
    rays = pixel_rays(points, K)
    R = so3_exp(turn)
    turned = rays @ R
    focal = np.exp(zoom) * ratio * np.array([K[0, 0], K[1, 1]])
    x, y, z = turned.T
    zero = np.zeros_like(z)
    to_pixel = np.stack([
        np.column_stack([focal[0] / z, zero, -focal[0] * x / z**2]),
        np.column_stack([zero, focal[1] / z, -focal[1] * y / z**2]),
    ], axis=1)  # fmt: skip
    by_turn = to_pixel @ hat(turned)
    by_zoom = np.column_stack([focal[0] * x / z, focal[1] * y / z])
    return np.concatenate([by_turn, by_zoom[:, :, None]], axis=2)


def _measure_shift(
    K: Array, turn: Array, zoom: float, covariance: Array, size: tuple[int, int], to_frames: float
) -> Measured:
    """Return the root mean square displacement over the image, pixels of the frames, and its deviation."""
    x, y = np.meshgrid(np.linspace(0, size[0] - 1, 8), np.linspace(0, size[1] - 1, 6))
    grid = np.column_stack([x.ravel(), y.ravel()])
    moved = _project(grid, _make_homography(K, turn, zoom, 1.0)) - grid
    rms = float(np.sqrt((moved**2).sum(1).mean()))
    J = _find_derivatives(grid, K, turn, zoom, 1.0)
    noise = float(np.einsum("nip,pq,niq->n", J, covariance, J).mean())
    slope = np.einsum("ni,nip->p", moved, J) / max(rms * len(grid), 1e-12)
    deviation = max(float(np.sqrt(max(slope @ covariance @ slope, 0.0))), 0.5 * float(np.sqrt(noise)))
    return Measured(to_frames * rms, to_frames * deviation)


def _compare_pixels(first: Background, second: Background, H: Array, unit: float) -> tuple[float, float, float]:
    """Return sharpness, brightness in stops, and the covered share of the second image over the first."""
    height, width = first.image.shape[:2]
    before, after = gray(first.image), gray(second.image)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    aligned = np.asarray(cv2.warpPerspective(after, H, (width, height), flags=flags), np.float32)
    inside = cv2.warpPerspective(np.full(after.shape, 255, np.uint8), H, (width, height), flags=flags) > 250
    moved = cv2.warpPerspective(second.moving.astype(np.uint8), H, (width, height), flags=flags) > 0
    still = inside & ~first.moving & ~moved
    if still.mean() < 0.05:
        return 1.0, 0.0, 0.0
    stops = float(np.log2((np.median(aligned[still]) + 1) / (np.median(before[still]) + 1)))
    fine, coarse = [], []
    details = []
    for image in (before.astype(np.float32), aligned):
        levels = [
            cv2.GaussianBlur(image, (0, 0), unit * width_px) for width_px in (FINE_PX, 2 * FINE_PX, COARSE_PX, 12)
        ]
        fine.append(float(np.abs(levels[0] - levels[1])[still].mean()))
        coarse.append(float(np.abs(levels[2] - levels[3])[still].mean()))
        details.append(levels[0] - levels[3])
    sharpness = (fine[1] / max(coarse[1], 1e-6)) / max(fine[0] / max(coarse[0], 1e-6), 1e-6)
    directions = find_edge_directions(before), find_edge_directions(np.asarray(aligned.clip(0, 255), np.uint8))
    compared, is_other = 0, np.zeros(VIEW_CELLS, np.uint8)
    rows, columns = (
        np.linspace(0, side, count + 1).astype(int) for side, count in ((height, VIEW_CELLS[0]), (width, VIEW_CELLS[1]))
    )
    for row, (top, bottom) in enumerate(pairwise(rows)):
        for column, (left, right) in enumerate(pairwise(columns)):
            used = still[top:bottom, left:right]
            if used.mean() < 0.5:
                continue
            one, two = (detail[top:bottom, left:right][used] for detail in details)
            if one.std() < MIN_CELL_TEXTURE:
                continue
            compared += 1
            edges = [direction[top:bottom, left:right][used] for direction in directions]
            is_other[row, column] = (
                _correlate(one - one.mean(), two - two.mean()) < MIN_CELL_CORRELATION
                and _correlate(*edges) < MIN_CELL_EDGES
            )
    count, _, parts, _ = cv2.connectedComponentsWithStats(is_other, connectivity=4)
    covered = int(parts[1:, cv2.CC_STAT_AREA].max()) if count > 1 else 0
    return float(sharpness), stops, covered / compared if compared >= 10 else 0.0


def _correlate(one: NDArray[np.float32], two: NDArray[np.float32]) -> float:
    """Return the correlation of two arrays of one shape whose mean is 0; 0 if one is 0."""
    return float((one * two).sum() / max(float(np.sqrt((one * one).sum() * (two * two).sum())), 1e-9))


def measure_texture(background: Background) -> float:
    """Return the mean size of the details of an image, gray levels: near 0 if the lens is covered."""
    image = gray(background.image).astype(np.float32)
    return float(np.abs(image - cv2.GaussianBlur(image, (0, 0), 4.0)).mean())


def draw_change(first: Background, second: Background, H: Array | None) -> Image:
    """Return a picture (H, 2 W, 3) of both: left as they are, right after the second is turned back.

    The former image is red, and the new one is green and blue, so that what stayed is gray.
    """
    height, width = first.image.shape[:2]
    before = gray(first.image)
    now = np.asarray(cv2.resize(gray(second.image), (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    halves = [np.dstack([before, now, now])]
    if H is not None:
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        turned = np.asarray(cv2.warpPerspective(gray(second.image), H, (width, height), flags=flags), np.uint8)
        halves.append(np.dstack([before, turned, turned]))
    return np.asarray(np.hstack(halves), np.uint8)
