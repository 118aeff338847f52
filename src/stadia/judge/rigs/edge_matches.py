"""Match two images of a fixed camera by the directions of their edges, whatever the light is.

At night a wall is dark and its windows are bright, and features of the day find no partner. The borders between them
stay, with the opposite sign. The direction of an edge, doubled, is the same for both signs.

Source: Fitch et al., Orientation correlation, BMVC 2002, for correlation by directions.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.geometry.image_features import FeatureMatches

Array = NDArray[np.float64]
Gray = NDArray[np.uint8]
Mask = NDArray[np.bool_]

EDGE_LEVELS = 2.0
"""Slope of an edge, gray levels a pixel, that counts half: noise and borders of compressed blocks are weaker."""

MIN_EDGE_SHARE = 0.05
"""Least share of a patch with edges."""


@dataclass(frozen=True, slots=True)
class _Stage:
    """A stage of the search, from small images to the given ones.

    reduction: factor by which images of 640 pixels are reduced.
    patch_px: side of the patches, pixels of the reduced images.
    reach_px: largest displacement from the former stage.
    step_px: distance between patches.
    near_px: distance from the motion of a patch that agrees.
    """

    reduction: float
    patch_px: int
    reach_px: int
    step_px: int
    near_px: float


STAGES = (_Stage(2.5, 48, 28, 12, 3.0), _Stage(1.5, 48, 10, 24, 2.0), _Stage(1.0, 48, 6, 20, 1.5))

MIN_STAGE_MATCHES, MIN_EDGES_AGREEING = 12, 0.3
"""Fewest patches of a stage that agree, and their least share in the last one. Of 700 pairs of views of two
places, one has .26, and the others less.
"""


def find_edge_directions(image: Gray) -> NDArray[np.float32]:
    """Return the directions (H, W, 2) of the edges of an image (H, W): cosine and sine of twice the angle.

    Their length is 1 for a strong edge, and 0 where there is none.
    """
    smooth = cv2.GaussianBlur(image.astype(np.float32), (0, 0), 1.0)
    x, y = (cv2.Sobel(smooth, cv2.CV_32F, *along, ksize=3, scale=0.125) for along in ((1, 0), (0, 1)))
    squared = x * x + y * y
    weight = 1 / (squared + EDGE_LEVELS**2)
    return np.dstack([(x * x - y * y) * weight, 2 * x * y * weight])


def match_edges(first: Gray, second: Gray) -> tuple[FeatureMatches, Array] | None:
    """Return the matches of patches that agree on a motion of the camera, and that motion (3, 3); None without one.

    Patches of things that moved agree on none.

    first, second: (H, W) images of one scale; the motion is from pixels of the first to pixels of the second.
    """
    H, matches = np.eye(3), None
    for stage in STAGES:
        scale = min(640 / max(first.shape) / stage.reduction, 1.0)
        small = [cv2.resize(one, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) for one in (first, second)]
        to_small = np.diag([scale, scale, 1.0])
        to_small[:2, 2] = (scale - 1) / 2
        to_given = np.linalg.inv(to_small)
        matches = _match_patches(small[0], small[1], to_small @ H @ to_given, stage)
        if len(matches) < MIN_STAGE_MATCHES:
            return None
        found, agreeing = _find_motion(matches, stage)
        if found is None or agreeing.sum() < MIN_STAGE_MATCHES:
            return None
        H = to_given @ found @ to_small
    assert matches is not None
    if agreeing.mean() < MIN_EDGES_AGREEING:
        return None
    pixels = [(px + 0.5) / scale - 0.5 for px in (matches.first_px, matches.second_px)]
    return FeatureMatches(matches.first_index, *pixels).select(agreeing), H


def _find_motion(matches: FeatureMatches, stage: _Stage) -> tuple[Array | None, Mask]:
    """Return the motion (3, 3) with which most matches agree, and which do.

    At night few patches of the first stage match, so it has a similarity, which two matches determine.
    """
    first_px, second_px = matches.first_px, matches.second_px
    if stage is STAGES[0]:
        found, inliers = cv2.estimateAffinePartial2D(
            first_px, second_px, method=cv2.RANSAC, ransacReprojThreshold=stage.near_px, maxIters=5000
        )
        found = None if found is None else np.vstack([found, [0.0, 0.0, 1.0]])
    else:
        found, inliers = cv2.findHomography(first_px, second_px, cv2.RANSAC, stage.near_px, maxIters=5000)
    return (None, np.zeros(len(matches), np.bool_)) if found is None else (found, inliers.ravel() > 0)


def _match_patches(first: Gray, second: Gray, H: Array, stage: _Stage) -> FeatureMatches:
    """Return the best place of each patch of the first image near H, with parts of a pixel."""
    height, width = first.shape
    edges, warped = find_edge_directions(first), find_edge_directions(second)
    warped = cv2.warpPerspective(warped, H, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    is_edge = np.abs(edges).max(2) > 0.5
    side, reach = stage.patch_px, stage.reach_px
    places, moved = list[tuple[float, float]](), list[tuple[float, float]]()
    for top in range(reach, height - side - reach + 1, stage.step_px):
        for left in range(reach, width - side - reach + 1, stage.step_px):
            rows, columns = slice(top, top + side), slice(left, left + side)
            if is_edge[rows, columns].mean() < MIN_EDGE_SHARE:
                continue
            around = warped[top - reach : top + side + reach, left - reach : left + side + reach]
            score = cv2.matchTemplate(around, edges[rows, columns], cv2.TM_CCORR_NORMED)
            x, y = cv2.minMaxLoc(score)[3]
            if not (0 < x < 2 * reach and 0 < y < 2 * reach):
                continue
            places.append((left + (side - 1) / 2, top + (side - 1) / 2))
            part = _find_top(score[y, x - 1 : x + 2]), _find_top(score[y - 1 : y + 2, x])
            moved.append((places[-1][0] + x - reach + part[0], places[-1][1] + y - reach + part[1]))
    first_px, in_warped = (np.array(one, np.float64).reshape(-1, 2) for one in (places, moved))
    second_px = cv2.perspectiveTransform(in_warped[:, None], H)[:, 0] if len(in_warped) else in_warped
    return FeatureMatches(np.arange(len(first_px)), first_px, np.asarray(second_px, np.float64))


def _find_top(scores: NDArray[np.float32]) -> float:
    """Return the place of the top of a parabola through scores at -1, 0 and 1."""
    before, middle, after = scores.tolist()
    bend = before - 2 * middle + after
    return 0.0 if bend >= 0 else float(np.clip((before - after) / (2 * bend), -0.5, 0.5))
