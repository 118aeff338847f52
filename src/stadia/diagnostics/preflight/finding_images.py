"""Draw the image that shows what a finding is about."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.recording import LEFT, RIGHT, Recording
from stadia.diagnostics.finding import Finding
from stadia.diagnostics.preflight.recording_survey import RecordingSurvey
from stadia.diagnostics.preflight.two_view_geometry import Array, gray, pixel_rays, plane_sweep, triangulate
from stadia.training.loggers import compose_image_sheet

log = logging.getLogger(__name__)

Image = NDArray[np.uint8]
Tiles = dict[str, Image]  # images by their labels; empty where there is nothing to draw
TILE_WIDTH = 640
MAX_MARKS = 60
GREEN = (60, 220, 90)
RED = (255, 70, 60)
DIFFERENCE_TOP = 64  # gray levels of difference that are drawn brightest


def draw_finding(finding: Finding, survey: RecordingSurvey) -> bytes:
    """Return a PNG of what a finding of this recording is about; empty where numbers suffice."""
    return _encode_png(DRAWN[finding.code](finding, survey)) if finding.code in DRAWN else b""


def draw_frames(frames: Mapping[str, tuple[Recording, int]]) -> bytes:
    """Return a PNG of frames of several splits, by the name of the split."""
    return _encode_png(
        {
            f"{split}, frame {index}": _resize_to_tile(recording.image(index))
            for split, (recording, index) in frames.items()
        }
    )


def draw_ignored_regions(recordings: Sequence[Recording]) -> list[tuple[float, bytes]]:
    """Return for each different ignored region its share of the image and a PNG, in which it is red."""
    drawn = dict[bytes, tuple[float, bytes]]()
    for recording in recordings:
        region = recording.ignored() if len(recording) else None
        if region is None or not region.any() or (key := np.packbits(region).tobytes()) in drawn:
            continue
        image = recording.image(len(recording) // 2).copy()
        image[region] = (0.4 * image[region] + 0.6 * np.array(RED)).astype(np.uint8)
        tile = {f"{recording.name}: {region.mean():.1%} ignored": _resize_to_tile(image)}
        drawn[key] = float(region.mean()), _encode_png(tile)
    return list(drawn.values())


def add_image(finding: Finding, draw: Callable[[], bytes]) -> Finding:
    """Add the image to a finding; a drawing that fails must not lose the finding."""
    try:
        return replace(finding, image=draw())
    except Exception as error:
        log.warning("%s has no image (%s: %s)", finding.code, type(error).__name__, error)
        return finding


def _encode_png(tiles: Tiles) -> bytes:
    if not tiles:
        return b""
    sheet = compose_image_sheet({label.encode("ascii", "replace").decode(): tile for label, tile in tiles.items()})
    return cv2.imencode(".png", sheet[..., ::-1])[1].tobytes()


def _resize_to_tile(image: NDArray[np.uint8], width: int = TILE_WIDTH) -> Image:
    """Resize gray or RGB to RGB that is `width` pixels wide."""
    image = cv2.cvtColor(image, cv2.COLOR_GRAY2RGB) if image.ndim == 2 else image
    size = (width, max(1, round(image.shape[0] * width / image.shape[1])))
    method = cv2.INTER_AREA if width < image.shape[1] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, size, interpolation=method), np.uint8)


def _place_side_by_side(*images: NDArray[np.uint8]) -> Image:
    """Put images of one size side by side."""
    return np.hstack([_resize_to_tile(image, TILE_WIDTH * 3 // 4) for image in images])


def _heat_map(share: NDArray[np.floating]) -> Image:
    """Map (H, W) from 0, dark, to 1, bright."""
    levels = (np.clip(share, 0, 1) * 255).astype(np.uint8)
    return np.asarray(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO)[..., ::-1], np.uint8)


def _draw_difference(first: Image, second: Image) -> Image:
    """Map gray level differences to a heat map."""
    first, second = (gray(image) if image.ndim == 3 else image for image in (first, second))
    return _heat_map(cv2.absdiff(first, second).astype(np.float32) / DIFFERENCE_TOP)


def _draw_two_images(finding: Finding, survey: RecordingSurvey) -> Tiles:
    """Show the two images of a finding (frames, or sides of one frame), and their difference."""
    evidence = finding.evidence
    if finding.code == "D04":
        images = {side: survey.image(evidence["frame"][0], side) for side in (LEFT, RIGHT)}
    else:
        pairs = evidence.get("pairs", {"first": evidence.get("same as"), "second": evidence.get("frame")})
        images = {f"frame {column[0]}": survey.image(column[0]) for column in (pairs["first"], pairs["second"])}
    first, second = images.values()
    if first.shape == second.shape:
        images["difference"] = _draw_difference(first, second)
    return {name: _resize_to_tile(image) for name, image in images.items()}


def _draw_ground_truth(finding: Finding, survey: RecordingSurvey) -> Tiles:
    """Show an image and its depth map: at the frame of the finding, else in the middle."""
    named = finding.evidence.get("frame")
    if isinstance(named, list | tuple):
        shares = finding.evidence.get("share_of_pixels_with_depth")
        named = named[int(np.argmin(shares))] if shares else named[len(named) // 2]
    index = survey.anchors[len(survey.anchors) // 2] if named is None else int(named)
    depth = survey.recording.depth_m(index, LEFT)
    if depth is None:
        return {}
    known = np.isfinite(depth) & (depth > 0)
    inverse = np.divide(1, depth, out=np.zeros(depth.shape, np.float32), where=known)
    if 0 < known.mean() < 0.3:
        inverse = cv2.dilate(inverse, np.ones((3, 3)))  # single returns of a LiDAR would vanish in the small image
    extent = f"{depth[known].min():.3g} to {depth[known].max():.3g} m (bright: small)" if known.any() else "none"
    top = float(np.percentile(inverse[inverse > 0], 95)) if known.any() else 1.0
    return {
        f"frame {index}": _resize_to_tile(survey.image(index)),
        f"its ground truth: {extent}": _resize_to_tile(_heat_map(inverse / top)),
    }


def _draw_sizes(finding: Finding, survey: RecordingSurvey) -> Tiles:
    """Show the image inside the outline of the image that K fits, and the principal point."""
    side = finding.evidence["side"]
    index = finding.evidence.get("frame", survey.anchors[0])
    image, camera = survey.image(index, side), survey.recording.camera(index, side)
    filmed = survey.recording.filmed_camera(index, side)
    if (filmed.width, filmed.height) != (camera.width, camera.height):
        image = cv2.resize(image, (filmed.width, filmed.height))
    cx, cy = float(filmed.K[0, 2]), float(filmed.K[1, 2])
    height, width = image.shape[:2]
    outline = finding.evidence.get("size_of_K", (round(max(2 * cx + 1, 1)), round(max(2 * cy + 1, 1))))
    most = max(width, height) * 4
    if not 0 < max(outline) <= most or not 0 < max(cx, cy) <= most:
        return {}
    scale = TILE_WIDTH / max(width, outline[0], cx + 1)
    canvas = np.full((round(max(height, outline[1], cy + 1) * scale), TILE_WIDTH, 3), 60, np.uint8)
    small = cv2.resize(image, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
    canvas[: small.shape[0], : small.shape[1]] = small[: canvas.shape[0], : canvas.shape[1]]
    cv2.rectangle(canvas, (1, 1), (round(outline[0] * scale) - 2, round(outline[1] * scale) - 2), RED, 2)
    cv2.drawMarker(canvas, (round(cx * scale), round(cy * scale)), RED, cv2.MARKER_CROSS, 24, 2)
    label = f"red: the image that K fits ({outline[0]}x{outline[1]}) and its center; this one is {width}x{height}"
    return {label: canvas}


def _draw_sides(finding: Finding, survey: RecordingSurvey) -> Tiles:
    """Show left and right, and the right image warped to the left one with both signs of the baseline."""
    index = survey.anchors[len(survey.anchors) // 2]
    left, right = survey.image(index), survey.image(index, RIGHT)
    if left.shape != right.shape:
        return {}
    sign = -1 if finding.evidence["t_x"] > 0 else 1
    given, inverse = (plane_sweep(gray(left), gray(right), s) for s in (sign, -sign))
    tiles = {"left, right": _place_side_by_side(given.left, given.right)}
    for name, sweep in (("as given", given), ("the other way round", inverse)):
        label = f"{name}: right warped to left, difference (residual {sweep.residual:.3f})"
        tiles[label] = _place_side_by_side(sweep.warped, _draw_difference(sweep.left, sweep.warped))
    return tiles


def _draw_left_and_right(finding: Finding, survey: RecordingSurvey) -> Tiles:
    """Show left and right as they are: mirrored writing shows which one is mirrored."""
    index = survey.anchors[len(survey.anchors) // 2]
    images = {side: survey.image(index, side) for side in (LEFT, RIGHT)}
    return {f"{side}, frame {index}": _resize_to_tile(image) for side, image in images.items()}


def _draw_epipolar_lines(finding: Finding, survey: RecordingSurvey) -> Tiles:
    """Show the right image with matches, and the epipolar lines of the rig."""
    pair = max(survey.pairs, key=lambda p: len(p.matches))
    image = survey.image(pair.index, RIGHT).copy()
    T, K, K_right = survey.T_right_left, survey.K(pair.index), survey.K(pair.index, RIGHT)
    for row in _spread_rows(len(pair.matches), MAX_MARKS // 4):
        direction = pixel_rays(pair.matches.first_px[row : row + 1], K)[0]
        ends = [K_right @ (T[:3, :3] @ direction * z + T[:3, 3]) for z in (1e-3, 1e6)]
        if all(abs(end[2]) > 1e-9 for end in ends):
            _draw_line(image, ends[0][:2] / ends[0][2], ends[1][:2] / ends[1][2], RED)
        _draw_dot(image, pair.matches.second_px[row], GREEN)
    return {"right image; green: matches of the left one, red: epipolar lines of the rig": _resize_to_tile(image)}


def _draw_motions(finding: Finding, survey: RecordingSurvey) -> Tiles:
    """Show where the poses project the points of another frame, and where a measured motion does.

    The motion is that of the finding's source, else the most reliable one.
    """
    lengths = finding.code in ("E03", "E08", "D06")
    kind = {"E03": "by_rig", "D06": "by_depth"}.get(finding.code, "measured")
    motions = [(step, step.T_second_first, getattr(step, kind)) for step in survey.steps]
    usable = [
        (step, T, motion) for step, T, motion in motions if T is not None and motion and (motion.metric or not lengths)
    ]
    if not usable:
        return {}
    step, T, motion = max(usable, key=lambda step_motion: step_motion[2].parallax_px)
    measured = np.eye(4)
    measured[:3, :3], measured[:3, 3] = motion.R, motion.t
    given = T.copy()
    if not lengths:  # the direction alone is in question
        given[:3, 3] *= np.linalg.norm(motion.t) / max(float(np.linalg.norm(T[:3, 3])), 1e-12)
    agreeing = step.matches.select(motion.inliers)
    K_first, K_second = survey.K(step.first), survey.K(step.second)
    z, z_second = triangulate(agreeing.first_px, agreeing.second_px, K_first, K_second, measured)
    ahead = (z > 0) & (z_second > 0)
    points = pixel_rays(agreeing.first_px[ahead], K_first) * z[ahead, None]
    source = "the rig" if motion is step.by_rig else "the ground truth" if motion is step.by_depth else "matches"
    placed = f"frame {step.second}: points of frame {step.first} with depth from {source}, projected with the motion of"
    return {
        f"{placed} {name} (red line ends): {apart:.1f} px from where they were matched (green)": _resize_to_tile(marked)
        for name, T_second_first in (("the poses", given), (source, measured))
        for marked, apart in [
            _draw_projected(survey.image(step.second), points, agreeing.second_px[ahead], T_second_first, K_second)
        ]
    }


def _draw_projected(
    image: Image, points: Array, seen_px: Array, T_second_first: Array, K: Array
) -> tuple[Image, float]:
    """Draw points (green) with a line to where a motion projects them; return also the median distance in pixels."""
    moved = (points @ T_second_first[:3, :3].T + T_second_first[:3, 3]) @ K.T
    ahead = moved[:, 2] > 1e-9
    landed, seen_px = moved[ahead, :2] / moved[ahead, 2:], seen_px[ahead]
    image = image.copy()
    for row in _spread_rows(len(landed), MAX_MARKS):
        _draw_line(image, seen_px[row], landed[row], RED)
        _draw_dot(image, seen_px[row], GREEN)
    return image, float(np.median(np.linalg.norm(landed - seen_px, axis=1))) if len(landed) else float("nan")


def _spread_rows(count: int, most: int) -> list[int]:
    """Return at most `most` of `count` rows, spread evenly."""
    return sorted({int(k) for k in np.linspace(0, count - 1, min(count, most))}) if count else []


def _draw_line(image: Image, first: Array, second: Array, color: tuple[int, int, int]) -> None:
    """Draw a line that may extend far outside the image; its width scales with the image."""
    start, end = (np.clip(point, -30_000, 30_000).astype(int).tolist() for point in (first, second))
    cv2.line(image, start, end, color, max(1, image.shape[1] // 500), cv2.LINE_AA)


def _draw_dot(image: Image, at: Array, color: tuple[int, int, int]) -> None:
    cv2.circle(image, (round(at[0]), round(at[1])), max(2, image.shape[1] // 250), color, -1, cv2.LINE_AA)


DRAWN: dict[str, Callable[[Finding, RecordingSurvey], Tiles]] = {
    "D02": _draw_two_images,
    "D03": _draw_two_images,
    "D04": _draw_two_images,
    "D05": _draw_ground_truth,
    "D06": lambda finding, survey: _draw_motions(finding, survey) or _draw_ground_truth(finding, survey),
    "D07": _draw_ground_truth,
    "D08": _draw_ground_truth,
    "D18": _draw_two_images,
    "K03": _draw_sizes,
    "K04": _draw_sizes,
    "E01": _draw_sides,
    "E02": _draw_sides,
    "E03": _draw_motions,
    "E04": _draw_epipolar_lines,
    "E06": _draw_motions,
    "E07": _draw_motions,
    "E08": _draw_motions,
    "E09": _draw_motions,
    "E10": _draw_epipolar_lines,
    "E11": _draw_motions,
    "E12": _draw_left_and_right,
}
"""Drawing functions by code; a check with a new code adds a line where an image helps."""
