"""Draw the image of a finding."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.checks.finding import Finding
from stadia.checks.preflight.recording_survey import RecordingSurvey
from stadia.checks.preflight.two_view_geometry import Array, gray, pixel_rays, plane_sweep
from stadia.core.recording import LEFT, RIGHT, Recording
from stadia.training.loop.loggers import compose_image_sheet

log = logging.getLogger(__name__)

Image = NDArray[np.uint8]
Tiles = dict[str, Image]  # images by their labels
TILE_WIDTH = 640
MAX_MARKS = 15
GREEN = (60, 220, 90)
RED = (255, 70, 60)
DIFFERENCE_TOP = 64  # difference in gray levels that is drawn brightest


def draw_finding(finding: Finding, survey: RecordingSurvey) -> bytes:
    """Return a PNG for a finding of this recording; empty if numbers suffice."""
    return _encode_png(DRAWN[finding.code](finding, survey)) if finding.code in DRAWN else b""


def draw_frames(frames: Mapping[str, tuple[Recording, int]]) -> bytes:
    """Return a PNG of frames of several splits."""
    return _encode_png(
        {
            f"{split}, frame {index}": _resize_to_tile(recording.image(index))
            for split, (recording, index) in frames.items()
        }
    )


def draw_ignored_regions(recordings: Sequence[Recording]) -> list[tuple[float, bytes]]:
    """Return for each different ignored region its share of the image and a PNG that shows it in red."""
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
    image = cv2.cvtColor(image, cv2.COLOR_GRAY2RGB) if image.ndim == 2 else image
    size = (width, max(1, round(image.shape[0] * width / image.shape[1])))
    method = cv2.INTER_AREA if width < image.shape[1] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, size, interpolation=method), np.uint8)


def _place_side_by_side(*images: NDArray[np.uint8]) -> Image:
    return np.hstack([_resize_to_tile(image, TILE_WIDTH * 3 // 4) for image in images])


def _heat_map(share: NDArray[np.floating]) -> Image:
    levels = (np.clip(share, 0, 1) * 255).astype(np.uint8)
    return np.asarray(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO)[..., ::-1], np.uint8)


def _draw_difference(first: Image, second: Image) -> Image:
    first, second = (gray(image) if image.ndim == 3 else image for image in (first, second))
    return _heat_map(cv2.absdiff(first, second).astype(np.float32) / DIFFERENCE_TOP)


def _draw_two_images(finding: Finding, survey: RecordingSurvey) -> Tiles:
    evidence = finding.evidence
    if finding.code in ("D04", "E12"):
        index = evidence["frame"][0] if finding.code == "D04" else survey.anchors[len(survey.anchors) // 2]
        images = {side: survey.image(index, side) for side in (LEFT, RIGHT)}
    else:
        pairs = evidence.get("pairs", {"first": evidence.get("same as"), "second": evidence.get("frame")})
        images = {f"frame {column[0]}": survey.image(column[0]) for column in (pairs["first"], pairs["second"])}
    first, second = images.values()
    if first.shape == second.shape:
        images["difference"] = _draw_difference(first, second)
    return {name: _resize_to_tile(image) for name, image in images.items()}


def _draw_ground_truth(finding: Finding, survey: RecordingSurvey) -> Tiles:
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
        inverse = cv2.dilate(inverse, np.ones((3, 3)))  # single LiDAR returns would vanish
    extent = f"{depth[known].min():.3g} to {depth[known].max():.3g} m (bright: small)" if known.any() else "empty"
    top = float(np.percentile(inverse[inverse > 0], 95)) if known.any() else 1.0
    return {
        f"frame {index}": _resize_to_tile(survey.image(index)),
        f"its ground truth: {extent}": _resize_to_tile(_heat_map(inverse / top)),
    }


def _draw_sides(finding: Finding, survey: RecordingSurvey) -> Tiles:
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


def _draw_epipolar_lines(finding: Finding, survey: RecordingSurvey) -> Tiles:
    pair = max(survey.pairs, key=lambda p: len(p.matches))
    image = survey.image(pair.index, RIGHT).copy()
    T, K, K_right = survey.T_right_left, survey.K(pair.index), survey.K(pair.index, RIGHT)
    for row in np.linspace(0, len(pair.matches) - 1, MAX_MARKS).astype(int) if len(pair.matches) else ():
        direction = pixel_rays(pair.matches.first_px[row : row + 1], K)[0]
        ends = [K_right @ (T[:3, :3] @ direction * z + T[:3, 3]) for z in (1e-3, 1e6)]
        if all(abs(end[2]) > 1e-9 for end in ends):
            _draw_line(image, ends[0][:2] / ends[0][2], ends[1][:2] / ends[1][2], RED)
        _draw_dot(image, pair.matches.second_px[row], GREEN)
    return {"right image; green: matches of the left one, red: epipolar lines of the rig": _resize_to_tile(image)}


def _draw_line(image: Image, first: Array, second: Array, color: tuple[int, int, int]) -> None:
    """Draw a line that may end far outside the image."""
    start, end = (np.clip(point, -30_000, 30_000).astype(int).tolist() for point in (first, second))
    cv2.line(image, start, end, color, max(1, image.shape[1] // 500), cv2.LINE_AA)


def _draw_dot(image: Image, at: Array, color: tuple[int, int, int]) -> None:
    cv2.circle(image, (round(at[0]), round(at[1])), max(2, image.shape[1] // 250), color, -1, cv2.LINE_AA)


DRAWN: dict[str, Callable[[Finding, RecordingSurvey], Tiles]] = {
    "D02": _draw_two_images,
    "D03": _draw_two_images,
    "D04": _draw_two_images,
    "D05": _draw_ground_truth,
    "D06": _draw_ground_truth,
    "D07": _draw_ground_truth,
    "D08": _draw_ground_truth,
    "D18": _draw_two_images,
    "E01": _draw_sides,
    "E02": _draw_sides,
    "E04": _draw_epipolar_lines,
    "E10": _draw_epipolar_lines,
    "E12": _draw_two_images,
}
